"""The command that tries mutants, on a handful of them."""

from __future__ import annotations

import json

import pytest

from tests.mutation.__main__ import main


@pytest.mark.slow
def test_faults_in_a_query_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of one small query: each is tried, and what is said of them is one line of JSON."""
    assert main(["--target", "sql", "--only", "queries/unclear.sql", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] == "sql"
    assert said["mutants"] >= 2
    assert said["killed"] + len(said["survivors"]) == said["mutants"]
    assert said["unexplained"] == 0


@pytest.mark.long
def test_faults_in_the_judge_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of one small function, by a run of mutmut in a copy of the tree."""
    assert main(["--target", "judge", "--only", "range_over", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["killed"] == said["mutants"] > 10
