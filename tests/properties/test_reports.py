"""Coverage never runs ahead of events: for no span that reports vouch for is a line missing at the tracker.

A world with a clock of its own: lines happen, are emitted or refused; requests fail, their answers are lost, the
process is killed in the middle of one and another goes on. A tracker by the book dates the reports it gets.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from collectors.batch import Bounds
from collectors.delivery import Answer, Outcome
from collectors.segment import Kind
from collectors.sender import Pace, Sender
from collectors.sources import Sources
from collectors.spool import REFUSED, Spool
from collectors.standing import load
from tracker.model.coverage import Report, SourceRef

MS = 1000
SOURCE = SourceRef("orders", "billing", "ack", "pod-7")


class Killed(BaseException):
    """SIGKILL in the middle of a request."""


@dataclass
class Book:
    """What a tracker keeps: stored lines, and the spans that a contiguous sequence of reports vouches for."""

    stored: set[bytes] = field(default_factory=set)
    spans: list[tuple[int, int]] = field(default_factory=list)
    sent: dict[tuple[int, int], bytes] = field(default_factory=dict)
    last: tuple[int, int, int, bool] = (0, 0, 0, False)

    def take(self, lines: bytes, report: Report, now: int) -> None:
        """Store the lines, then the coverage: DESIGN 3 "Coverage rules"."""
        self.stored.update(lines.split())
        before = self.sent.setdefault((report.epoch, report.sequence), lines)
        assert before == lines or not lines, "a report is sent again with the same lines, or without those given up"
        if (report.epoch, report.sequence) <= self.last[:2]:
            return
        reached = now - report.lag_ms * MS
        lists = SOURCE in (*report.sources, *report.signed_off)  # who ends is vouched for until then
        if lists and self.last[3] and self.last[:2] == (report.epoch, report.sequence - 1) and not report.dropped:
            low, high = self.spans.pop()
            self.spans.append((min(low, reached), max(high, reached)))
        elif lists:
            self.spans.append((reached, reached))
        self.last = (report.epoch, report.sequence, reached, lists)


class Wire:
    """Delivers to the book, or not, as told for each request; a request takes `transit` ms before its receipt."""

    round_trip = 0.0
    exchange = None

    def __init__(self, world: EmitterMachine) -> None:
        self.world = world
        self.script: list[str] = []
        self.transit = 0

    def probe(self) -> Answer:
        """Nothing is asked for."""
        return Answer(Outcome.stored)

    def send(self, lines: bytes, report: Report) -> Answer:
        """One request."""
        fate = self.script.pop(0) if self.script else "stored"
        self.world.now += self.transit * MS
        if fate in ("stored", "answer lost", "killed after"):
            self.world.book.take(lines, report, self.world.now)
            self.world.check()
        self.world.now += self.transit * MS
        if fate.startswith("killed"):
            raise Killed
        outcome = {"stored": Outcome.stored, "too large": Outcome.too_large}.get(fate, Outcome.again)
        return Answer(outcome, fate)


FATES = st.lists(
    st.sampled_from(["lost", "answer lost", "too large", "killed before", "killed after", "stored"]), max_size=3
)


class EmitterMachine(RuleBasedStateMachine):
    """An instrumented client: what happens is emitted at once."""

    reader = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1_800_000_000_000_000
        self.happened: list[tuple[int, bytes]] = []
        self.refused: set[bytes] = set()
        self.book = Book()
        self.wire = Wire(self)
        self.start()

    def start(self) -> None:
        """As a new process does."""
        self.spool = Spool(self.folder, segment=4096, limit=4 * 4096, clock=lambda: self.now)
        standing = load(self.folder / "standing.json", "c", self.now, self.spool.lacks)
        self.spool.resume(standing.acknowledged, standing.undelivered)
        self.sources = Sources(standing.sources, standing.begins)
        self.heir = standing.reached is not None
        pace = Pace(heartbeat=0, backoff=(0, 0))
        self.sender = Sender(
            self.spool, standing, self.sources, self.wire,
            reader=self.reader, pace=pace, bounds=Bounds(4, 4096), clock=lambda: self.now,
        )  # fmt: skip
        if not self.reader:
            self.sources.add([SOURCE])

    def happen(self, size: int) -> bytes:
        """A line that the world knows of."""
        line = (b"%d." % len(self.happened)).ljust(size, b"x")
        self.happened.append((self.now, line))
        return line

    @rule(ms=st.integers(1, 5000))
    def time_passes(self, ms):
        """Nothing happens for a while."""
        self.now += ms * MS

    @rule(count=st.integers(1, 6), size=st.sampled_from([20, 1900]), gap=st.integers(0, 30))
    def emit(self, count, size, gap):
        """Lines happen and are emitted, or refused."""
        for _ in range(count):
            self.now += gap * MS
            line = self.happen(size)
            if self.spool.append(Kind.lines, line + b"\n", 1) == REFUSED:
                self.refused.add(line)

    @rule(fates=FATES, transit=st.integers(0, 8))
    def send(self, fates, transit):
        """One report is tried until it is through, or the process is killed in it."""
        self.wire.script, self.wire.transit = list(fates), transit
        try:
            self.sender.step()
        except Killed:
            self.restart()

    @rule()
    def restart(self):
        """Killed; the next process has the same folder."""
        self.spool.unlock()
        self.start()

    @rule()
    def drain(self):
        """Everything gets through: then all that was not refused is stored."""
        self.wire.script, self.wire.transit = [], 1
        for _ in range(200):
            self.sender.step()
            if self.spool.drained(self.sender.position):
                break
        assert self.spool.backlog == 0
        rejected = self.folder / "rejected.ndjson"
        given_up = set(rejected.read_bytes().split()) if rejected.exists() else set()
        assert {line for _, line in self.emitted()} - self.refused - given_up <= self.book.stored

    def emitted(self) -> list[tuple[int, bytes]]:
        """What had to come to the tracker by now."""
        return self.happened

    def check(self) -> None:
        """The law."""
        for low, high in self.book.spans[-1:]:
            missing = [line for at, line in self.happened if low <= at <= high and line not in self.book.stored]
            assert not missing, f"vouched for {low}..{high} without {missing}"

    def teardown(self) -> None:
        """Leave nothing behind; and coverage did come."""
        self.spool.close()
        shutil.rmtree(self.folder)


class ReaderMachine(EmitterMachine):
    """A collector that reads behind: things happen in the system, and are read, emitted and vouched for later. What
    was read and not acknowledged when the process was killed is read again."""

    reader = True

    def __init__(self) -> None:
        self.read = 0
        self.committed: list[tuple[int, int]] = []
        self.unseen: set[bytes] = set()
        self.resumed = 0
        super().__init__()

    def start(self) -> None:
        """Reading goes on behind what was committed."""
        super().start()
        self.read = max([upto for position, upto in self.committed if position <= self.sender.position], default=0)

    @rule(count=st.integers(1, 6), size=st.sampled_from([20, 1900]), gap=st.integers(0, 30))
    def emit(self, count, size, gap):
        """Lines happen in the system."""
        for _ in range(count):
            self.now += gap * MS
            self.happen(size)

    @rule(count=st.integers(1, 10), lose=st.booleans())
    def read_some(self, count, lose):
        """Some are read and emitted; a runner waits when the spool is full, somebody careless refuses."""
        for _, line in self.happened[self.read : self.read + count]:
            if line in self.unseen:
                self.read += 1
                continue
            put = self.spool.append if lose else self.spool.offer
            position = put(Kind.lines, line + b"\n", 1)
            if position == REFUSED and not lose:
                break
            if position == REFUSED:
                self.refused.add(line)
            self.read += 1
            self.committed.append((self.spool.end, self.read))

    @rule()
    def vouch(self):
        """The runner says how far reading came."""
        while self.read < len(self.happened) and self.happened[self.read][1] in self.unseen:
            self.read += 1
        unread = self.happened[self.read :]
        reached = max(self.resumed, unread[0][0] - 1) if unread else self.now
        self.replace([SOURCE], reached)
        self.spool.append(Kind.mark, b"", at=reached)

    @rule()
    def begin(self):
        """The runner of a process that goes on asks before its collector knows how far it has read."""
        if self.heir:
            self.replace([SOURCE], self.now - 10**15)

    @rule(count=st.integers(1, 3), gap=st.integers(1, 30))
    def blackout(self, count, gap):
        """For a while the collector sees nothing of what happens, says so, and will never see it."""
        self.replace([], self.now)
        for _ in range(count):
            self.now += gap * MS
            self.unseen.add(self.happen(20))
        self.now += MS
        self.resumed = self.now

    @rule(fates=FATES, ms=st.integers(0, 3000), back=st.booleans())
    def retire(self, fates, ms, back):
        """Somebody says that it is over, after a while in which nobody read. It goes on all the same, and is watched
        again, before that was told or after."""
        self.now += ms * MS
        self.restart()
        self.sender.over = True
        self.wire.script, self.wire.transit = list(fates), 1
        try:
            for _ in range(2 if back else 60):
                self.sender.step()
                self.now += MS
        except Killed:
            back = True
        assert back or not self.sources.listed(), "in the end it was signed off"
        self.restart()

    def replace(self, sources: list[SourceRef], reached: int) -> None:
        """As the emitter does."""
        gone = self.sources.replace(sources, reached)
        if gone and self.spool.append(Kind.let_go, msgspec.json.encode(gone)) != REFUSED:
            self.sources.told()

    def emitted(self) -> list[tuple[int, bytes]]:
        """What was read."""
        return [(at, line) for at, line in self.happened[: self.read] if line not in self.unseen]


def test_a_hole_that_the_next_process_knows_nothing_of():
    """It was told, and the process ended before it vouched for more. The next one names its sources at once, in reports
    that are dated as the last ones were."""
    machine = ReaderMachine()
    machine.vouch()
    machine.send([], 1)
    machine.blackout(2, 5)
    machine.send([], 1)
    machine.restart()
    machine.begin()
    machine.send([], 1)
    machine.time_passes(100)
    machine.vouch()
    machine.send([], 1)
    machine.time_passes(100)
    machine.vouch()
    machine.send([], 1)
    low, high = machine.book.spans[-1]
    assert machine.resumed <= low < high
    machine.teardown()


TestClient = EmitterMachine.TestCase
TestReader = ReaderMachine.TestCase
TestClient.settings = TestReader.settings = settings(max_examples=75, stateful_step_count=30, deadline=None)
