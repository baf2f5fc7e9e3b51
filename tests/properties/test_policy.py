"""The replay policy under kills at every step, with people who ask beside it: never two replays of one finding, none
forgotten, never more than the budget. The control database is a real one."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.component.replay.scene import ANN, BOB, POLICY, SECOND, Killed, Scene
from tests.properties.test_replay import empty_control
from tracker.control.errors import Conflict
from tracker.control.replays import ENDED, Replay
from tracker.replay import Automatic, Selection, Worker
from tracker.replay.automatic import LEASE_TTL
from tracker.replay.policy import APPROVER
from tracker.replay.policy import POLICY as NOBODY

BUDGET, SPAN, AFTER = 3, 3600 * SECOND, 30 * SECOND
SMALL, BURIED = [f"m-{n}" for n in range(6)], ["x-0", "x-1"]
KILLS = st.none() | st.integers(0, 20)


class Policing(RuleBasedStateMachine):
    """Two trackers, each with a policy and a worker, that come and go; messages that get lost at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.scene = Scene(self.folder, "auto", empty_control())
        self.scene.put(POLICY)
        self.starts = 0
        self.trackers = [self._started(), self._started()]

    def _started(self) -> tuple[Automatic, Worker]:
        self.starts += 1
        name = f"tracker-{self.starts}"
        return self.scene.automatic(name), self.scene.worker(name)

    # --- what happens ---------------------------------------------------------------------------------------------

    @initialize(ids=st.sets(st.sampled_from(SMALL), min_size=2))
    def begin(self, ids: set[str]) -> None:
        """Some messages are missing."""
        self.lose(ids)

    @rule(ids=st.sets(st.sampled_from(SMALL + BURIED), min_size=1))
    def lose(self, ids: set[str]) -> None:
        """Some more are, or some are buried."""
        new = sorted(ids - self.scene.found.keys())
        self.scene.lose(*new)
        for one in set(new) & set(BURIED):
            self.scene.find(one, kind="dead_lettered")
        if new:
            self.scene.count()

    @rule(which=st.integers(0, 1), kill=KILLS, part=st.integers(0, 1))
    def step(self, which: int, kill: int | None, part: int) -> None:
        """A step of a policy or of a worker, killed at any moment of it or not at all."""
        self.scene.database.fuse = kill
        try:
            self.trackers[which][part].step()
        except Killed:
            self.trackers[which] = self._started()
        finally:
            self.scene.database.fuse = None

    @rule(seconds=st.sampled_from([1, 12, 31, 61, 1200, 3601]), observes=st.booleans())
    def wait(self, seconds: int, observes: bool) -> None:
        """Time passes; the collector may look."""
        self.scene.wait(seconds)
        if observes:
            self.scene.observe()

    @rule(seconds=st.sampled_from([31, 61]), which=st.integers(0, 1), kill=KILLS)
    def wait_and_look(self, seconds: int, which: int, kill: int | None) -> None:
        """All is watched, and a policy looks."""
        self.wait(seconds, True)
        self.step(which, kill, 0)

    @rule(one=st.sampled_from(SMALL))
    def consume(self, one: str) -> None:
        """One is back, by itself or by a replay."""
        if one in self.scene.found:
            self.scene.consume(one)
            self.scene.count()

    @rule(ids=st.sets(st.sampled_from(SMALL), min_size=1), kill=KILLS)
    def ask(self, ids: set[str], kill: int | None) -> None:
        """Somebody asks."""
        known = tuple(sorted(ids & self.scene.found.keys()))
        self.scene.database.fuse = kill
        with suppress(Conflict, Killed):
            if known:
                self.scene.service().create(Selection(flow="orders", message_ids=known), ANN)
        self.scene.database.fuse = None

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        """Somebody cancels one."""
        replays = self._replays()
        with suppress(Conflict):
            if number < len(replays):
                self.scene.replays.cancel(replays[number].id, BOB)

    # --- what must hold -------------------------------------------------------------------------------------------

    def _replays(self) -> list[Replay]:
        return self.scene.replays.list(limit=1000).items

    @invariant()
    def no_finding_has_two_replays_of_the_policy(self) -> None:
        """Whoever was killed when; nothing is buried, and nothing is younger than the flow says."""
        taken = Counter[str]()
        for replay in self._replays():
            if replay.requested_by == NOBODY:
                ids = self.scene.states(replay.id).keys()
                taken.update(ids)
                assert all(self.scene.found[one].status != "open" or one not in BURIED for one in ids)
                assert (replay.status != "planned", replay.incident_id) == (True, "i-1")
                assert len(ids) == replay.plan["messages"]
        assert max(taken.values(), default=0) <= 1
        assert not taken.keys() & set(BURIED)

    @invariant()
    def the_budget_holds(self) -> None:
        """In any hour, whoever asked; counted from the messages themselves."""
        spent = [
            (replay.approved_at, len(self.scene.states(replay.id)))
            for replay in self._replays()
            if replay.approved_by == APPROVER and replay.approved_at is not None
        ]
        for at, _ in spent:
            assert sum(count for other, count in spent if at - SPAN < other <= at) <= BUDGET

    @invariant()
    def nothing_is_sent_that_was_not_asked_for(self) -> None:
        """And no attempt twice."""
        arrived = Counter(self.scene.arrived())
        known = {replay.id for replay in self._replays()}
        assert max(arrived.values(), default=0) <= 1
        assert {replay for _, replay, _ in arrived} <= known

    # --- and in the end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """When the world calms down, every finding that the policy may mend had a replay, or has recovered."""
        try:
            self._calm_down()
            had = {one for replay in self._replays() if replay.status != "failed"
                   for one in self.scene.states(replay.id)}  # fmt: skip
            for one, finding in self.scene.found.items():
                assert one in BURIED or finding.status != "open" or one in had, f"{one} is forgotten"
            self.no_finding_has_two_replays_of_the_policy()
            self.the_budget_holds()
            assert self.scene.control.audit.verify() is None
        finally:
            self.scene.close()
            shutil.rmtree(self.folder)

    def _calm_down(self) -> None:
        policy, worker = self._started()
        for _ in range(12):
            self.scene.wait(max(LEASE_TTL / SECOND, 1300))
            self.scene.observe()
            policy.step()
            for _ in range(3):
                worker.step()
                self.scene.wait(12)
                self.scene.observe()
            for replay in self._replays():
                if replay.status == "awaiting_approval":
                    self.scene.replays.cancel(replay.id, BOB)
                elif replay.status not in ENDED:
                    sent = [one for one, state in self.scene.states(replay.id).items() if state == "sent"]
                    self.scene.consume(*sent)


Policing.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestPolicing = Policing.TestCase
