"""The page about objectives: its examples are run, its spec is one."""

from __future__ import annotations

import doctest
from pathlib import Path

from tests.docs.pages import ROOT, blocks
from tracker.api.routes.slos import named
from tracker.model.spec import load_spec
from tracker.slo.burn import PAIRS

PAGE: Path = ROOT / "docs" / "slo.md"


def test_the_examples_are_true() -> None:
    """What the page says that a formula gives, it gives."""
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted == 7
    assert found.failed == 0


def test_the_spec_can_be_put() -> None:
    """Every objective that the page's table explains is in its example, and the other way round."""
    [text] = blocks(PAGE, "yaml")
    names = {name.partition("_")[0] for name in named(load_spec(text))} | {"recovery"}
    rows = {line.split("`")[1] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")}
    assert names == rows - {"delivered", "late", "blind", "in_flight"}


def test_the_table_of_windows_is_the_codes() -> None:
    """Severity, windows and factors."""
    rows = [
        line.split("|")[1:5] for line in PAGE.read_text("utf-8").splitlines() if line.startswith(("| page", "| ticket"))
    ]
    said = [[cell.strip() for cell in row] for row in rows]
    hours = {3600: "1h", 300: "5m", 6 * 3600: "6h", 1800: "30m", 86_400: "1d", 7200: "2h", 3 * 86_400: "3d"}
    assert said == [[p.severity, hours[p.long], hours[p.short], f"{p.rate:g}"] for p in PAIRS]
