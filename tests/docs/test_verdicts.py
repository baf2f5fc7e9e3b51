"""docs/verdicts.md: every verdict and flag, each with an example that the judge agrees with."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, anchors, blocks
from tests.docs.timelines import Example, read, told
from tracker.model.spec import load_spec
from tracker.model.verdict import Flag, Verdict

PAGE = ROOT / "docs/verdicts.md"
SPEC = load_spec(blocks(PAGE, "yaml")[0])
EXAMPLES = [read(block) for block in blocks(PAGE, "timeline")]
APART = {Flag.reordered}
"""It needs the neighbours of a message, so one timeline cannot show it."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: "+".join([e.verdict, *sorted(e.flags)]))
def test_an_example_is_judged_as_the_page_says(example: Example) -> None:
    """Verdict and flags, and where the page says what is missing and who holds a copy, these too."""
    said = told(SPEC, example.judged(SPEC))
    assert (said["verdict"], said["flags"]) == (example.verdict, example.flags)
    if example.missing:
        assert said["missing"] == example.missing
    if example.held_by:
        assert said["held_by"] == example.held_by


@pytest.mark.parametrize("word", [*Verdict, *(flag for flag in Flag if flag not in APART)])
def test_every_verdict_and_flag_has_an_example(word: Verdict | Flag) -> None:
    """Somebody who meets one finds a message that has it."""
    assert any(word.value in (example.verdict, *example.flags) for example in EXAMPLES)


@pytest.mark.parametrize("word", [*Verdict, *Flag])
def test_every_verdict_and_flag_has_a_part_of_its_own(word: Verdict | Flag) -> None:
    """Under its name, so that other pages can lead there."""
    assert word.value in anchors(PAGE)


def test_what_is_missing_is_told_where_something_is() -> None:
    """An example of a message that is not through says what it lacks."""
    whole = {Verdict.delivered, Verdict.late, Verdict.divergent}
    assert [e.verdict for e in EXAMPLES if not e.missing and e.verdict not in whole] == []
