"""The runner with the in-memory log, a real emitter and a real HTTP server."""

from __future__ import annotations

import json
import threading
import time

import pytest

from collectors.base import NOTHING_YET_MS, Lag
from collectors.emitter import Emitter
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.memory import Config, MemoryBroker, MemoryCollector, Tailed
from collectors.runner import Bounds, Runner
from collectors.sender import Pace
from tests.contract.http_tracker import HttpTracker
from tracker.model.carry import MESSAGE_ID

QUICK = Bounds(read=10, wait=0.005, in_flight=30, backoff=(0.0, 0.0), vouch_every=0.01)
FAST = Pace(linger=0.005, heartbeat=0.02, backoff=(0.001, 0.01))


class Tail(MemoryCollector):
    """The in-memory collector, with trouble on demand; what was committed is noted."""

    def __init__(self, broker):
        super().__init__("one", Config(topics=[Tailed("t", "orders", "log")]), broker)
        self.trouble, self.committed, self.closed, self.undecided = [], [], False, False

    def read(self, limit, wait):
        """Fails while there is trouble."""
        if self.trouble:
            raise self.trouble.pop(0)
        return super().read(limit, wait)

    def commit(self, raws):
        """Notes the order."""
        self.committed += [raw.position.offset for raw in raws]
        super().commit(raws)

    def sources(self):
        """None while it is undecided."""
        return None if self.undecided else super().sources()

    def close(self):
        """Notes it."""
        self.closed = True


class World:
    """A broker, a tracker, a runner in a thread."""

    def __init__(self, folder):
        self.tracker, self.broker, self.folder = HttpTracker(), MemoryBroker(), folder
        self.broker.create("t")
        self.collector = Tail(self.broker)

    def start(self, bounds=QUICK, pace=FAST):
        """Run."""
        emitter = Emitter(self.tracker.url, collector="one", spool=self.folder / "one", reader=True, pace=pace)
        self.runner = Runner("one", self.collector, emitter, self.folder / "undecodable.ndjson", bounds=bounds)
        self.failure = None
        self.thread = threading.Thread(target=self.body)
        self.thread.start()

    def body(self):
        """The thread; keeps what the runner raised."""
        try:
            self.runner.run(grace=5)
        except CollectorError as error:
            self.failure = error

    def put(self, count, start=0):
        """Records with ids."""
        for i in range(start, start + count):
            self.broker.append("t", b"v", None, {MESSAGE_ID: b"m-%d" % i})

    def stop(self):
        """Finish."""
        self.runner.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def world(tmp_path):
    """A world, ended with the test."""
    found = World(tmp_path)
    yield found
    if hasattr(found, "thread"):
        found.stop()
    found.tracker.close()


def test_what_is_read_is_delivered_and_then_committed(world):
    """Everything arrives, commits come in order, and all is committed at the end."""
    world.put(100)
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.ids) == 100)
    world.stop()
    assert world.tracker.ids == [f"m-{i}" for i in range(100)]
    assert world.collector.committed == list(range(100))
    assert world.collector.closed
    assert world.runner.health.state == "stopped"
    assert (world.runner.health.read, world.runner.health.committed, world.runner.health.in_flight) == (100, 100, 0)


def test_where_positions_stand_for_what_lies_before_them_few_are_held(world):
    """A collector that says which of a read are enough is committed those alone; all are counted."""
    world.collector.ends_of = lambda raws: raws[-1:]
    world.put(100)
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.ids) == 100)
    world.stop()
    assert 10 <= len(world.collector.committed) < 100
    assert world.collector.committed[-1] == 99
    assert (world.runner.health.committed, world.runner.health.in_flight) == (100, 0)


def test_what_is_not_known_yet_is_neither_vouched_for_nor_a_hole(world):
    """What is read meanwhile is delivered; the source stays in every report, and no later time is vouched for until the
    collector knows again."""
    tracker = world.tracker
    world.start()
    assert tracker.until(lambda: any(r.report.get("sources") for r in tracker.stored))
    first = next(n for n, r in enumerate(tracker.stored) if r.report.get("sources"))
    assert tracker.until(lambda: tracker.stored[-1].reached > tracker.stored[first].reached + 200_000)
    world.collector.undecided = True
    began = time.time_ns() // 1000
    world.put(10)
    assert tracker.until(lambda: len(tracker.ids) == 10)
    count = len(tracker.stored)
    assert tracker.until(lambda: len(tracker.stored) > count + 3)
    undecided = tracker.stored[-1]
    world.collector.undecided = False
    assert tracker.until(lambda: tracker.stored[-1].reached > time.time_ns() // 1000 - 100_000)
    assert undecided.reached < began + 50_000
    assert all(r.report["sources"] for r in tracker.stored[first:] if r.report)


def test_nothing_is_committed_before_the_tracker_said_yes(world):
    """While the tracker refuses, reading goes on up to the bound and no further, and nothing is committed."""
    world.tracker.script.extend([(503, {}, {})] * 10**5)
    world.put(100)
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.requests) > 20)
    assert world.collector.committed == []
    assert world.runner.health.read <= QUICK.in_flight + QUICK.read
    world.tracker.script.clear()
    assert world.tracker.until(lambda: len(set(world.tracker.ids)) == 100)


def test_what_was_not_committed_comes_again(world):
    """A run that ends without the tracker's yes: the next one reads the same records again, and none is missing."""
    world.tracker.script.extend([(503, {}, {})] * 10**5)
    world.put(20)
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.requests) > 3)
    world.runner._finish = lambda grace: None  # killed: no flush, no commit
    world.stop()
    world.runner._emitter._sender.stop()
    world.runner._emitter._thread.join()
    world.runner._emitter._delivery.close()
    world.runner._emitter._spool.unlock()
    world.runner._emitter._closed = True
    world.tracker.script.clear()
    world.collector = Tail(world.broker)
    world.start()
    assert world.tracker.until(lambda: len(set(world.tracker.ids)) == 20)


def test_undecodable_records_are_kept_and_passed(world, caplog):
    """A record that is no message is set aside with its place and reason; the others arrive, all are committed."""
    world.put(3)
    for i in range(10):
        world.broker.append("t", b"no id %d" % i)
    world.put(3, start=3)
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.ids) == 6)
    world.stop()
    assert world.runner.health.undecodable == 10
    assert world.collector.committed == list(range(16))
    kept = [json.loads(line) for line in (world.folder / "undecodable.ndjson").read_text().splitlines()]
    assert len(kept) == 10
    assert "offset 3" in kept[0]["reason"]
    assert caplog.text.count("cannot be decoded") == 5


def test_a_defect_of_a_decoder_stops_nothing(world):
    """An exception that a decoder must not raise is one record set aside, and declared: nobody vouches for its time."""
    decode = world.collector.decode

    def broken(raw):
        if raw.position.offset == 1:
            raise KeyError("oops")
        return decode(raw)

    world.collector.decode = broken
    world.put(3)
    world.start()
    assert world.tracker.until(lambda: world.tracker.ids == ["m-0", "m-2"])
    assert "defect of the collector" in (world.folder / "undecodable.ndjson").read_text()
    assert world.tracker.until(lambda: any(request.report.get("dropped") == 1 for request in world.tracker.requests))


def test_an_unavailable_system_is_tried_again(world, caplog):
    """The runner backs off, says why once, and goes on when the system is back; coverage stands still meanwhile."""
    world.collector.trouble = [Unavailable("broker at h:1 refused the connection")] * 3
    world.put(1)
    world.start()
    assert world.tracker.until(lambda: world.tracker.ids == ["m-0"])
    assert caplog.text.count("refused the connection") == 1
    world.stop()
    assert world.runner.health.last_error == ""


@pytest.mark.parametrize("behind", [NOTHING_YET_MS, None])
def test_an_empty_answer_is_no_sign_of_life(world, behind):
    """A read that gives nothing, while what is vouched for does not move, shows nothing: whoever asks is told so, and
    the pauses go on growing. Once it moves, the collector runs."""
    began = time.time()
    world.collector.lag = lambda: Lag(behind or round((time.time() - began + 5) * 1000))
    world.start()
    assert world.tracker.until(lambda: len(world.tracker.requests) > 5)
    known = world.runner.health.last_read  # the first lag that is known is news
    assert bool(known) == (behind is None)
    world.collector.trouble = [Unavailable("away")]
    assert world.tracker.until(lambda: world.runner.health.failures == 1)
    count = len(world.tracker.requests)
    assert world.tracker.until(lambda: len(world.tracker.requests) > count + 5)
    assert (world.runner.health.state, world.runner.health.last_read) == ("unavailable", known)
    world.collector.lag = Lag
    assert world.tracker.until(lambda: world.runner.health.state == "running")
    assert world.runner.health.failures == 0


def test_the_pause_grows_with_jitter_up_to_its_bound(world, monkeypatch):
    """Each failure may wait twice as long as the one before, at most the bound, times chance."""
    emitter = Emitter(world.tracker.url, collector="one", spool=world.folder / "one", reader=True, pace=FAST)
    runner = Runner(
        "one", world.collector, emitter, world.folder / "u", bounds=Bounds(backoff=(1.0, 5.0)), chance=lambda: 0.5
    )
    waits: list[float] = []
    monkeypatch.setattr(runner._stopping, "wait", waits.append)
    for _ in range(5):
        runner._back_off(Unavailable("away"))
    assert waits == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert runner.health.state == "unavailable"
    assert runner.health.failures == 5
    emitter.close()


def test_what_cannot_be_mended_ends_the_run(world):
    """A permanent error is raised from run, kept in the health snapshot, and everything is closed."""
    world.collector.trouble = [ConfigInvalid("no permission to read topic t")]
    world.start()
    world.thread.join(10)
    assert isinstance(world.failure, ConfigInvalid)
    assert world.runner.health.state == "failed"
    assert "no permission" in world.runner.health.last_error
    assert world.collector.closed


def test_lag_and_sources_of_the_collector_are_reported(world):
    """Reports list the collector's sources, and their lag is at least the collector's."""
    world.collector.lag = lambda: Lag(ms=5000, backlog=3)
    world.start()
    assert world.tracker.until(lambda: world.tracker.requests and world.tracker.requests[-1].report["sources"])
    report = world.tracker.requests[-1].report
    assert [s["source"] for s in report["sources"]] == ["t/0"]
    assert report["lag_ms"] >= 5000
    assert report["backlog"] == 3
    assert world.runner.health.lag_ms == 5000


def test_coverage_stands_still_while_the_system_is_away(world):
    """With the broker gone no report vouches for later times than the last look at it."""
    world.start()
    assert world.tracker.until(lambda: world.tracker.requests and world.tracker.requests[-1].report["sources"])
    world.collector.trouble = [Unavailable("gone")] * 10**6
    count = len(world.tracker.requests)
    assert world.tracker.until(lambda: len(world.tracker.requests) > count + 6)
    reached = [request.reached for request in world.tracker.requests[count + 2 :]]
    assert max(reached) - min(reached) < 200_000
    assert world.tracker.requests[-1].report["lag_ms"] > world.tracker.requests[count + 2].report["lag_ms"]


def test_a_full_spool_stops_the_reading(world):
    """With no room left the runner waits and loses nothing."""
    world.tracker.script.extend([(503, {}, {})] * 10**5)
    emitter = Emitter(
        world.tracker.url, collector="one", spool=world.folder / "one", reader=True, pace=FAST, limit=4 * 4096
    )
    bounds = Bounds(read=10, wait=0.005, in_flight=10**6, vouch_every=0.01)
    world.runner = Runner("one", world.collector, emitter, world.folder / "u", bounds=bounds)
    world.thread = threading.Thread(target=world.body)
    world.put(500)
    world.thread.start()
    assert world.tracker.until(lambda: world.runner.health.state == "waiting")
    world.tracker.script.clear()
    assert world.tracker.until(lambda: len(set(world.tracker.ids)) == 500)
    assert emitter.counts.dropped == 0


def test_payloads_are_not_held_until_the_commit(world):
    """What waits for the tracker is positions, not payloads."""
    world.tracker.script.extend([(503, {}, {})] * 10**5)
    world.put(5)
    world.start()
    assert world.tracker.until(lambda: world.runner.health.in_flight == 5)
    held = [raw for *_, raws in world.runner._flying for raw in raws]
    assert {raw.value for raw in held} == {b""}
    world.tracker.script.clear()
