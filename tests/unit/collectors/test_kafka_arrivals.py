"""When a copy came, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Raw
from collectors.kafka import arrivals as module
from collectors.kafka.arrivals import Arrivals
from collectors.kafka.records import Place

SLOT, OTHER = ("eu.orders", 0), ("eu.orders", 1)


def looked(*looks: tuple[int, int], apart: int = 150) -> Arrivals:
    """Looks at one partition: (moment, end); the answers take 3."""
    arrivals = Arrivals(apart)
    for at, end in looks:
        arrivals.found(at, at + 3, {SLOT: end})
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
    assert looked((100, 5), (200, 5), (300, 5)).between(SLOT, 5, 999) == (300, 999)


def test_a_look_of_long_ago_dates_nothing() -> None:
    """The tail was held up for hours: a copy came at some time between two looks, or until it was read."""
    arrivals = looked((100, 5), (9000, 7), (9100, 8))
    assert [arrivals.dated(copy(offset, 1), 9500).position.came for offset in (5, 6, 7, 8)] == [
        (100, 9003), (100, 9003), (9000, 9000), (9100, 9500),
    ]  # fmt: skip
    assert looked((100, 5)).dated(copy(5, 8990), 9000).position.came == (8990, 8990)
    assert looked((100, 5)).dated(copy(5, 60, created=False), 9000).position.came == (100, 100)


def test_what_was_there_before_the_first_look_may_be_as_old_as_its_timestamp() -> None:
    """So may what was in a partition that nobody looked at; a timestamp of the future is none."""
    arrivals = looked((100, 5))
    assert arrivals.dated(copy(4, 1), 250).position.came == (1, 250)
    assert arrivals.dated(copy(4, 999), 250).position.came == (250, 250)
    assert arrivals.between(OTHER, 9, 250) is None


def test_a_log_that_stamps_what_it_appends_says_when_it_came() -> None:
    """Also when nobody looked."""
    assert looked((100, 5)).dated(copy(4, 60, created=False), 250).position.came == (60, 60)


def test_a_clock_that_was_set_back_makes_no_span_that_ends_before_it_begins() -> None:
    """The tracker would refuse the line."""
    assert looked((100, 5)).dated(copy(5, 1), 60).position.came == (60, 60)


def test_an_end_that_was_cut_off_says_nothing_of_what_came_there_later() -> None:
    """Whether the next look shows it or the log has grown again before."""
    seen, told = looked((100, 5), (200, 9), (300, 7), (400, 9)), looked((100, 5), (200, 9))
    told.cut(SLOT, 7)
    told.found(400, 403, {SLOT: 9})
    assert seen.between(SLOT, 8, 999) == (300, 403)
    assert told.between(SLOT, 8, 999) == (100, 403)


def test_a_partition_that_begins_anew_is_dated_anew() -> None:
    """Its old ends say nothing of its new records."""
    arrivals = looked((100, 5))
    arrivals.forget([SLOT])
    assert arrivals.between(SLOT, 5, 250) is None


def test_of_a_long_backlog_the_oldest_looks_are_forgotten() -> None:
    """And nothing is said of the records that they told of."""
    arrivals = looked(*((at, at + 1) for at in range(module.KEPT + 5)))
    assert (arrivals.between(SLOT, 5, 9999), arrivals.between(SLOT, 6, 9999)) == (None, (5, 9))


@given(st.lists(st.tuples(st.sampled_from(["append", "look", "read", "cut"]), st.integers(0, 9)), max_size=60))
def test_a_record_came_between_the_looks_that_date_it(steps: list[tuple[str, int]]) -> None:
    """Whatever appends, looks and reads come in which order, also when the log is cut and grows again."""
    arrivals, log, read = Arrivals(0), list[int](), 0
    for now, (step, count) in enumerate(steps):
        if step == "append":
            log += [now] * count
        elif step == "look":
            arrivals.found(now, now, {SLOT: len(log)})
        elif step == "cut":
            del log[max(read, len(log) - count) :]
            arrivals.cut(SLOT, len(log))
        else:
            for offset in range(read, min(read + count, len(log))):
                found = arrivals.between(SLOT, offset, now)
                assert found is None or found[0] <= log[offset] <= found[1]
                read += 1
