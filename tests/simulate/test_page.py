"""docs/simulate.md: its example is run, and it leaves nothing out."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import yaml

from tests.docs.pages import ROOT, blocks
from tracker.cli.trial import here
from tracker.simulate.run import run
from tracker.simulate.scenario import Kind, Scenario

PAGE = ROOT / "docs/simulate.md"
TEXT = PAGE.read_text("utf-8")


@pytest.mark.slow
def test_the_example_does_what_its_words_say() -> None:
    """A consumer forgets some messages, and is slow with others; and the service finds both."""
    [example] = blocks(PAGE, "yaml")
    with here(None) as service:
        score = run(service, Scenario.model_validate(yaml.safe_load(example)), seed=1)
    assert score.perfect
    assert {name for name, tally in score.tallies.items() if tally.truth} == {"unacknowledged", "late", "delivered"}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_fault_is_on_the_page(kind: str) -> None:
    """With what happens, and what it stands for."""
    assert re.search(rf"^\| `{kind}` \| .+ \| .+ \|$", TEXT, re.M)


@pytest.mark.parametrize("key", Scenario.model_fields)
def test_every_key_of_a_scenario_is_on_the_page(key: str) -> None:
    """Somebody who writes one need not read the code."""
    assert re.search(rf"^\|.*`{key}`.*\|$", TEXT, re.M)
