"""Offsets from four timestamps."""

from __future__ import annotations

import pytest

from tracker.model.clock import MOST, Offset, answered, measured, unbelievable


def test_the_middle_of_what_a_round_trip_allows() -> None:
    """Sent at 100, received 1,010, answered 1,030, back at 140: 910 - 900 are possible, so 900 +- 10."""
    assert measured(100, 1010, 1030, 140) == Offset(900, 10)


def test_a_slow_way_in_one_direction_is_within_the_error() -> None:
    """The node is 500 behind; the way there takes 80 and the way back nothing: half of that is the error."""
    found = measured(0, 580, 590, 90)
    assert found is not None
    assert abs(found.offset - 500) <= found.error == 40


@pytest.mark.parametrize("times", [(10, 500, 510, 0), (0, 510, 500, 20), (0, 500, 530, 20)])
def test_clocks_that_were_set_in_between_measure_nothing(times: tuple[int, int, int, int]) -> None:
    """An answer before its request, on either clock, or a tracker that took longer than the whole exchange."""
    assert measured(*times) is None


def test_an_offset_smaller_than_its_error_corrects_nothing() -> None:
    """What cannot be told from zero is left alone."""
    assert [Offset(o, e).correction for o, e in ((5, 5), (6, 5), (-6, 5), (-5, 5), (0, 0))] == [0, 6, -6, 0, 0]


def test_what_an_answer_says() -> None:
    """Two whole numbers; anything else is no measurement."""
    assert answered("1800000000000000 1800000000000250") == (1_800_000_000_000_000, 1_800_000_000_000_250)
    assert [answered(t) for t in ("", "1", "1 x", "1 2 3", "-1 2", "1  2", "9" * 40 + " 1")] == [None] * 7


def test_offsets_that_nobody_believes() -> None:
    """Beyond ten years, or an error below zero: the reason names the field and its value."""
    assert unbelievable(MOST, 0) == unbelievable(-MOST, MOST) == ""
    assert "offset_us" in unbelievable(MOST + 1, 0)
    assert "error_us -1" in unbelievable(0, -1)
