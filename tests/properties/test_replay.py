"""Replays under kills at every step, lagging observers, refusing and lying targets, sources that hand out and take
back, are away or hold something else, several trackers, few messages in flight, lines that keep their order.

Never a silent second sending, never a forgotten message. The broker is in memory, the control database a real one; what
is true is read from the broker's log and from the queue of dead letters, not from our books.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collectors.carried import carried
from collectors.memory import (
    Config,
    MemoryBroker,
    MemoryCollector,
    MemoryPublisher,
    MemorySource,
    Slot,
    Tailed,
)
from tests.component.replay.scene import ANN, BOB, REPLAY_ID, SECOND, Killed, Scene
from tests.world.installation import Installation
from tracker.control import Control
from tracker.control.errors import Conflict
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.replay import Keeper, Replays, Selection, Worker
from tracker.replay.backoff import FLOOR, SHARE, SPAN_S

FOLLOW_UP = 45 * SECOND
"""The flow's longest deadline (15 s) and 30 s of patience."""
RESOLVED = {"recovered", "parked", "refused"}
IDS = [f"m-{n}" for n in range(5)]
SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: kafka, within: 10s%s}
replay: {sources: [log: kafka, dead_letter: billing], mode: auto, rate: %s/s, max_attempts: 3, in_flight: %s}
"""

FAILS = ["refuses", "lies", "away", "unreadable"]
"""What a broker may do: confirm nothing and take nothing, confirm nothing and take all, be known to have got nothing,
give no copies."""
KILLS = st.sampled_from(["before", "after"]) | st.integers(0, 20)
"""At the broker's door, behind it, or at the n-th moment of a round."""


@cache
def empty_control() -> Path:
    """A control database with the schema and nothing in it."""
    path = Path(tempfile.mkdtemp()) / "empty.db"
    Control.open(f"sqlite:///{path}").close()
    return path


class Replaying(RuleBasedStateMachine):
    """Two trackers that come and go, people who ask, pause and cancel, and a world that does not wait for them."""

    order = ""
    """What the flow asks order by."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.scene = Scene(self.folder, "auto", empty_control())
        self.scene.key = lambda one: f"k{int(one[2:]) % 2}"
        self.scene.port.before = self._about_to_send
        self.scene.port.after = self._sent
        self.rate, self.in_flight = 1000, 5000
        self.starts = 0
        self.dies: str | int | None = None
        self.wrong: list[str] = []
        self.tried: set[tuple[str, str]] = set()
        self.tries: list[tuple[str, int, bool]] = []
        self.at_work = ""
        self.workers = [self._started(), self._started()]
        self.letters = self.scene.letters[-2:]

    def _started(self) -> Worker:
        self.starts += 1
        worker = self.scene.worker(f"tracker-{self.starts}")
        self.scene.letters[-1].settling = self._about_to_settle
        return worker

    def _about_to_settle(self, sent) -> None:
        """A queue may only forget what is in the log, and what our books say of it."""
        arrived = {message for message, _, _ in self.scene.arrived()}
        for place in sent:
            if place.message_id not in arrived:
                self.wrong.append(f"{place.message_id} is taken out of the queue and is nowhere else")
            states = {self.scene.states(one.id).get(place.message_id) for one in self.scene.replays.list().items}
            if not states & {"sent", "recovered"}:
                self.wrong.append(f"{place.message_id} is taken out of the queue before anybody wrote down why")

    def _within_bounds(self, copies) -> None:
        """Not more in flight than may be, and not more retries than their budget: as the log and the calls show it."""
        now, busy = self.scene.now, set()
        for record in self.scene.records():
            said = carried(record.headers)
            if said.replay_id and record.appended_at > now - FOLLOW_UP:
                busy |= {said.message_id} if self.scene.found[said.message_id].status == "open" else set()
        if len(busy | {copy.locator.message_id for copy in copies}) > self.in_flight:
            self.wrong.append(f"{len(copies)} are sent though {len(busy)} are in flight already")
        for copy in copies:
            one = copy.locator.message_id, copy.headers[REPLAY_ID].decode()
            self.tries.append((self.at_work, now, one in self.tried))
            self.tried.add(one)
        recent = [again for who, at, again in self.tries if who == self.at_work and at > now - SPAN_S * SECOND]
        allowed = SHARE * recent.count(False) + min(FLOOR, SHARE * self.rate) * SPAN_S
        if recent.count(True) > max(1, allowed):
            self.wrong.append(f"{recent.count(True)} retries, {allowed} are allowed")

    def _in_turn(self, copies) -> None:
        """Nothing is sent while one that comes before it by its key is still missing, and this replay has not brought
        it into the log."""
        for copy in copies:
            one, replay_id = copy.locator.message_id, copy.headers[REPLAY_ID].decode()
            there = {message for message, replay, _ in self.scene.arrived() if replay == replay_id}
            for row in self.scene.control.messages.page(replay_id).items:
                before = row.ordinal < self.scene.ordinals(replay_id)[one] and row.message_id not in there
                same = self.scene.key(row.message_id) == self.scene.key(one)
                if before and same and self.scene.found[row.message_id].status == "open":
                    self.wrong.append(f"{one} is sent before {row.message_id}, which comes first")

    def _about_to_send(self, copies) -> None:
        """Only what is still missing is ever sent; and again only when every arrival before was observed, and billing
        was covered for the whole follow-up of it: then it is known, and known not to have helped."""
        self._within_bounds(copies)
        if self.order:
            self._in_turn(copies)
        for copy in copies:
            if copy.value != copy.locator.message_id.encode() * 3:
                self.wrong.append(f"the copy of {copy.locator.message_id} is not what it was")
            one = copy.locator.message_id
            if self.scene.found[one].status != "open":
                self.wrong.append(f"{one} is not missing")
            observed = {(event.replay_id, event.attempt) for event in self.scene.events[one]}
            for record in self.scene.records():
                said = carried(record.headers)
                if said.message_id != one or not said.replay_id:
                    continue
                if (said.replay_id, said.attempt) not in observed:
                    self.wrong.append(f"{one} was sent before, which nobody knows yet")
                if self.scene.covered < record.appended_at + FOLLOW_UP:
                    self.wrong.append(f"{one} was sent before, and may still help")
        self._die("before")

    def _sent(self, copies) -> None:
        """The broker has them; we were not told yet."""
        self._die("after")

    def _die(self, moment: str) -> None:
        if self.dies == moment:
            self.dies = None
            raise Killed
        self.scene.database.tick()

    # --- what happens ---------------------------------------------------------------------------------------------

    @initialize(
        ids=st.sets(st.sampled_from(IDS), min_size=1),
        buried=st.sets(st.sampled_from(IDS)),
        expired=st.sets(st.sampled_from(IDS)),
        rate=st.sampled_from([1000, 1000, 2]),
        in_flight=st.sampled_from([5000, 5000, 2, 1]),
    )
    def begin(self, ids: set[str], buried: set[str], expired: set[str], rate: int, in_flight: int) -> None:
        """Some messages are missing, some of them are dead letters too, or only that, and somebody asks for them."""
        self.scene.port.expired = expired
        self.rate, self.in_flight = rate, in_flight
        order = f", order: {self.order}" if self.order else ""
        self.scene.put(SPEC % (order, rate, in_flight))
        self.scene.lose(*sorted(ids))
        self.scene.bury(*sorted(ids & buried))
        self.scene.start()
        self.scene.wait(1)

    @rule(
        which=st.integers(0, 1),
        kill=st.none() | KILLS,
        fails=st.just("") | st.sampled_from(FAILS),
    )
    def work(self, which: int, kill: str | int | None, fails: str) -> None:
        """A round of one tracker, which may be killed at any moment of it and is then started anew."""
        if fails:
            setattr(self.scene.port, fails, True)
        self.dies = kill
        self.at_work = self.workers[which].owner
        self.scene.database.fuse = kill if isinstance(kill, int) else None
        try:
            self.workers[which].step()
        except Killed:
            self.letters[which].close()
            self.workers[which] = self._started()
            self.letters[which] = self.scene.letters[-1]
        finally:
            self.dies = self.scene.database.fuse = None
            if fails:
                setattr(self.scene.port, fails, False)

    @rule(
        which=st.integers(0, 1),
        trouble=KILLS | st.sampled_from(FAILS),
        seconds=st.sampled_from([1, 12, 51, 60, 120]),
        observes=st.booleans(),
        rounds=st.integers(1, 4),
    )
    def have_trouble_and_go_on(
        self, which: int, trouble: str | int, seconds: float, observes: bool, rounds: int
    ) -> None:
        """A kill or a failing broker, some time, perhaps a look of the collector, and some rounds more."""
        self.work(which, None if trouble in FAILS else trouble, str(trouble) if trouble in FAILS else "")
        self.scene.wait(seconds)
        if observes:
            self.scene.observe()
        for _ in range(rounds):
            self.work(which, None, "")
            self.scene.wait(6)

    @rule(ids=st.sets(st.sampled_from(IDS)), how=st.sampled_from(["expired", "wrong"]))
    def lose_copies(self, ids: set[str], how: str) -> None:
        """The log has these no more, or something else in their place; a queue of dead letters may have them."""
        setattr(self.scene.port, how, ids)

    @rule(seconds=st.sampled_from([0.2, 1, 6, 11, 30, 51, 120]))
    def wait(self, seconds: float) -> None:
        """Time passes; nobody observes anything by that."""
        self.scene.wait(seconds)

    @rule()
    def observe(self) -> None:
        """The collector catches up and vouches for it."""
        self.scene.observe()

    @rule(one=st.sampled_from(IDS))
    def consume(self, one: str) -> None:
        """Billing acknowledges one that was sent again, or one that it had all the time."""
        if one in self.scene.found:
            self.scene.consume(one)

    @rule(ids=st.sets(st.sampled_from(IDS), min_size=1), races=st.booleans())
    def ask(self, ids: set[str], races: bool) -> None:
        """Somebody asks for some again, whatever is under way; perhaps at the very moment in which somebody else does,
        so that neither plan sees the other replay."""
        known = tuple(sorted(ids & set(self.scene.found)))
        with pytest.MonkeyPatch.context() as patch, suppress(Conflict):
            if races:
                patch.setattr("tracker.replay.service.ask.pasts", lambda *_: {})
            if known:
                self.scene.replays.create(Selection(flow="orders", message_ids=known), ANN)

    @rule(what=st.sampled_from(["pause", "resume", "cancel"]), number=st.integers(0, 3))
    def decide(self, what: str, number: int) -> None:
        """Somebody pauses, resumes or cancels one."""
        replays = self.scene.replays.list().items
        with suppress(Conflict):
            if number < len(replays) and (what != "cancel" or number == 0):
                getattr(self.scene.replays, what)(replays[number].id, BOB)

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_sent_in_vain(self) -> None:
        """See `_about_to_send`; whatever a publisher raises is caught, so it is noted there and told here."""
        assert not self.wrong, self.wrong[0]

    @invariant()
    def no_attempt_arrives_twice(self) -> None:
        """(message, replay, attempt) is in the log at most once."""
        assert max(Counter(self.scene.arrived()).values(), default=0) <= 1

    @invariant()
    def what_is_said_is_true(self) -> None:
        """An attempt that is said never to have arrived is not in the log; one that is said to be sent is."""
        arrived = set(self.scene.arrived())
        for replay in self.scene.replays.list().items:
            for row in self.scene.control.messages.page(replay.id).items:
                attempt = (row.message_id, replay.id, row.attempt)
                assert row.state != "sent" or attempt in arrived
                assert "never arrived" not in row.error or attempt not in arrived

    @invariant()
    def nothing_is_told_twice_that_was_not(self) -> None:
        """No entry of the audit log speaks of a second sending: with kills alone there is none."""
        entries = self.scene.control.audit.entries(limit=1000).items
        assert not [entry for entry in entries if "perhaps_sent_twice" in entry.detail]

    @precondition(lambda self: self.starts > 2)
    @invariant()
    def the_audit_log_is_sound(self) -> None:
        """Whatever was cut short."""
        assert self.scene.control.audit.verify() is None

    # --- and in the end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """When the world calms down, every message is recovered, parked or refused with a reason, or in a replay that
        somebody cancelled; and what is called sent did arrive."""
        try:
            self._calm_down()
            for replay in self.scene.replays.list().items:
                states = self.scene.states(replay.id)
                unresolved = {one for one, state in states.items() if state not in RESOLVED}
                assert replay.status in ("done", "cancelled", "failed")
                assert not unresolved or replay.status != "done"
                assert all(states[one] == "planned" for one in unresolved)
                reasons = self.scene.errors(replay.id)
                assert all(reasons[one] for one, state in states.items() if state in ("parked", "refused"))
                for one, state in states.items():
                    assert state != "recovered" or self.scene.found[one].status == "recovered"
            assert not [one for one, (_, holder) in self.scene.queue.items() if holder], "nobody gave these back"
            self.no_attempt_arrives_twice()
            self.nothing_is_sent_in_vain()
        finally:
            self.scene.close()
            shutil.rmtree(self.folder)

    def _calm_down(self) -> None:
        self.scene.port.expired, self.scene.port.wrong = set(), set()
        for letters in self.letters:
            letters.close()
        worker = self._started()
        self.at_work = worker.owner
        for _ in range(400):
            for replay in self.scene.replays.list(status=["paused"]).items:
                self.scene.replays.resume(replay.id, BOB)
            self.scene.observe()
            worker.step()
            self.scene.wait(20)
            counts = [self.scene.replays.get(replay.id).messages for replay in self.scene.replays.list().items]
            busy = any(count[state] for count in counts for state in ("claimed", "in_doubt", "sent"))
            if not busy and not self.scene.replays.list(status=["approved", "running", "planned"]).items:
                return


Replaying.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestReplaying = Replaying.TestCase


class InOrder(Replaying):
    """The same for a flow that asks for order by key; its messages have two."""

    order = "key"


InOrder.TestCase.settings = settings(Replaying.TestCase.settings, max_examples=8)
TestInOrder = InOrder.TestCase


# --- the same way once, with the real store and the real reconciler ---------------------------------------------------

REAL = """
flow: replayed
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: kafka, stage: persist, after: shop, within: 5s}
  - {hop: billing, stage: ack, after: kafka, within: 10s, at_most: 1}
replay: {sources: [log: kafka], mode: approve, rate: 1000/s, max_attempts: 3}
"""
SOURCES = [
    SourceRef("replayed", hop, stage, "s")
    for hop, stage in (("shop", "produce"), ("kafka", "persist"), ("billing", "ack"))
]


class Real:
    """A broker in memory whose log, producers and consumers are observed by an installation."""

    def __init__(self, installation: Installation) -> None:
        self.at = installation
        installation.put(REAL)
        self.broker = MemoryBroker(clock=lambda: installation.now)
        tailed = Config(topics=[Tailed("t", "replayed", "kafka")])
        self.collector = MemoryCollector("tail", tailed, self.broker, lambda: installation.now)
        self.source, self.publisher = MemorySource(self.broker), MemoryPublisher(self.broker)
        self.replays = Replays(
            installation.store, installation.control, {Keeper("log", "kafka"): self.source}, {"kafka": self.publisher},
            lambda: installation.now,
        )  # fmt: skip

    def worker(self, owner: str) -> Worker:
        """A tracker's worker on the installation's clock."""
        return self.replays.worker(lambda: self.at.now / SECOND, owner)

    def pass_time(self, seconds: float) -> None:
        """Time passes, collectors catch up and vouch, the reconciler makes a pass."""
        self.at.now += round(seconds * SECOND)
        raws = self.collector.read(1000, 0)
        self.at.observe(event for raw in raws for event in self.collector.decode(raw) if isinstance(event, Event))
        self.at.vouch(SOURCES)
        self.at.run_pass()

    def event(self, one: str, hop: str, stage: Stage, **more: Any) -> Event:
        """An observation of now."""
        return Event(flow="replayed", message_id=one, hop=hop, stage=stage, observed_at=self.at.now, **more)

    def produce(self, *ids: str) -> None:
        """Messages go out and reach the log."""
        self.at.observe(self.event(one, "shop", Stage.produce, origin_at=self.at.now) for one in ids)
        for one in ids:
            self.broker.append("t", one.encode(), None, {MESSAGE_ID: one.encode()})

    def consume(self, *ids: str, replay_id: str = "") -> None:
        """Billing acknowledges."""
        acks = [self.event(one, "billing", Stage.ack, delivery=f"{one}{replay_id}", replay_id=replay_id) for one in ids]
        self.at.observe(acks)


def test_found_replayed_and_recovered(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Billing skips two of four. They are found, planned with copies checked, approved by somebody else, sent by a
    tracker that is killed behind the broker's door, settled by the ledger, processed, and recovered: by replay."""
    real = Real(installation)
    real.pass_time(0)
    real.produce("a", "b", "c", "d")
    real.pass_time(1)
    real.consume("a", "b")
    real.pass_time(30)
    plan = real.replays.plan(Selection(flow="replayed", hop="billing"))
    assert [item.message_id for item in plan.items] == ["c", "d"]
    assert plan.checked is not None
    assert plan.checked.sizes == (1, 1)

    replay_id = real.replays.create(Selection(flow="replayed"), ANN, "skipped").replay.id
    real.replays.approve(replay_id, BOB)
    first = real.worker("first")
    first.step()
    send = real.publisher.publish

    def dies(copies):
        send(copies)
        raise Killed

    monkeypatch.setattr(real.publisher, "publish", dies)
    installation.now += SECOND
    with pytest.raises(Killed):
        first.step()
    monkeypatch.setattr(real.publisher, "publish", send)
    assert real.replays.get(replay_id).messages["claimed"] == 1

    real.pass_time(1)
    second = real.worker("second")
    second.step()
    assert real.replays.get(replay_id).messages["sent"] == 2
    real.consume("c", "d", replay_id=replay_id)
    real.pass_time(1)
    second.step()

    shown = real.replays.get(replay_id)
    assert (shown.replay.status, shown.messages["recovered"]) == ("done", 2)
    assert len(real.broker.fetch(Slot("t", 0), 0, 100)) == 6
    found = installation.store.findings("replayed")
    assert [(one.message_id, one.status, one.by) for one in sorted(found, key=lambda f: f.message_id)] == [
        ("c", "recovered", "replay"),
        ("d", "recovered", "replay"),
    ]
