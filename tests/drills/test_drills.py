"""The drills as tests: found is the truth, by id; also when the collectors are killed in mid-drill."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.drills import truth
from tests.drills.queue_purged import PURGED
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
    "offsets_given_again",
    "region_lost",
    "redis_restarted",
    "stream_overflown",
    "activemq_purged",
]


def drilled(folder: Path, name: str, kill: bool) -> Result:
    """What became of a drill: found was the truth, and there was something to find."""
    drill: Callable[[Path, bool], Result] = import_module(f"tests.drills.{name}").drill
    try:
        result = drill(folder, kill)
    except Missing as error:
        missing(name, str(error))
    print(json.dumps(result.said(folder)))
    assert result.good
    assert result.truth
    return result


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("name", DRILLS)
def test_found_is_the_truth(tmp_path: Path, name: str, kill: bool) -> None:
    """Whether the collectors were killed or not."""
    drilled(tmp_path, name, kill)


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
def test_what_was_purged_comes_back(tmp_path: Path, kill: bool) -> None:
    """All of it, each once, and nothing else."""
    more = drilled(tmp_path, "queue_purged", kill).more
    assert more["replay"]["states"] == {"recovered": PURGED}
    assert (more["acked_again"], more["acked_twice"]) == (PURGED, 0)


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
def test_what_a_lost_region_took_comes_back_from_outbox_and_archive(tmp_path: Path, kill: bool) -> None:
    """Each once, and acked in the other region; what neither has is what stays open, by name."""
    result = drilled(tmp_path, "region_outage", kill)
    more = result.more
    assert more["replay"]["states"] == {"recovered": more["recovered"]}
    assert more["recovered"] == len(set(result.truth)) - more["rpo"]
    assert more["called_lost"] == more["only_relayed"]
    assert more["replay"]["sources"].keys() == {"log: checkout", "snapshot: kafka-eu"}
    assert more["rpo"] == more["rpo_named"] == more["rpo_verdicts"]["lost"] == more["replay"]["refused"]["no_copy"] > 0
    assert (more["rpo_false"], more["sent_twice"], more["unacked"]) == (0, 0, 0)


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
def test_a_corrupted_replica_is_mended_from_the_healthy_one(tmp_path: Path, kill: bool) -> None:
    """And not from itself."""
    result = drilled(tmp_path, "replica_corrupted", kill)
    more = result.more
    assert more["kinds"] == ["kafka-us/divergent"]
    assert (more["wrong_source"]["checked"] > 0, more["wrong_source"]["right"]) == (True, 0)
    assert more["replay"]["states"] == {"recovered": len(set(result.truth))}
    assert more["still_different"] == 0
    assert more["verdicts_at_the_end"].keys() <= {"delivered", "late"}


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
def test_dead_letters_are_acked_once_each_after_the_mend(tmp_path: Path, kill: bool) -> None:
    """And what stays poison is parked, with the reason, and named."""
    result = drilled(tmp_path, "consumer_poisoned", kill)
    more, dead = result.more, len(set(result.truth))
    assert more["kinds"] == {"dead_lettered": dead}
    assert more["replay"]["states"] == {"recovered": more["acked_again"], "parked": more["poison_named"]}
    assert more["acked_again"] + more["poison_named"] == dead
    assert (more["acked_otherwise"], more["poison_false"]) == (0, 0)
    assert more["never_acked"] == more["poison_named"] > 0
    assert any("no attempt is left" in error for error in more["replay"]["errors"])


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
    foreign = {"nats", "pika", "psycopg", "confluent_kafka", "pyarrow", "redis", "stomp"}
    ours = {"__future__", "asyncio", "io", "queue", "struct", "pathlib"}
    assert {name.partition(".")[0] for name in names} == ours | foreign


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
