import threading
import time
from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pytest

from tests.unit.ingest.lines import batch, event
from tracker.ingest import commit
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.errors import Busy
from tracker.model.errors import Invalid, Unavailable

REPORT = '{"collector": "c", "epoch": 1, "sequence": 1}'


class Recorder:
    """Remembers what was inserted, in order; raises what it is told to."""

    def __init__(self, refuse: Callable[[pa.Table], Exception | None] = lambda columns: None) -> None:
        self.inserts: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.refuse = refuse
        self.insert_events = partial(self._insert, "events")
        self.insert_ranges = partial(self._insert, "ranges")
        self.insert_quarantine = partial(self._insert, "quarantine")
        self.insert_reports = partial(self._insert, "reports")

    def _insert(self, name: str, columns: pa.Table) -> None:
        self.gate.wait(10)
        error = self.refuse(columns)
        if error:
            raise error
        self.inserts.append((name, columns.num_rows))


@pytest.fixture
def recorder():
    """A store that takes everything."""
    return Recorder()


@pytest.fixture
def committer(recorder):
    """Writes at once, holds at most 100 kB."""
    made = Committer(recorder, Bounds(rows=100, wait=0, memory=100_000))
    yield made
    recorder.gate.set()
    made.close()


def test_reports_are_stored_after_their_events(recorder, committer):
    """Nobody is vouched for before the events are durable."""
    committer.submit(batch(event(), b"x", header=REPORT)).result(10)
    assert [name for name, _ in recorder.inserts] == ["events", "quarantine", "reports"]


def test_requests_that_wait_together_share_an_insert(recorder, committer):
    """While one group is written the next one gathers, and goes in one insert; each request gets its own answer."""
    recorder.gate.clear()
    first = committer.submit(batch(event()))
    waiting = [committer.submit(batch(event(), event())) for _ in range(5)]
    recorder.gate.set()
    assert first.result(10).accepted == 1
    assert [answer.result(10).accepted for answer in waiting] == [2] * 5
    assert sum(rows for _, rows in recorder.inserts) == 11
    assert len(recorder.inserts) <= 3


def test_nobody_is_answered_before_the_rows_are_durable(recorder, committer):
    """The answer comes from the store's word, not from the queue."""
    recorder.gate.clear()
    answer = committer.submit(batch(event()))
    assert not answer.done()
    recorder.gate.set()
    assert answer.result(10).accepted == 1


def test_memory_for_waiting_batches_is_bounded(recorder, committer):
    """When the store is slower than the senders, they are told to come back; what was taken is kept."""
    recorder.gate.clear()
    full = batch(*[event()] * 50)
    answers = [committer.submit(full) for _ in range(100_000 // full.size)]
    with pytest.raises(Busy, match="wait to be stored"):
        committer.submit(full)
    assert committer.refused() == 1
    recorder.gate.set()
    assert all(answer.result(10).accepted == 50 for answer in answers)


def test_who_is_not_let_in_counts_when_nobody_gets_on(recorder):
    """Where there is no slot for a moment he comes again; where those within wait for the store he was refused."""
    committer = Committer(recorder, Bounds(wait=0, patience=0.05))
    recorder.gate.clear()
    answer = committer.submit(batch(event()))
    committer.turn_away()
    assert committer.refused() == 0
    while not committer.behind():
        time.sleep(0.01)
    committer.turn_away()
    assert committer.refused() == 1
    recorder.gate.set()
    assert answer.result(10).accepted == 1
    committer.turn_away()
    assert committer.refused() == 1
    committer.close()


def test_a_store_that_is_down_is_told_to_every_waiting_request():
    """Unavailable reaches each sender, who has the batch and tries again."""
    committer = Committer(Recorder(lambda columns: Unavailable("gone")), Bounds(wait=0))
    answers = [committer.submit(batch(event())) for _ in range(3)]
    for answer in answers:
        with pytest.raises(Unavailable, match="gone"):
            answer.result(10)
    assert committer.refused() == 3
    committer.close()


def test_a_request_that_the_engine_refuses_stands_alone():
    """One poisoned batch does not take its neighbours in the group down, nor does it count as one without a place."""
    poisoned = Recorder(lambda c: Invalid("no") if "bad" in c["message_id"].to_pylist() else None)
    committer = Committer(poisoned, Bounds(wait=0))
    poisoned.gate.clear()
    answers = [committer.submit(batch(event(message_id=name))) for name in ("a", "b", "bad", "c")]
    poisoned.gate.set()
    assert [answers[i].result(10).accepted for i in (0, 1, 3)] == [1, 1, 1]
    with pytest.raises(Invalid, match="no"):
        answers[2].result(10)
    assert committer.refused() == 0
    committer.close()


def test_closing_writes_what_waits(recorder):
    """A graceful stop loses nothing that was taken, and takes nothing more."""
    committer = Committer(recorder, Bounds(wait=30))
    answer = committer.submit(batch(event()))
    committer.close()
    assert answer.result(0).accepted == 1
    with pytest.raises(Busy, match="shutting down"):
        committer.submit(batch(event()))


def test_whoever_waits_long_says_that_more_comes_than_is_written(recorder, committer, monkeypatch):
    """For a while, so that what else costs processors can wait; answers in time say the opposite."""
    monkeypatch.setattr(commit, "PRESSED", 0.2)
    monkeypatch.setattr(commit, "LATELY", 30.0)
    committer.submit(batch(event())).result(10)
    assert not committer.pressed()
    recorder.gate.clear()
    answer = committer.submit(batch(event()))
    time.sleep(0.3)
    recorder.gate.set()
    answer.result(10)
    committer.submit(batch(event())).result(10)
    assert committer.pressed()
    monkeypatch.setattr(commit, "LATELY", 0.0)
    assert not committer.pressed()
