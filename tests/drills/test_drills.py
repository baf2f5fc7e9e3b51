"""The drills as tests: found is the truth, by id; also when the collectors are killed in mid-drill."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.drills import truth
from tests.drills.result import Result
from tests.drills.scene import Missing
from tests.servers.needed import missing

DRILLS = [
    "outbox_relay",
    "binding_removed",
    "node_killed",
    "queue_overflown",
    "offsets_reset",
    "retention",
    "unclean_election",
    "region_lost",
]


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("name", DRILLS)
def test_found_is_the_truth(tmp_path: Path, name: str, kill: bool) -> None:
    """And there is something to find."""
    drill: Callable[[Path, bool], Result] = import_module(f"tests.drills.{name}").drill
    try:
        result = drill(tmp_path, kill)
    except Missing as error:
        missing(name, str(error))
    print(json.dumps(result.said(tmp_path)))
    assert result.good
    assert result.truth


@pytest.mark.brokers
@pytest.mark.long
def test_what_was_purged_comes_back(tmp_path: Path) -> None:
    """All of it, each once, and nothing else."""
    from tests.drills.queue_purged import PURGED, drill

    try:
        result = drill(tmp_path, False)
    except Missing as error:
        missing("queue_purged", str(error))
    print(json.dumps(result.said(tmp_path)))
    assert result.good
    assert len(result.found) == PURGED
    assert result.more["replay"]["states"] == {"recovered": PURGED}
    assert (result.more["acked_again"], result.more["acked_twice"]) == (PURGED, 0)


@pytest.mark.long
def test_one_person_is_woken_once(tmp_path: Path) -> None:
    """By the real chain, within 90 s, with an owner, a runbook that is there, and an end."""
    from tests.drills.paged import drill, good

    try:
        said = drill(tmp_path, clean_s=60, loss_s=60)
    except Missing as error:
        missing("paged", str(error))
    print(json.dumps(said))
    assert good(said)


def test_the_truth_is_nobodys_opinion() -> None:
    """What reads it imports nothing of ours."""
    tree = ast.parse(Path(truth.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {"__future__", "pika", "psycopg", "confluent_kafka"}


@pytest.mark.parametrize(("found", "blind", "good"), [
    (["a", "b"], [], True), (["a"], ["b"], True), (["a"], [], False), (["a", "b", "c"], [], False),
])  # fmt: skip
def test_what_makes_a_drill_good(tmp_path: Path, found: list[str], blind: list[str], good: bool) -> None:
    """Each lost id is named, or said to be unknown, and no other is named; the ids are in the files."""
    result = Result("one", ["a", "b"], found, [0.5, 1.5], blind)
    said = result.said(tmp_path)
    assert result.good is good
    assert Path(said["truth_file"]).read_text() == "a\nb\n"
    assert Path(said["found_file"]).read_text().split() == found
    assert (said["lost_truth"], said["detect_p99_s"]) == (2, 1.5)
