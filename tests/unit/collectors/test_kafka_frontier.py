"""How far reading is known to be complete, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.base import NOTHING_YET_MS
from collectors.kafka.frontier import Frontier, slot_of

A, B = ("orders", 0), ("orders", 1)


def following(**positions: int) -> Frontier:
    """A frontier that reads a and b."""
    frontier = Frontier()
    frontier.follow(A, positions.get("a", 0))
    frontier.follow(B, positions.get("b", 0))
    return frontier


def test_nothing_is_vouched_for_before_the_first_look() -> None:
    """An empty log that nobody asked about may have an end by now."""
    assert following().lag(1_000_000).ms == NOTHING_YET_MS


def test_reading_past_all_ends_is_complete_up_to_the_question() -> None:
    """Not up to the answer, nor up to the reading."""
    frontier = following()
    frontier.found(1_000_000, {A: 5, B: 3})
    frontier.passed(A, 5)
    frontier.settle()
    assert frontier.lag(2_000_000) == frontier.lag(2_000_000).__class__(NOTHING_YET_MS, 3)
    frontier.passed(B, 3)
    frontier.settle()
    assert frontier.lag(2_000_000).ms == 1000
    assert frontier.lag(2_000_000).backlog == 0


def test_a_goal_that_is_being_reached_does_not_move() -> None:
    """Under steady load each look would find new ends: the first counts until it is reached."""
    frontier = following(b=9)
    frontier.found(1_000_000, {A: 5, B: 9})
    frontier.found(2_000_000, {A: 50, B: 9})
    frontier.passed(A, 7)
    frontier.settle()
    assert frontier.complete_to == 1_000_000


def test_a_partition_that_is_gone_is_not_waited_for() -> None:
    """Its end will never be reached."""
    frontier = following()
    frontier.found(1_000_000, {A: 5, B: 0})
    frontier.forget([A])
    frontier.settle()
    assert frontier.complete_to == 1_000_000


def test_a_lag_is_rounded_up() -> None:
    """A lag says at least how old the last certainty is."""
    frontier = following()
    frontier.found(1_000_000, {})
    assert frontier.lag(1_000_001).ms == 1


@given(st.data())
def test_completeness_is_never_claimed_for_what_was_not_read(data: st.DataObject) -> None:
    """Whatever comes in whatever order: up to `complete_to`, every end that existed then has been passed."""
    frontier = following()
    ends: dict[int, dict[tuple[str, int], int]] = {}
    log = {A: 0, B: 0}
    for tick in range(1, data.draw(st.integers(1, 30)) + 1):
        slot = data.draw(st.sampled_from([A, B]))
        log[slot] += data.draw(st.integers(0, 3))
        ends[tick] = dict(log)
        if data.draw(st.booleans()):
            frontier.found(tick, log)
        frontier.passed(slot, data.draw(st.integers(0, log[slot])))
        frontier.settle()
        done = frontier.complete_to
        assert done is None or all(frontier.reach[s] >= end for s, end in ends[done].items())


def test_what_names_a_partition() -> None:
    """Topic and number, joined by the last slash; nothing else is one."""
    assert slot_of("orders/3") == ("orders", 3)
    assert [slot_of(text) for text in ("orders", "/3", "orders/", "orders/x", "orders/²", "")] == [None] * 6


def test_a_log_that_ends_before_where_reading_stands_says_nothing() -> None:
    """It was cut off, and others got the offsets since: they are read only when reading has gone back."""
    frontier = following(a=20)
    frontier.found(1_000_000, {A: 15, B: 0})
    assert frontier.complete_to is None
    frontier.again(A, 11)
    frontier.found(2_000_000, {A: 15, B: 0})
    assert frontier.lag(2_000_000).backlog == 4
    frontier.passed(A, 15)
    frontier.settle()
    assert frontier.complete_to == 2_000_000


def test_going_back_lets_go_of_what_was_found_before() -> None:
    """The old log's end is never reached, and says nothing of the new log."""
    frontier = following()
    frontier.found(1_000_000, {A: 20, B: 0})
    frontier.passed(A, 15)
    frontier.again(A, 11)
    frontier.settle()
    assert frontier.complete_to is None
    assert frontier.reach[A] == 11
    frontier.found(2_000_000, {A: 11, B: 0})
    assert frontier.complete_to == 2_000_000
