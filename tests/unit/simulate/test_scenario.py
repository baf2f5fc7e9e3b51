"""Scenario files: what they say, and how a mistake in one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.simulate.worlds import scenario, world
from tracker.model.errors import Invalid
from tracker.simulate.scenario import load, microseconds
from tracker.simulate.world import World

FOLDER = Path(__file__).parents[2] / "scenarios"


@pytest.mark.parametrize(
    ("text", "us"),
    [("250ms", 250_000), ("1.5s", 1_500_000), ("2m", 120_000_000), ("7d", 604_800_000_000), (3, 3_000_000)],
)
def test_a_duration_has_a_unit(text: Any, us: int) -> None:
    """ms, s, m, h, d; a bare number is seconds."""
    assert microseconds(text) == us


@pytest.mark.parametrize("text", ["soon", "5", "5 s", "1w", "", True])
def test_what_is_no_duration_says_how_to_write_one(text: Any) -> None:
    """The message names what was written and what may be."""
    with pytest.raises(ValueError, match="write 250ms"):
        microseconds(text)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in sorted(FOLDER.glob("*.yaml"))])
def test_every_scenario_that_ships_can_be_read(path: Path) -> None:
    """Its name is that of its file, it says what happens, and no fault names a place that the flow lacks."""
    read = load(path)
    assert read.name == path.stem
    assert read.about.strip()
    small = read.model_copy(update={"messages": 5})
    assert World(small, 1).count == 5


def test_there_are_at_least_twenty_five() -> None:
    """Each fault alone, and combinations."""
    assert len(list(FOLDER.glob("*.yaml"))) >= 25


def test_a_key_that_does_not_exist_is_named_with_its_file(tmp_path: Path) -> None:
    """Somebody who writes `faults: [{knid: drop}]` is told where."""
    path = tmp_path / "typo.yaml"
    path.write_text(
        "name: typo\nabout: x\nflow: {}\nmessages: 1\nover: 1s\nuntil: 1m\nfaults: [{kind: drop, shaer: 0.1}]\n"
    )
    with pytest.raises(Invalid, match=r"typo\.yaml: faults\.0\.shaer: "):
        load(path)


def test_a_file_that_is_missing_or_no_yaml_is_told(tmp_path: Path) -> None:
    """Both are mistakes of whoever asks, not of ours."""
    with pytest.raises(Invalid, match="there is no scenario"):
        load(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(Invalid, match=r"bad\.yaml is no YAML"):
        load(tmp_path / "bad.yaml")


def test_a_fault_at_a_place_that_the_flow_lacks_names_those_it_has() -> None:
    """A misspelt hop must not be a fault that hits nobody."""
    with pytest.raises(Invalid, match=r"'biling'.*billing:ack"):
        world({"kind": "drop", "place": "biling"})


def test_a_share_is_a_share() -> None:
    """Neither nobody nor more than everybody."""
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share"):
            scenario({"kind": "drop", "place": "billing", "share": share})
