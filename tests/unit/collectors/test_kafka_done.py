"""When a position is kept, without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from collectors.errors import Unavailable
from collectors.kafka.done import SHARE, Done
from collectors.kafka.frontier import Slot
from collectors.kafka.positions import Position, Positions
from collectors.kafka.records import Place

A, B = ("orders", 0), ("orders", 1)
TRIP = 5_000


class Group:
    """Positions of a group, five milliseconds away."""

    def __init__(self) -> None:
        self.kept: dict[Slot, Position] = {}
        self.trips, self.now, self.away = 0, 0, False

    def keep(self, ahead: Mapping[Slot, Position]) -> None:
        """There and back."""
        self.trips, self.now = self.trips + 1, self.now + TRIP
        if self.away:
            raise Unavailable("the coordinator does not answer")
        self.kept |= ahead


def place(slot: Slot, offset: int) -> Place:
    """A record of epoch 3."""
    return Place(*slot, offset, "id", True, 3)


def done(group: Group, undecided: int = 1_000) -> Done:
    """Everything before offset `undecided` is decided."""
    return Done(cast(Positions, group), lambda one: one if one.offset < undecided else None, lambda: group.now)


def test_a_position_lies_behind_the_record_and_is_kept_once() -> None:
    """With the record's epoch; the same again, or an older one, changes nothing."""
    mine = done(group := Group())
    for offset in (7, 5, 7):
        mine.add(place(A, offset))
        mine.keep()
    assert (group.kept, group.trips) == ({A: Position(8, 3)}, 1)


def test_keeping_takes_a_small_part_of_the_time() -> None:
    """The first at once, the next not before twenty times the way there and back; then the newest counts."""
    mine = done(group := Group())
    began = group.now
    for offset in range(1_000):
        mine.add(place(A, offset % 500))
        mine.keep_soon()
        group.now += 500
    assert group.kept[A] == Position(group.kept[A].offset, 3)
    assert 2 < group.trips <= (group.now - began) / (TRIP * SHARE) + 1
    mine.keep_last()
    assert group.kept[A].offset == 500


def test_what_waits_for_its_transaction_waits_here() -> None:
    """It is kept when it is decided; other partitions do not wait for it."""
    mine = done(group := Group(), undecided=9)
    mine.add(place(A, 12))
    mine.add(place(B, 4))
    mine.keep()
    assert group.kept == {B: Position(5, 3)}
    mine._decided = lambda one: one
    mine.keep()
    assert group.kept[A] == Position(13, 3)


def test_what_was_refused_is_tried_again_but_not_at_the_end() -> None:
    """A coordinator that is away must not hold up the end of the process for another five seconds."""
    mine = done(group := Group())
    mine.add(place(A, 7))
    group.away = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            mine.keep()
    mine.keep_last()
    assert group.trips == 2
    group.away = False
    mine.keep()
    assert group.kept == {A: Position(8, 3)}


def test_a_partition_that_is_left_is_not_kept() -> None:
    """Whoever reads there again may begin with other records."""
    mine = done(group := Group())
    mine.add(place(A, 7))
    mine.forget([A, B])
    mine.keep()
    assert group.trips == 0
