"""Bad input and faults around a replay: nothing is lost or sent twice untold, every message ends with a reason.
Those of copies, claims and kills are in `test_sender`, `test_follower` and `tests/properties/test_replay.py`."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest

from tests.component.replay.scene import ANN, BOB, POLICY, SPEC, Scene
from tracker.control.errors import Conflict, Unavailable
from tracker.control.messages import LARGEST_BATCH
from tracker.model.carry import Sent
from tracker.replay import Selection

FINAL = {"recovered", "parked", "refused"}


def to_the_end(scene: Scene, replay_id: str, worker=None, rounds: int = 60) -> dict[str, str]:
    """Rounds until the replay is done, while collectors see all; the states of its messages."""
    worker = worker or scene.worker("the last")
    for _ in range(rounds):
        scene.observe()
        scene.rounds(worker, 1, 20)
        if scene.replays.get(replay_id).replay.status == "done":
            break
    return scene.states(replay_id)


@pytest.mark.parametrize(
    "words",
    [
        "Broker: Unknown topic or partition (UNKNOWN_TOPIC_OR_PART)",
        "Broker: Topic authorization failed (TOPIC_AUTHORIZATION_FAILED)",
        "the queue is full: rejected",
    ],
)
def test_a_target_that_is_missing_full_or_forbidden(scene: Scene, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Each message is tried as often as the flow allows and parked with the broker's own words; the circuit holds the
    others meanwhile."""
    scene.lose("a", "b", "c")
    replay_id = scene.start()
    monkeypatch.setattr(scene.port, "publish", lambda copies: [Sent(copy.locator, words) for copy in copies])
    worker = scene.worker()
    for _ in range(20):
        scene.rounds(worker, 1, 1)
    assert words in scene.replays.get(replay_id).replay.detail or scene.states(replay_id)["a"] == "in_doubt"
    states = to_the_end(scene, replay_id, worker)
    assert (set(states.values()), scene.arrived()) == ({"parked"}, [])
    assert all(words in error and "no attempt is left" in error for error in scene.errors(replay_id).values())


@pytest.mark.parametrize("moment", range(14))
def test_the_control_database_is_gone_for_a_moment(scene: Scene, moment: int) -> None:
    """At any moment of a round, also between what the broker took and what is written of it: once each."""
    scene.lose("a", "b")
    replay_id = scene.start()
    worker = scene.worker()
    scene.database.raises, scene.database.fuse = Unavailable("the database is gone"), moment
    with suppress(Unavailable):
        scene.rounds(worker, 3, 0.5)
    scene.database.fuse = None
    for _ in range(20):
        scene.observe()
        scene.consume(*[message for message, _, _ in scene.arrived()])
        scene.rounds(worker, 1, 6)
    assert set(scene.states(replay_id).values()) == {"recovered"}
    assert Counter(message for message, _, _ in scene.arrived()) == {"a": 1, "b": 1}


def test_the_database_is_gone_when_it_was_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker hears of it; the claim stays, falls in doubt and is settled by what was seen."""
    scene.lose("a")
    replay_id = scene.start()
    worker = scene.worker()
    sent = type(scene.control.messages).sent

    def gone(*_: object) -> None:
        raise Unavailable("the database is gone")

    monkeypatch.setattr(type(scene.control.messages), "sent", gone)
    with pytest.raises(Unavailable):
        worker.step()
    monkeypatch.setattr(type(scene.control.messages), "sent", sent)
    assert (scene.states(replay_id), len(scene.arrived())) == ({"a": "claimed"}, 1)
    scene.wait(60)
    scene.observe()
    scene.rounds(worker, 3)
    assert (scene.states(replay_id), len(scene.arrived())) == ({"a": "sent"}, 1)


@pytest.mark.parametrize("jump", [3600, -3600, 90 * 86_400])
@pytest.mark.parametrize("moment", ["before", "after", "sent"])
def test_the_clock_jumps(scene: Scene, jump: int, moment: str) -> None:
    """While a message is claimed, or sent: it may be in doubt or late by that, but is never sent a second time before
    it is known that the first did not help."""
    scene.lose("a")
    replay_id = scene.start()

    def jumps(_: object) -> None:
        scene.wait(jump)
        scene.port.before = scene.port.after = lambda copies: None

    if moment != "sent":
        setattr(scene.port, moment, jumps)
    worker = scene.worker()
    worker.step()
    if moment == "sent":
        jumps(None)
    scene.rounds(worker, 20, 1)
    assert len(scene.arrived()) == 1
    scene.wait(max(0, -jump))
    scene.observe()
    scene.consume("a")
    scene.rounds(worker, 5, 60)
    assert (scene.states(replay_id), len(scene.arrived())) == ({"a": "recovered"}, 1)


def test_the_spec_changes_under_a_replay(scene: Scene) -> None:
    """The hop that lacked it is gone from the flow, and so is the source: what was agreed is done, and ends."""
    scene.lose("a", "b")
    replay_id = scene.replays.create(Selection(flow="orders"), ANN, rate=1).replay.id
    worker = scene.worker()
    worker.step()
    scene.put(
        """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka, stage: persist, after: checkout, within: 5s}
"""
    )
    scene.find("b", "withdrawn")
    scene.consume("a")
    scene.rounds(worker, 5, 2)
    assert scene.states(replay_id) == {"a": "recovered", "b": "refused"}
    assert scene.replays.get(replay_id).replay.status == "done"


def test_a_replay_of_a_replay(scene: Scene) -> None:
    """The copy is what an earlier replay sent: its attempts count on, over all replays, and then it is refused."""
    scene.put(SPEC.replace("MODE", "auto").replace("max_attempts: 3", "max_attempts: 2"))
    scene.lose("a")
    first = scene.start()
    worker = scene.worker()
    scene.rounds(worker, 2)
    scene.replays.cancel(first, ANN)
    scene.observe()
    scene.consume("a")
    scene.rounds(worker, 2)
    scene.find("a")
    second = scene.start()
    scene.rounds(worker, 4)
    assert [attempt for _, _, attempt in scene.arrived()] == [1, 2]
    assert to_the_end(scene, second, worker) == {"a": "parked"}
    plan = scene.replays.plan(Selection(flow="orders"))
    assert [(one.message_id, one.reason) for one in plan.refused] == [("a", "exhausted")]


def test_more_messages_than_fit_in_a_transaction(scene: Scene) -> None:
    """A large selection is kept in several steps and sent in batches, in order; who asks sees how far it is."""
    names = [f"m-{n:05}" for n in range(LARGEST_BATCH + 500)]
    scene.put(POLICY.replace("3/h", "100000/h"))
    scene.lose(*names)
    replay_id = scene.replays.create(Selection(flow="orders"), ANN).replay.id
    worker = scene.worker()
    for _ in range(4):
        scene.rounds(worker, 1)
    counts = scene.replays.get(replay_id).messages
    assert sum(counts.values()) == len(names)
    assert counts["sent"] == len(scene.arrived()) > 1000
    assert [message for message, _, _ in scene.arrived()] == names[: counts["sent"]]


def test_a_flow_that_allows_no_replay_any_more(guarded: Scene) -> None:
    """Nothing is approved, and what runs waits, with the reason; it goes on where it may again."""
    guarded.lose("a", "b")
    waiting, running = guarded.start("a"), guarded.start("b")
    guarded.replays.approve(running, BOB)
    guarded.put(SPEC.replace("MODE", "'off'"))
    with pytest.raises(Conflict, match="mode: off"):
        guarded.replays.approve(waiting, BOB)
    worker = guarded.worker()
    guarded.rounds(worker, 5)
    assert guarded.arrived() == []
    assert "mode: off" in guarded.replays.get(running).replay.detail
    guarded.put(SPEC.replace("MODE", "approve"))
    guarded.rounds(worker, 2)
    assert [message for message, _, _ in guarded.arrived()] == ["b"]
    assert guarded.replays.get(running).replay.detail == ""


def test_a_flow_that_is_deleted_under_a_replay(scene: Scene) -> None:
    """No pass judges its findings any more: the replay ends, and what it sent is followed up when the flow is back."""
    scene.lose("a", "b")
    replay_id = scene.replays.create(Selection(flow="orders"), ANN, rate=1).replay.id
    worker = scene.worker()
    worker.step()
    scene.control.flows.delete("orders", scene.now)
    scene.rounds(worker, 5, 10)
    shown = scene.replays.get(replay_id).replay
    assert (shown.status, "deleted" in shown.detail) == ("failed", True)
    assert scene.states(replay_id) == {"a": "sent", "b": "planned"}
    assert scene.audited(replay_id)[-1] == ("w", "fail")
    scene.put(SPEC.replace("MODE", "auto"))
    scene.consume("a")
    scene.rounds(worker, 5, 10)
    assert scene.states(replay_id) == {"a": "recovered", "b": "planned"}


def test_what_a_publisher_gave_up_arrives_late(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network delivers it after it was settled as never arrived, and before the next try: it is not sent again, and
    recovers by what came. A later one that arrived and did not help is tried again as ever."""
    scene.lose("a")
    replay_id = scene.start()
    worker = scene.worker()
    publish, kept = scene.port.publish, []

    def slow(copies):
        kept.extend(copies)
        return [Sent(copy.locator, "not confirmed in time") for copy in copies]

    monkeypatch.setattr(scene.port, "publish", slow)
    worker.step()
    scene.wait(12)
    scene.observe()
    worker.step()
    assert "never arrived" in scene.errors(replay_id)["a"]
    publish(kept)
    monkeypatch.setattr(scene.port, "publish", publish)
    scene.wait(0.5)
    scene.observe()
    scene.rounds(worker, 8, 1)
    assert [attempt for _, _, attempt in scene.arrived()] == [1]
    assert scene.states(replay_id) == {"a": "sent"}
    for _ in range(20):
        scene.rounds(worker, 1, 5)
        scene.observe()
    assert [attempt for _, _, attempt in scene.arrived()] == [1, 3]
    scene.consume("a")
    scene.rounds(worker, 2)
    assert scene.states(replay_id) == {"a": "recovered"}


def test_reasons_without_end_do_not_fill_the_audit_log(scene: Scene) -> None:
    """Retention took them all, each from a place of its own: the entry counts them and names a few; each message has
    its reason."""
    names = [f"m-{n:03}" for n in range(300)]
    scene.lose(*names)
    replay_id = scene.start()
    scene.port.expired = set(names)
    scene.rounds(scene.worker(), 2)
    entries = scene.control.audit.entries(subject=f"replay/{replay_id}", limit=100).items
    told = [reason for entry in entries if entry.what == "screen" for reason in entry.detail["not_sent"]]
    assert sum(one["messages"] for one in told) == 300
    assert len(told) < 30
    assert len({*scene.errors(replay_id).values()}) == 300
