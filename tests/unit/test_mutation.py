"""The mutation tests themselves: which faults are made, and what becomes of a survivor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mutation import report
from tests.mutation.report import Explanation, Result, verdict
from tests.mutation.tokens import mutants
from tests.mutation.tree import ROOT

SQL = """-- What it answers.
SELECT if(bit < 64, a, b), max(at) FROM {db}.events
WHERE tenant = '' AND flow = {flow:String} AND (hop IN ('a') OR {known}) -- not this AND that
"""
PYTHON = '''
def text(few: list[int]) -> str:
    """Say 1 and 2."""
    if few and len(few) > 3:
        return "a = 'x' AND b >= 2"
    return f"c < {few[0] + 1}"
'''


def faults(tmp_path: Path, name: str, text: str) -> set[str]:
    """What is different in each mutant of a file."""
    (tmp_path / name).write_text(text)
    return {m.after for m in mutants(tmp_path, name)}


def test_faults_in_a_query(tmp_path: Path) -> None:
    """Comparisons, AND, IN, extremes, branches, whole conditions; no comment, no tenant, no placeholder."""
    first = "FROM {db}.events"
    assert faults(tmp_path, "q.sql", SQL) == {
        f"SELECT if(bit <= 64, a, b), max(at) {first}", f"SELECT a, max(at) {first}", f"SELECT b, max(at) {first}",
        f"SELECT if(bit < 64, a, b), min(at) {first}",
        *(f"WHERE tenant = '' AND {rest} -- not this AND that" for rest in (
            "flow != {flow:String} AND (hop IN ('a') OR {known})", "flow = {flow:String} OR (hop IN ('a') OR {known})",
            "flow = {flow:String} AND (hop NOT IN ('a') OR {known})",
            "flow = {flow:String} AND (hop IN ('a') AND {known})",
            "flow = {flow:String} AND true")),
        "WHERE true AND (hop IN ('a') OR {known}) -- not this AND that",
    }  # fmt: skip


def test_faults_in_python_that_writes_sql(tmp_path: Path) -> None:
    """In its code and in its strings, each by its own rules; not in a docstring, nor in what a string computes."""
    assert faults(tmp_path, "m.py", PYTHON) == {
        "if few or len(few) > 3:", "if few and len(few) >= 3:",
        "return \"a != 'x' AND b >= 2\"", "return \"a = 'x' OR b >= 2\"", "return \"a = 'x' AND b > 2\"",
        "return \"true AND b >= 2\"", "return \"a = 'x' AND true\"", 'return f"c <= {few[0] + 1}"',
    }  # fmt: skip


def test_every_mutant_compiles_and_differs() -> None:
    """Of the files that write SQL, too."""
    for file in ("tracker/store/delivered.py", "tracker/store/shape.py"):
        every = mutants(ROOT, file)
        assert len({m.text for m in every}) == len(every) > 20
        for mutant in every:
            compile(mutant.text, mutant.name, "exec")


def test_a_survivor_has_to_be_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody has explained is named; so is an explanation of what is killed, when everything was tried."""
    known = [Explanation("f.py", "a < 1", "a <= 1", "a is even"), Explanation("f.py", "b", "c", "no longer so")]
    monkeypatch.setattr(report, "explanations", lambda: known)
    results = [Result("f.py", "1", "a < 1", "a <= 1", False), Result("f.py", "2", "d", "e", False),
               Result("f.py", "3", "b", "c", True), Result("f.py", "4", "", "", True)]  # fmt: skip
    whole, some = verdict("judge", ["f.py"], results, True), verdict("judge", ["f.py"], results, False)
    assert [r.name for r in whole.unexplained] == ["2"]
    assert (whole.stale, some.stale) == ([known[1]], [])
    said = json.loads(whole.json)
    assert (said["mutants"], said["killed"], said["score"], said["unexplained"]) == (4, 2, 0.5, 1)
    assert [s["why"] for s in said["survivors"]] == ["a is even", ""]


def test_every_explanation_is_of_a_line_that_is_there() -> None:
    """An explanation names a fault that can be made; which of them survive, only the whole run can tell."""
    for one in report.explanations():
        assert (ROOT / one.file).is_file(), one
        text = " ".join((ROOT / one.file).read_text(encoding="utf-8").split())
        assert one.before in text, one
        assert one.before != one.after
        assert one.why.strip()


def test_the_page_gives_the_reasons() -> None:
    """Each reason stands on the page, word for word."""
    page = (ROOT / "docs/mutation.md").read_text(encoding="utf-8")
    for one in report.explanations():
        assert f"`{one.file.rpartition('/')[2]}` | {one.why} |" in page, one
