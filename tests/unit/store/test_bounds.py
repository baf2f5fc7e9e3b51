"""What a pass covers, as SQL values and from pass to pass."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.store.bounds import FORGET_AFTER, Bounds, from_json

Stored = list[tuple[int, int, int]]
NOW = 1_800_000_000_000_000

inserts = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 40), st.integers(1, 50)),
    max_size=30,
    unique_by=lambda insert: (insert[0], insert[1]),
)


def covers(bounds: Bounds, lane: int, sequence: int) -> bool:
    """What the SQL of `Bounds.new` says of one row, computed from the same parameters."""
    values = bounds.parameters
    ends = dict(zip(values["lanes"], values["until"], strict=True))
    starts = dict(zip(values["lanes"], values["after"], strict=True))
    within = values["lowest"] < sequence <= values["highest"]
    return within and starts.get(lane, 0) < sequence <= ends.get(lane, 0)


@settings(max_examples=50, deadline=None)
@given(stored=inserts, limit=st.integers(1, 200))
def test_every_insert_is_in_exactly_one_pass(stored: Stored, limit: int) -> None:
    """However few rows a pass takes on, the passes together take each insert once, and whole."""
    stored = [(lane, NOW + n, rows) for lane, n, rows in stored]
    bounds, taken, passes = Bounds(), [], 0
    while True:
        bounds = bounds.next(stored, 0, limit)
        if bounds.empty:
            break
        passes += 1
        assert passes <= len(stored)
        taken += [insert for insert in stored if covers(bounds, insert[0], insert[1])]
    assert sorted(taken) == sorted(stored)


@settings(max_examples=50, deadline=None)
@given(first=inserts, later=inserts)
def test_an_insert_of_another_lane_that_shows_up_late_is_not_skipped(first: Stored, later: Stored) -> None:
    """A pass that went beyond an invisible insert of another lane takes it once it is seen."""
    first = [(lane, NOW + n, rows) for lane, n, rows in first]
    late = [(lane + 10, NOW + n, rows) for lane, n, rows in later]
    one = Bounds().next(first, 0, 1 << 40)
    two = one.next(first + late, 0, 1 << 40)
    assert {i for i in first + late if covers(two, i[0], i[1])} == set(late)


def test_the_range_that_the_skip_index_sees_is_as_narrow_as_the_new_inserts() -> None:
    """A lane that has nothing new does not widen what is read."""
    one = Bounds().next([(1, NOW, 5), (2, NOW + 100, 5)], 0, 1 << 40)
    two = one.next([(1, NOW, 5), (2, NOW + 100, 5), (2, NOW + 200, 5)], 0, 1 << 40)
    assert (two.parameters["lowest"], two.parameters["highest"]) == (NOW + 100, NOW + 200)


def test_a_lane_that_fell_silent_is_forgotten_and_may_come_back() -> None:
    """Lanes of processes that ended do not pile up in the bounds; one that writes again is taken up again."""
    one = Bounds().next([(1, NOW, 5)], 0, 1 << 40)
    later = NOW + FORGET_AFTER + 1
    two = one.next([(2, later, 5)], 0, 1 << 40)
    three = two.next([(2, later, 5), (1, later + 5, 7)], 0, 1 << 40)
    assert 1 not in three.after
    assert covers(three, 1, later + 5)
    assert not covers(three, 1, NOW)


def test_an_insert_is_never_split_and_the_oldest_go_first() -> None:
    """The limit is about; a pass takes at least one insert."""
    stored = [(1, NOW + 2, 100), (2, NOW + 1, 100)]
    one = Bounds().next(stored, 0, 10)
    assert one.until == {2: NOW + 1}


@settings(max_examples=50, deadline=None)
@given(stored=inserts)
def test_bounds_survive_the_control_database(stored: Stored) -> None:
    """JSON turns lanes into text; a pass that is done again has the same bounds."""
    bounds = Bounds().next([(lane, NOW + n, rows) for lane, n, rows in stored], 7, 1 << 40)
    assert from_json(json.loads(json.dumps(msgspec.to_builtins(bounds, str_keys=True)))) == bounds
