"""When a copy came, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Raw
from collectors.kafka import arrivals as module
from collectors.kafka.arrivals import Arrivals
from collectors.kafka.records import Place

SLOT, OTHER = ("eu.orders", 0), ("eu.orders", 1)


def looked(*looks: tuple[int, int]) -> Arrivals:
    """Looks at one partition: (moment, end)."""
    arrivals = Arrivals()
    for at, end in looks:
        arrivals.found(at, {SLOT: end})
    return arrivals


def copy(offset: int, stamp: int, created: bool = True) -> Raw:
    """A record as it is read."""
    return Raw(b"", position=Place(*SLOT, offset, "id", created), observed_at=stamp)


def test_a_copy_came_after_the_last_look_that_did_not_find_it() -> None:
    """Its original's timestamp, from long before, does not matter; one from after that look is closer to the truth."""
    arrivals = looked((100, 5), (200, 7))
    assert [arrivals.dated(copy(offset, 1), 250).position.came for offset in (5, 6, 7)] == [
        (100, 100), (100, 100), (200, 200),
    ]  # fmt: skip
    assert arrivals.dated(copy(8, 230), 250).position.came == (230, 230)
    assert arrivals.dated(copy(9, 999), 250).position.came == (250, 250)


def test_a_look_that_finds_the_same_end_is_a_later_one() -> None:
    """The mirror was down until then."""
    assert looked((100, 5), (200, 5), (300, 5)).after(SLOT, 5) == 300


def test_what_was_there_before_the_first_look_may_be_as_old_as_its_timestamp() -> None:
    """So may what was in a partition that nobody looked at; a timestamp of the future is none."""
    arrivals = looked((100, 5))
    assert arrivals.dated(copy(4, 1), 250).position.came == (1, 250)
    assert arrivals.dated(copy(4, 999), 250).position.came == (250, 250)
    assert arrivals.after(OTHER, 9) is None


def test_a_log_that_stamps_what_it_appends_says_when_it_came() -> None:
    """Also when nobody looked."""
    assert looked((100, 5)).dated(copy(4, 60, created=False), 250).position.came == (60, 60)


def test_a_clock_that_was_set_back_makes_no_span_that_ends_before_it_begins() -> None:
    """The tracker would refuse the line."""
    assert looked((100, 5)).dated(copy(5, 1), 60).position.came == (60, 60)


def test_a_partition_that_begins_anew_is_dated_anew() -> None:
    """Its old ends say nothing of its new records."""
    arrivals = looked((100, 5))
    arrivals.forget([SLOT])
    assert arrivals.after(SLOT, 5) is None


def test_of_a_long_backlog_the_oldest_looks_are_forgotten() -> None:
    """And nothing is said of the records that they told of."""
    arrivals = looked(*((at, at + 1) for at in range(module.KEPT + 5)))
    assert (arrivals.after(SLOT, 5), arrivals.after(SLOT, 6)) == (None, 5)


@given(st.lists(st.tuples(st.sampled_from(["append", "look", "read", "cut"]), st.integers(0, 9)), max_size=60))
def test_a_record_is_never_dated_after_it_came(steps: list[tuple[str, int]]) -> None:
    """Whatever appends, looks and reads come in which order, also when the log is cut and grows again."""
    arrivals, log, read = Arrivals(), list[int](), 0
    for now, (step, count) in enumerate(steps):
        if step == "append":
            log += [now] * count
        elif step == "look":
            arrivals.found(now, {SLOT: len(log)})
        elif step == "cut":
            del log[max(read, len(log) - count) :]
        else:
            for offset in range(read, min(read + count, len(log))):
                after = arrivals.after(SLOT, offset)
                assert after is None or after <= log[offset]
                read += 1
