"""The page about anomalies: its examples are run, its tables are the code's."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from tests.docs.pages import ROOT
from tracker.anomalies.episodes import SUPERSEDED, UNWATCHED, USUAL
from tracker.anomalies.signals import BASELINES, FAR, NAMES, SIGNALS, STAYS, WIDER, WINDOWS

PAGE: Path = ROOT / "docs" / "anomalies.md"
TEXT = PAGE.read_text("utf-8")


def test_the_examples_are_true() -> None:
    """What the page says that is found, is found."""
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted == 8
    assert found.failed == 0


def test_every_signal_is_explained() -> None:
    """And no other."""
    table = TEXT.partition("## What is looked at")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(NAMES)


def test_its_numbers_are_the_codes() -> None:
    """Distances, windows, and what the lack of a season costs."""
    by_name = {signal.name: signal for signal in SIGNALS}
    volume, loss = by_name["volume"], by_name["loss"]
    assert f"{1 - volume.drop:.0%} less or {volume.ratio - 1:.0%} more".replace("%", " %") in TEXT
    assert f"{loss.ratio - 1:.0%} more, and {loss.least * 100:g} percentage points".replace("0%", "0 %") in TEXT
    assert f"w = {', '.join(map(str, WINDOWS))} minutes" in TEXT
    assert f"at a distance\nof {FAR:g} " in TEXT
    assert f"that found it has {STAYS:g} and half of that" in TEXT
    for period, name in BASELINES.items():
        row = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{name}`" in line)
        assert row.split("|")[3].strip().startswith(f"{WIDER[period]:g}")
    assert all(f"`{why}`" in TEXT for why in (USUAL, UNWATCHED, SUPERSEDED))
