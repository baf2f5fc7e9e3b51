"""Replays under kills at every step, lagging observers, refusing and lying targets, several trackers.

Never a silent second sending, never a forgotten message. The broker is in memory, the control database a real one; what
is true is read from the broker's log, not from our books.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collectors.carried import carried
from tests.unit.replay.scene import ANN, BOB, SECOND, Killed, Scene
from tracker.control import Control
from tracker.control.errors import Conflict
from tracker.replay import Selection, Worker

FOLLOW_UP = 45 * SECOND
"""The flow's longest deadline (15 s) and 30 s of patience."""
RESOLVED = {"recovered", "parked", "refused"}
IDS = [f"m-{n}" for n in range(5)]

FAILS = ["refuses", "lies", "unreadable"]
"""What a broker may do: confirm nothing and take nothing, confirm nothing and take all, give no copies."""
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

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.scene = Scene(self.folder, "auto", empty_control())
        self.scene.port.before = self._about_to_send
        self.scene.port.after = self._sent
        self.starts = 0
        self.dies: str | int | None = None
        self.wrong: list[str] = []
        self.workers = [self._started(), self._started()]

    def _started(self) -> Worker:
        self.starts += 1
        return self.scene.worker(f"tracker-{self.starts}")

    def _about_to_send(self, copies) -> None:
        """Only what is still missing is ever sent; and again only when every arrival before was observed, and billing
        was covered for the whole follow-up of it: then it is known, and known not to have helped."""
        for copy in copies:
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

    @initialize(ids=st.sets(st.sampled_from(IDS), min_size=1))
    def begin(self, ids: set[str]) -> None:
        """Some messages are missing, and somebody asks for them."""
        self.scene.lose(*sorted(ids))
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
        self.scene.database.fuse = kill if isinstance(kill, int) else None
        try:
            self.workers[which].step()
        except Killed:
            self.workers[which] = self._started()
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
        assert not self.wrong

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
            self.no_attempt_arrives_twice()
            self.nothing_is_sent_in_vain()
        finally:
            self.scene.close()
            shutil.rmtree(self.folder)

    def _calm_down(self) -> None:
        worker = self._started()
        for _ in range(150):
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
