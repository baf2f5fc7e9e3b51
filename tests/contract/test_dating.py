"""What an emitter reports of its clock, against a real HTTP server whose clock is another one."""

from __future__ import annotations

import pytest

from tests.contract.test_emitter import event, gone
from tracker.model.clock import Offset

HOUR = 3_600_000_000


def offsets(tracker):
    """(offset, error) of every batch that was stored, in order."""
    return [Offset(r.report["offset_us"], r.report["error_us"]) for r in tracker.stored if r.lines]


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_the_first_line_already_goes_with_a_measured_clock(tracker, emitter, ahead):
    """One question before it, none after it: every answer measures. Offset and error hold the truth."""
    tracker.ahead = ahead
    found = emitter()
    for number in range(3):
        found.emit([event(number)])
        assert found.flush()
    assert tracker.probes == 2
    assert len(offsets(tracker)) == 3
    assert all(abs(one.offset - ahead) <= one.error < 2_000_000 for one in offsets(tracker))


def test_a_reader_says_nothing_of_its_clock(tracker, emitter):
    """It passes on what a broker's clock said; with `own_clock` it is dated like a client."""
    found = emitter(reader=True)
    found.emit([event(1)])
    assert found.flush()
    found.close()
    assert (tracker.probes, offsets(tracker)) == (0, [(None, 0)])
    other = emitter(reader=True, own_clock=True)
    other.emit([event(2)])
    assert other.flush()
    assert offsets(tracker)[-1].offset is not None


def test_a_tracker_that_does_not_tell_is_asked_once(tracker, emitter):
    """An older one: the lines go out with their times as they are."""
    tracker.tells = False
    found = emitter()
    for number in range(3):
        found.emit([event(number)])
        assert found.flush()
    assert tracker.probes == 1
    assert [one.offset for one in offsets(tracker)] == [None] * 3


def test_a_batch_sent_again_says_the_same_of_its_clock(tracker, emitter):
    """Also by the next process, whatever it measures: copies of an event have equal times."""
    tracker.script.extend([(503, {}, {"title": "busy"})] * 2 + [(500, {}, {"title": "down"})] * 10_000)
    first = emitter()
    first.emit([event(1)])
    assert tracker.until(lambda: len(tracker.requests) > 3)
    gone(first)
    tracker.script.clear()
    tracker.ahead = HOUR
    assert emitter().flush()
    said = {(r.report["offset_us"], r.report["error_us"]) for r in tracker.requests if r.lines}
    assert len(said) == 1


def test_lines_of_an_earlier_process_are_dated_by_the_clock_that_is_still_the_same(tracker, emitter):
    """Killed before it could send: the wall clock was not set since, so what is measured now holds for them."""
    tracker.ahead = HOUR
    first = emitter()
    first.emit([event(0)])
    assert first.flush()
    first._sender.stop()
    first._thread.join()
    first.emit([event(1)])
    gone(first)
    second = emitter()
    assert second.flush()
    assert abs(offsets(tracker)[-1].offset - HOUR) < 2_000_000


def test_lines_dated_by_a_clock_that_was_set_since_are_not_corrected(tracker, emitter, monkeypatch):
    """Nobody measured that clock. What is emitted afterwards is measured anew."""
    tracker.ahead = HOUR
    first = emitter()
    first.emit([event(0)])
    assert first.flush()
    first._sender.stop()
    first._thread.join()
    first.emit([event(1)])
    gone(first)
    first._sender._standing.wall -= HOUR
    first._sender._keep(None, [])
    second = emitter()
    assert second.flush()
    second.emit([event(2)])
    assert second.flush()
    assert [one.offset is None for one in offsets(tracker)] == [False, True, False]


def test_nothing_is_sent_undated_while_the_tracker_is_away(tracker, emitter):
    """The question cannot be answered, so the lines wait; they could not be delivered either."""
    url = tracker.url
    tracker.close()
    found = emitter(url=url)
    found.emit([event(1)])
    assert not found.flush(0.3)
    assert found.counts.sent == 0
    assert "does not answer" in found.counts.last_error
