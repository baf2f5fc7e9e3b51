"""docs/accuracy.md: the published table is of the scenarios that ship, and a perfect one."""

import re
from pathlib import Path

from tracker.simulate.scenario import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")


def test_every_scenario_is_on_the_page() -> None:
    """All that the command of the page runs; there are at least 25."""
    every = [load(path) for path in sorted((ROOT / "tests" / "scenarios").glob("*.yaml"))]
    named = re.findall(r"^\| \*\*([a-z0-9-]+)\*\*:", PAGE, re.MULTILINE)
    assert len(every) >= 25
    assert named == [one.name for one in every]
    assert "--most" not in PAGE


def test_what_is_published_is_whole() -> None:
    """Every verdict and flag has its true cases, and nothing was wrong: else the page says so, and this fails."""
    rows = re.findall(r"^\| ([a-z_]+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 18, "ten verdicts, seven flags, and findings"
    assert all(int(true) >= 50 and true == found and ratios == ["1.0000"] * 2 for _, true, found, *ratios in rows)


def test_most_scenarios_are_hardly_blind() -> None:
    """At least twenty of them have at most one blind message in twenty."""
    shares = [float(share) for share in re.findall(r"\| ([\d.]+) % \|", PAGE)]
    assert sum(share <= 5 for share in shares) >= 20


def test_files_are_named_as_their_scenarios() -> None:
    """So that a row of the page leads to its file."""
    assert all(load(path).name == path.stem for path in (ROOT / "tests" / "scenarios").glob("*.yaml"))


def test_the_command_is_the_one_that_wrote_the_page() -> None:
    """Its seed is that of every row."""
    [said] = re.findall(r"--scenario tests/scenarios --seed (\d+) --markdown", PAGE)
    assert set(re.findall(r"^\| \*\*[a-z0-9-]+\*\*:.*?\| (\d+) \|", PAGE, re.MULTILINE)) == {said}
