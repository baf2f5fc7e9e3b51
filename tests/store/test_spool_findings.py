"""What lies in the spool was seen: nobody is called missing while it waits there, and it counts once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from tests.world.installation import T0, Installation, row
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.spool import Spool
from tracker.model.errors import Unavailable
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND
from tracker.reconcile.arrears import TTL, Arrears
from tracker.reconcile.reconciler import Reconciler
from tracker.store.columns import EVENTS, REPORTS

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 5s}
"""
SOURCES = [{"flow": "orders", "hop": "billing", "stage": "ack", "source": "pod-1", "evidence": "message"}]


class Door:
    """A real store whose inserts fail while the door is shut; questions are answered all the time."""

    def __init__(self, world: Installation) -> None:
        self.store = world.store
        self.open = True

    def insert_events(self, columns: pa.Table) -> None:
        """As the store does, and so the others."""
        self._check()
        self.store.insert_events(columns)

    def insert_ranges(self, columns: pa.Table) -> None:
        """Range evidence."""
        self._check()
        self.store.insert_ranges(columns)

    def insert_quarantine(self, columns: pa.Table) -> None:
        """Bad lines."""
        self._check()
        self.store.insert_quarantine(columns)

    def insert_reports(self, columns: pa.Table) -> None:
        """Reports."""
        self._check()
        self.store.insert_reports(columns)

    def _check(self) -> None:
        if not self.open:
            raise Unavailable("read-only")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    """An installation with the flow."""
    installation = Installation(tmp_path / "world")
    installation.put(SPEC)
    yield installation
    installation.close()


@pytest.fixture
def way_in(world: Installation, tmp_path: Path) -> Iterator[tuple[Committer, Door]]:
    """The way into that store, with a spool."""
    door = Door(world)
    spool = Spool.open(tmp_path / "spool", 1 << 20, fsync=True, ledger="x", clock=lambda: world.now)
    committer = Committer(door, Bounds(wait=0), spool=spool)
    yield committer, door
    door.open = True
    committer.close()
    spool.close()


def send(
    world: Installation, committer: Committer, hop: str, stage: Stage, report: int = 0, message_id: str = "m"
) -> None:
    """One event at this hop, observed and received now; with the report of this sequence."""
    event = Event(flow="orders", message_id=message_id, hop=hop, stage=stage, observed_at=world.now)
    reports = [
        {"tenant": "", "collector": "c", "epoch": 1, "sequence": report, "events": 1, "lag_ms": 0, "backlog": 0,
         "dropped": 0, "received_at": world.now, "sources": SOURCES, "signed_off": []}
    ]  # fmt: skip
    batch = Batch(
        Accepted(1, 0),
        events=pa.Table.from_pylist([row(event, world.now)], schema=EVENTS),
        reports=pa.Table.from_pylist(reports if report else [], schema=REPORTS),
    )
    assert committer.submit(batch).result(10).accepted == 1


def drained(committer: Committer) -> None:
    """Wait until the store has everything."""
    deadline = time.monotonic() + 20
    while committer.behind():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def findings(world: Installation) -> list[str]:
    """Of the flow, whatever became of them."""
    return [f"{f.kind} {f.status}" for f in world.store.findings("orders")]


@pytest.fixture
def after_an_outage(world: Installation, way_in: tuple[Committer, Door]) -> tuple[Committer, Door]:
    """m was produced; its ack came in time, but the store took nothing any more. Now, 20 minutes later, the store
    answers questions again, and m's ack still waits in the spool."""
    committer, door = way_in
    send(world, committer, "billing", Stage.ack, message_id="other")  # so that its coverage is assumed
    send(world, committer, "shop", Stage.produce)
    world.run_pass()
    door.open = False
    world.now += 2 * SECOND
    send(world, committer, "billing", Stage.ack)
    world.now += 20 * 60 * SECOND
    return committer, door


def test_a_reconciler_that_does_not_know_of_the_spool_is_wrong(
    world: Installation, after_an_outage: tuple[Committer, Door]
) -> None:
    """Why passes wait: billing's coverage is assumed for 15 minutes, so m's ack looks overdue; it is a false finding,
    which is withdrawn when the spool is stored."""
    committer, door = after_an_outage
    world.run_pass()
    assert findings(world) == ["unacknowledged open"]
    door.open = True
    drained(committer)
    world.run_pass()
    assert findings(world) == ["unacknowledged withdrawn"]


def test_nothing_is_judged_while_events_wait_in_the_spool(
    world: Installation, after_an_outage: tuple[Committer, Door]
) -> None:
    """No pass is begun before the store has them; the first one then finds m delivered in time, and no finding ever."""
    committer, door = after_an_outage
    reconciler = Reconciler(world.store, world.control, lambda: world.now, committer.behind)
    assert reconciler.run_pass().number == 0
    door.open = True
    drained(committer)
    assert reconciler.run_pass().number > 0
    assert findings(world) == []
    assert world.store.counts()["orders"]["delivered"] == 2  # m and the other one


def test_other_trackers_wait_too(world: Installation, after_an_outage: tuple[Committer, Door]) -> None:
    """A second tracker on the same store, whose own spool is empty, begins no pass while the first one's holds
    something; it does once that is drained, or when the first one has not been heard of for a while."""
    committer, door = after_an_outage
    mine = Arrears(world.control, "mine", committer.behind, lambda: world.now, shared=True)
    other = Arrears(world.control, "other", lambda: False, lambda: world.now, shared=True)
    mine.tell()
    assert (mine.hold(), other.hold()) == (True, True)
    world.now += TTL + 1
    assert other.hold() is False
    mine.tell()
    assert other.hold() is True
    door.open = True
    drained(committer)
    mine.tell()
    assert (mine.hold(), other.hold()) == (False, False)


def test_what_is_stored_twice_counts_once(world: Installation, tmp_path: Path) -> None:
    """A tracker is killed between storing a segment and removing it, so its batches are stored again: verdicts, books
    and coverage are those of one time."""
    now = count(T0)
    spool = Spool.open(tmp_path / "spool", 1 << 20, fsync=True, ledger="x", clock=lambda: next(now))
    door = Door(world)
    door.open = False
    committer = Committer(door, Bounds(wait=0), spool=spool)
    for number in (1, 2, 3):
        send(world, committer, "shop", Stage.produce, report=number)
        world.now += SECOND
    send(world, committer, "billing", Stage.ack, report=4)
    committer.close()
    spool.close()
    [left] = (tmp_path / "spool").glob("*.spool")
    bytes_ = left.read_bytes()
    for _ in range(2):
        left.write_bytes(bytes_)
        again = Spool.open(tmp_path / "spool", 1 << 20, fsync=True, ledger="x", clock=lambda: next(now))
        with closing(Committer(world.store, Bounds(wait=0), spool=again)) as second:
            drained(second)
        again.close()
        world.run_pass()
    [run] = world.store.runs("orders")
    assert (run.first_sequence, run.last_sequence, run.start, run.end) == (1, 4, T0, T0 + 3 * SECOND)
    counts = world.store.counts()["orders"]
    assert sum(counts.values()) == 1
    assert len(world.store.timeline("orders", "m")) == 2
