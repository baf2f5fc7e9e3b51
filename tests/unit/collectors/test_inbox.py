from __future__ import annotations

from collectors.base import NOTHING_YET_MS, Lag, Raw
from collectors.inbox import Inbox
from tracker.model.coverage import SourceRef

REFS = [SourceRef("orders", "broker", "persist", "one")]


def made(now=5_000_000):
    """An inbox, and its clock."""
    return Inbox(REFS, lambda: now)


def test_a_mark_counts_when_what_lies_before_it_was_taken():
    """Not a moment earlier: what was not taken was not read."""
    inbox = made()
    inbox.put(Raw(b"a"))
    inbox.put(Raw(b"b"))
    inbox.complete(4_000_000)
    assert [raw.value for raw in inbox.take(2)] == [b"a", b"b"]
    assert (inbox.sources(), inbox.lag()) == (None, Lag(NOTHING_YET_MS, 0))
    assert bool(inbox)
    assert inbox.take(1) == []
    assert (inbox.sources(), inbox.lag()) == (REFS, Lag(1000, 0))
    assert not inbox


def test_a_lag_is_never_understated():
    """Half a millisecond counts as one."""
    inbox = made(now=1_000_500)
    inbox.complete(1_000_000)
    inbox.take(1)
    assert inbox.lag() == Lag(1, 0)


def test_a_hole_is_one_empty_answer_however_late_it_is_asked_for():
    """Also where it is complete again before anybody asked."""
    inbox = made()
    inbox.complete(1_000_000)
    inbox.take(1)
    assert inbox.sources() == REFS
    inbox.hole()
    inbox.put(Raw(b"a"))
    assert inbox.sources() == REFS
    inbox.take(1)
    assert inbox.lag() == Lag(NOTHING_YET_MS, 0)
    inbox.complete(2_000_000)
    inbox.complete(3_000_000, hole=True)
    inbox.take(1)
    assert [inbox.sources(), inbox.sources()] == [[], REFS]
    assert inbox.lag() == Lag(2000, 0)


def test_what_waits_is_the_backlog():
    """Records, not marks."""
    inbox = made()
    inbox.complete(1)
    for value in (b"a", b"b", b"c"):
        inbox.put(Raw(value))
    inbox.take(1)
    assert inbox.lag().backlog == 2
    assert inbox.size == 2


def test_a_read_pumps_until_something_came():
    """Not longer than there is more to come, and not for more than it was asked for."""
    inbox, waits = made(), []

    def pump(wait):
        waits.append(wait)
        if len(waits) == 2:
            inbox.put(Raw(b"a"))
            inbox.put(Raw(b"b"))
        return len(waits) < 4

    assert [raw.value for raw in inbox.read(1, 60.0, pump)] == [b"a"]
    assert [raw.value for raw in inbox.read(9, 60.0, pump)] == [b"b"]
    assert waits[2] == 0.0
    assert inbox.read(9, 60.0, pump) == []
    assert inbox.read(9, 0.0, lambda _: True) == []


def test_holes_that_nobody_was_told():
    """Wherever they lie."""
    inbox = made()
    inbox.hole()
    inbox.complete(1, hole=True)
    inbox.complete(2)
    assert inbox.untold == 2
    inbox.take(1)
    assert inbox.untold == 2
    inbox.sources()
    assert inbox.untold == 0
