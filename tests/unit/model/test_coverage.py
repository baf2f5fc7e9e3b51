"""What is vouched for, hop by hop and source by source: a span is covered or there is a hole with a cause."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.model.case import source
from tracker.model.coverage import Coverage, Interval, SourceCover, join
from tracker.model.units import SECOND

PLACE = ("billing", "ack")
NOW = 1000.0
HOUR = 3600.0


def hole(sources: Sequence[SourceCover], start: float, end: float) -> tuple[float, float, str] | None:
    """(from, to, cause) of the first hole in these seconds."""
    found = Coverage({PLACE: list(sources)}).hole(
        *PLACE, round(start * SECOND), round(end * SECOND), round(NOW * SECOND)
    )
    return None if found is None else (found.start / SECOND, found.end / SECOND, found.cause)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (10, 20, None),
        (0, 100, None),
        (100, 100, None),
        (90, 110, (100, 110, "behind")),
        (120, 130, (120, 130, "behind")),
        (120, 120, (120, 120, "behind")),
        (-5, 20, (-5, 0, "not_announced")),
        (-9, -5, (-9, -5, "not_announced")),
    ],
)
def test_one_source(start: float, end: float, expected: tuple[float, float, str] | None) -> None:
    """Covered from when it announced itself until its watermark, a single moment like a span."""
    assert hole([source((0, 100))], start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10, None),
        (30, 40, None),
        (5, 40, (10, 30, "hole")),
        (15, 20, (15, 20, "hole")),
        (20, 20, (20, 20, "hole")),
        (10, 30, (10, 30, "hole")),
        (35, 60, (50, 60, "behind")),
    ],
)
def test_a_gap_in_its_reports(start: float, end: float, expected: tuple[float, float, str] | None) -> None:
    """What lies between two contiguous stretches is not vouched for, whatever came after it."""
    assert hole([source((0, 10), (30, 50))], start, end) == expected


def test_every_open_source_has_to_vouch() -> None:
    """Of two partitions one that is behind is a hole, the first in time is named."""
    assert hole([source((0, 100), name="p0"), source((0, 15), name="p1")], 10, 20) == (15, 20, "behind")
    assert hole([source((0, 12), name="p0"), source((0, 15), name="p1")], 10, 20) == (12, 20, "behind")


def test_of_redundant_collectors_one_suffices() -> None:
    """Two collectors of one source cover together what neither covers alone."""
    assert hole([source((0, 10), (20, 30)), source((10, 21))], 5, 25) is None
    assert hole([source((0, 10)), source((20, 30))], 5, 25) == (10, 20, "hole")


def test_a_source_counts_from_when_it_was_announced() -> None:
    """A partition added at 50 is missing nothing before, and has to vouch from then on."""
    grown = [source((0, 100), name="p0"), source((50, 60), name="p1")]
    assert hole(grown, 10, 55) is None
    assert hole(grown, 10, 70) == (60, 70, "behind")


def test_a_source_that_signed_off_misses_nothing() -> None:
    """A process that ended in order can have done nothing since, alone or beside others."""
    ended = source((0, 50), closed=50, name="pod-1")
    assert hole([ended], 40, 90) is None
    assert hole([ended], 60, 90) is None
    assert hole([ended, source((0, 90), name="pod-2")], 40, 90) is None
    assert hole([ended, source((0, 70), name="pod-2")], 40, 90) == (70, 90, "behind")


def test_a_source_that_vanished_leaves_a_hole_until_its_time_to_live_ends() -> None:
    """Others are not blinded by it for ever, and its last hour is a blind spot for good."""
    gone = source((0, 100), closed=100 + HOUR, name="pod-1")
    there = source((0, 3 * HOUR), name="pod-2")
    assert hole([gone, there], 50, 200) == (100, 200, "hole")
    assert hole([gone, there], 50, 2 * HOUR) == (100, 100 + HOUR, "hole")
    assert hole([gone, there], 2 * HOUR, 2 * HOUR + 10) is None


def test_nobody_left_is_not_everybody_content() -> None:
    """When the last source vanished, nobody vouches, time to live or not: a dead collector makes no losses."""
    gone = source((0, 100), closed=100 + HOUR, name="pod-1")
    assert hole([gone], 2 * HOUR, 2 * HOUR + 10) == (2 * HOUR, 2 * HOUR + 10, "silent")
    back = source((5 * HOUR, 6 * HOUR), name="pod-2")
    assert hole([gone, back], 2 * HOUR, 5.5 * HOUR) == (2 * HOUR, 5 * HOUR, "silent")
    assert hole([gone, back], 5 * HOUR, 5.5 * HOUR) is None


def test_a_later_sign_off_ends_what_a_vanished_one_left_open() -> None:
    """The one that was there after it said that it ended: then nothing runs."""
    gone = source((0, 100), closed=100 + HOUR, name="pod-1")
    ended = source((0, 2 * HOUR), closed=2 * HOUR, name="pod-2")
    assert hole([gone, ended], 1.5 * HOUR, 3 * HOUR) is None


def test_an_heir_fills_the_hole() -> None:
    """It drains the spool and reports on the same source, so the hole is gone; only then."""
    assert hole([source((0, 100)), source((100, 300))], 50, 200) is None
    assert hole([source((0, 100)), source((120, 300))], 50, 200) == (100, 120, "hole")


def test_who_sees_messages_is_asked_before_who_sees_ranges() -> None:
    """A group's commits cover only where nobody sees single messages."""
    group = source((0, 100), evidence="range", name="group")
    assert hole([group], 10, 20) is None
    assert hole([group, source((0, 15), name="pod")], 10, 20) == (15, 20, "behind")
    coverage = Coverage({PLACE: [group]})
    assert not coverage.vouches(*PLACE)
    assert Coverage({PLACE: [group, source((7, 15))]}).announced(*PLACE) == 7 * SECOND


def test_what_was_there_before_something_better_was_announced_counts_until_then() -> None:
    """Assumed until a group's commits were watched, these until single messages were; each with the holes it had."""
    group, pod = source((100, 140), (160, 300), evidence="range", name="group"), source((200, 300), name="pod")
    coverage = Coverage({PLACE: [group, pod]}, assume_for=60 * SECOND, unannounced={PLACE: 20 * SECOND})

    def hole(start: float, end: float) -> tuple[float, float, str] | None:
        found = coverage.hole(*PLACE, round(start * SECOND), round(end * SECOND), round(NOW * SECOND))
        return None if found is None else (found.start / SECOND, found.end / SECOND, found.cause)

    assert hole(-50, 80) is None
    assert hole(70, 120) == (80, 100, "silent")
    assert hole(100, 140) is None
    assert hole(120, 260) == (140, 160, "hole")
    assert hole(160, 300) is None
    assert hole(160, 310) == (300, 310, "behind")
    assert coverage.announced(*PLACE) == 200 * SECOND


# --- assumed ----------------------------------------------------------------------------------------------------------


def assumed(heard: float | None, start: float, end: float, now: float) -> tuple[float, float, str] | None:
    """The hole where nobody announced itself and the last thing came at `heard` seconds."""
    coverage = Coverage(last_heard={} if heard is None else {PLACE: round(heard * SECOND)})
    found = coverage.hole(*PLACE, round(start * SECOND), round(end * SECOND), round(now * SECOND))
    return None if found is None else (found.start / SECOND, found.end / SECOND, found.cause)


@pytest.mark.parametrize(
    ("heard", "start", "end", "now", "expected"),
    [
        (None, 10, 20, 1000, (10, 20, "never_seen")),
        (15, 10, 20, 1000, None),
        (15, 10, 20, 22, None),
        (15, 10, 20, 21, (19, 20, "behind")),
        (100, 10, 1000, 5000, None),
        (99, 10, 1000, 5000, (999, 1000, "silent")),
        (15, 2000, 2010, 5000, (2000, 2010, "silent")),
    ],
)
def test_assumed_coverage(
    heard: float | None, start: float, end: float, now: float, expected: tuple[float, float, str] | None
) -> None:
    """It vouches up to 15 minutes after the last thing that came from there, never for the last two seconds."""
    assert assumed(heard, start, end, now) == expected


def test_assumed_where_declared_whatever_is_announced() -> None:
    """The spec's word wins over a collector's; elsewhere assuming ends with the first announcement."""
    sources = {PLACE: [source((0, 5))]}
    heard = {PLACE: 100 * SECOND}
    declared = Coverage(sources, heard, frozenset({PLACE}))
    assert declared.hole(*PLACE, 10 * SECOND, 20 * SECOND, 200 * SECOND) is None
    assert not declared.vouches(*PLACE)
    assert Coverage(sources, heard).hole(*PLACE, 10 * SECOND, 20 * SECOND, 200 * SECOND) is not None


@pytest.mark.parametrize(
    ("spans", "joined"),
    [
        ([], ()),
        ([(5, 9), (0, 4)], ((0, 4), (5, 9))),
        ([(0, 5), (5, 9)], ((0, 9),)),
        ([(0, 9), (2, 3), (1, 10)], ((0, 10),)),
        ([(3, 3)], ((3, 3),)),
    ],
)
def test_join(spans: list[Interval], joined: tuple[Interval, ...]) -> None:
    """Touching and overlapping spans are one."""
    assert join(spans) == joined
