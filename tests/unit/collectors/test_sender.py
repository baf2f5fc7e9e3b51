"""What a sender vouches for and what it ends, as a tracker's own book of coverage takes it."""

from __future__ import annotations

import msgspec
import pytest

from collectors import standing
from collectors.batch import Bounds
from collectors.delivery import Answer, Outcome
from collectors.segment import Kind
from collectors.sender import Pace, Sender
from collectors.sources import Sources
from collectors.spool import REFUSED, Spool
from collectors.standing import load
from tracker.model.coverage import SourceRef
from tracker.model.spec import load_spec
from tracker.reconcile.cover import Cover

A, B = (SourceRef("orders", "log", "persist", f"t/{i}") for i in range(2))
SPEC = load_spec("{flow: orders, checkpoints: [{hop: log, stage: persist}]}")
S = 1_000_000
HOUR = 3600 * S
START = 1_800_000_000 * S


class World:
    """One spool folder, the sender of the process that has it, and a tracker that dates what it is told. A request is
    on its way for a millisecond."""

    exchange, round_trip = None, 0.001

    def __init__(self, folder):
        self.folder, self.now, self.reports, self.lines = folder, START, [], []
        self.away = self.mute = False
        self.spool = None

    def start(self, reader=True, limit=2**20, **bounds):
        """A process begins. The one before it is killed."""
        if self.spool:
            self.spool.unlock()
        self.spool = Spool(self.folder, limit=limit, clock=lambda: self.now)
        old = load(self.folder / "standing.json", "c", self.now, self.spool.lacks)
        self.spool.resume(old.acknowledged, old.undelivered)
        self.sources = Sources(old.sources, old.begins)
        self.sender = Sender(
            self.spool, old, self.sources, self, reader=reader, pace=Pace(heartbeat=0, backoff=(0, 0)),
            bounds=Bounds(**bounds), clock=lambda: self.now,
        )  # fmt: skip

    def send(self, lines, report):
        """Takes it and answers; or is away, or just mute; then the sender does not try again by itself."""
        self.now += 1000
        if not self.away:
            self.lines += lines.split()
            self.reports.append({**msgspec.to_builtins(report), "received": self.now})
            self.now += 1000
        if self.away or self.mute:
            self.sender._stopping.set()
            return Answer(Outcome.again, "no answer")
        return Answer(Outcome.stored)

    def probe(self):
        """Nothing is asked for."""
        return Answer(Outcome.stored)

    def step(self, count=1, ms=100):
        """So many reports, if they are due, each a moment after the other."""
        for _ in range(count):
            self.sender._stopping.clear()
            self.sender.step()
            self.now += ms * 1000

    def vouch(self, *sources):
        """As an emitter does for a reader that has read everything until now. Whether it found room."""
        gone = self.sources.replace(sources, self.now)
        told = not gone or self.spool.append(Kind.let_go, msgspec.json.encode(gone)) != REFUSED
        if told:
            self.sources.told()
        return self.spool.append(Kind.mark, b"", at=self.now) != REFUSED and told

    def watch(self, *sources, count=3):
        """A reader goes on for a while; the moment of its last word."""
        for _ in range(count):
            assert self.vouch(*sources)
            last = self.now
            self.step()
        return last

    def coverage(self):
        """As the tracker sees it."""
        cover = Cover(())
        cover.fold(self.reports)
        return cover.coverage(SPEC, ())

    def hole(self, start, end):
        """What nobody vouches for."""
        return self.coverage().hole("log", "persist", start, end, self.now)

    def ended(self):
        """Sources that were signed off."""
        return {source["source"] for report in self.reports for source in report["signed_off"]}


@pytest.fixture
def world(tmp_path):
    """A world whose process has begun."""
    found = World(tmp_path / "spool")
    found.start()
    yield found
    found.spool.close()


def test_what_nobody_read_stays_blind_when_it_is_retired(world):
    """The broker was away for hours, then it is said to be over: it ends now, and what happened in these hours is not
    vouched for. Until the last word of the reader it is."""
    last = world.watch(A, B)
    for _ in range(30):
        world.step(ms=360_000)
    world.start()
    world.sender.over = True
    over = world.now
    world.step(3)
    assert world.ended() == {"t/0", "t/1"}
    assert world.hole(START + S // 2, last) is None
    hole = world.hole(last, over)
    assert (hole.cause, hole.end - hole.start > 3 * HOUR - S) == ("hole", True)
    assert world.hole(over + S, over + HOUR) is None
    assert world.sources.listed() == []


def test_what_was_read_is_vouched_for_when_it_is_retired(world):
    """Lines and marks that the tracker does not have yet are told first, as what they are: there is no hole in what was
    read, and only a moment that nobody looked at before the end."""
    world.watch(A)
    world.away = True
    for i in range(50):
        world.spool.append(Kind.lines, b"%d\n" % i, 1)
        assert world.vouch(A)
        last = world.now
        world.step(ms=60_000)
    world.away = False
    world.start(lines=7)
    world.sender.over = True
    world.step(20)
    assert len(set(world.lines)) == 50
    assert world.ended() == {"t/0"}
    assert world.hole(START + S // 2, last - S) is None
    assert world.hole(last, world.now - 25 * S // 10).cause == "hole"


def test_a_retirement_after_a_crash_of_the_host(world, monkeypatch):
    """Nothing of the time before is known; what was watched ends all the same, and at once."""
    last = world.watch(A)
    monkeypatch.setattr(standing, "_boot", lambda: "another run")
    world.start()
    world.sender.over = True
    world.step(2)
    assert world.ended() == {"t/0"}
    assert world.hole(last, world.now) is not None
    assert world.hole(world.now, world.now + HOUR) is None


@pytest.mark.parametrize("killed", [False, True])
def test_who_is_wanted_again_begins_anew(world, killed):
    """A source that was signed off and is watched again: the time between is not vouched for, though the reports follow
    each other."""
    world.watch(A)
    world.start()
    world.sender.over = True
    world.away = killed
    world.step(3)
    world.away = False
    world.now += HOUR
    off = world.now
    world.start()
    for _ in range(10):
        world.vouch(A)
        world.vouch(A)
        world.step()
    assert world.hole(off - HOUR // 2, off - S).cause == "hole"
    assert world.hole(world.now - S // 2, world.now - 3 * S // 10) is None


def test_a_client_that_is_gone_ends_after_a_crash_of_the_host(world, monkeypatch):
    """Its heir is made a moment before it may vouch for anything: the end is told as soon as it may be."""
    world.start(reader=False)
    world.sources.add([A])
    world.step(2)
    monkeypatch.setattr(standing, "_boot", lambda: "another run")
    world.start(reader=False)
    world.step(2, ms=1)
    assert world.ended() == set()
    world.step(5, ms=20)
    assert world.ended() == {"t/0"}
    assert world.sources.listed() == []


def test_a_client_that_ends_just_after_a_refusal_ends_all_the_same(world):
    """Nothing may be said of any source yet. The end is told once it may be, and once only."""
    world.start(reader=False)
    world.sources.add([A, B])
    world.step(2)
    world.spool.lost(1)
    world.spool.append(Kind.signed_off, msgspec.json.encode(world.sources.end([A])))
    world.step(2, ms=1)
    assert world.ended() == set()
    world.step(5, ms=20)
    assert [report["signed_off"] for report in world.reports if report["signed_off"]] == [[msgspec.to_builtins(A)]]
    assert world.sources.listed() == [B]


def test_a_source_left_out_while_the_spool_was_full_has_a_hole(world):
    """There was no room to write that down, and when there is, the source is back. It was left out all the same."""
    world.start(limit=4 * 4096)
    world.watch(A, B)
    world.mute = True
    while world.spool.offer(Kind.lines, bytes(50) + b"\n", 1) != REFUSED:
        pass
    world.step()
    out = world.now
    assert not world.vouch(A)
    world.now += HOUR
    back = world.now
    world.vouch(A, B)
    world.mute = False
    world.step()
    for _ in range(10):
        world.vouch(A, B)
        world.vouch(A, B)
        world.step()
    assert world.hole(out + S, back - S) is not None
    assert world.hole(world.now - S // 2, world.now - 3 * S // 10) is None


def test_a_line_that_was_refused_is_dated_when_it_was(world):
    """By the mark that follows it, which says how far somebody who is behind has read, it would be dated too early: the
    line may be younger than that."""
    world.start(limit=4 * 4096)
    began, behind = world.now, 30 * S

    def goes_on(count):
        for _ in range(count):
            world.sources.replace([A], began - behind)
            world.spool.append(Kind.mark, b"", at=world.now - behind)
            world.step()

    def fill(count):
        return any(world.spool.offer(Kind.lines, bytes(50) + b"\n", 1) == REFUSED for _ in range(count))

    goes_on(5)
    world.away = True
    fill(100)
    world.step()
    assert fill(1000)
    world.spool.lost(1)
    refused = world.now
    world.away = False
    world.sender._stopping.clear()
    world.sender.step()
    goes_on(250)
    assert sum(report["dropped"] for report in world.reports) == 1
    assert world.hole(refused - 25 * S, refused - 10 * S) is not None
    goes_on(100)
    assert world.hole(refused + 2 * S, refused + 3 * S) is None
