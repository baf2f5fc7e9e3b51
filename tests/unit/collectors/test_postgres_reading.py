from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.postgres.pgoutput import Begin, Relation
from collectors.postgres.reading import Reading

RELATION = Relation(7, "public.outbox", "d", ("id",), (25,))
ROW = b"I" + (7).to_bytes(4, "big") + b"N"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=12), st.integers(0, 3))
def test_nothing_is_confirmed_that_the_tracker_has_not(transactions, torn):
    """Whatever is stored when: a transaction whose rows are not all stored comes again, and when all are, nothing does.
    `transactions`: their rows, and how many rows are stored after each; `torn`: rows of one that has not ended."""
    reading = Reading(1)
    reading.relations[7] = RELATION
    waiting, ends, lsn = [], {}, 100
    for rows, stored in transactions:
        reading.begin(Begin(lsn, 0))
        waiting += [raw for _ in range(rows) for raw in reading.changes(ROW)]
        reading.passed(lsn + 5)  # a keepalive in mid-transaction says nothing
        reading.end(lsn + 10)
        ends[lsn] = lsn + 10
        for raw in waiting[:stored]:
            reading.done(raw.position)
        waiting = waiting[stored:]
        open_ones = [ends[raw.position.lsn] for raw in waiting]
        assert reading.confirmable < min(open_ones, default=lsn + 11)
        assert waiting or reading.confirmable == lsn + 10
        lsn += 20
    reading.begin(Begin(lsn, 0))
    waiting += [raw for _ in range(torn) for raw in reading.changes(ROW)]
    for raw in waiting:
        reading.done(raw.position)
    assert reading.confirmable <= lsn


def test_what_an_earlier_stream_gave_says_nothing():
    """It may have been another server's, whose places in the log were higher."""
    old, new = Reading(1), Reading(2)
    for reading, lsn in ((old, 1000), (new, 50)):
        reading.relations[7] = RELATION
        reading.begin(Begin(lsn, 0))
    (far,), (near,) = old.changes(ROW), new.changes(ROW)
    new.end(60)
    new.done(far.position)
    assert new.confirmable == 0
    new.done(near.position)
    assert new.confirmable == 60


def test_rows_of_other_tables_are_passed_over():
    """A publication of all tables sends them."""
    reading = Reading(1)
    reading.begin(Begin(50, 0))
    assert reading.changes(ROW) == []
    assert reading.changes(b"T" + (1).to_bytes(4, "big") + b"\x00" + (7).to_bytes(4, "big")) == []
    reading.end(60)
    assert reading.confirmable == 60
