"""Durations, sizes and times: what people and systems write, and nothing that has to be guessed."""

from __future__ import annotations

import pytest

from tracker.model.units import SECOND, duration, instant, rfc3339, say, say_size, size

NOON = 1_769_860_800 * SECOND
"""2026-01-31T12:00:00Z"""


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("500ms", 500_000), ("5s", 5 * SECOND), ("2m", 120 * SECOND), ("1h30m", 5400 * SECOND),
        ("7d", 604_800 * SECOND),
        ("10us", 10), ("1.5s", 1_500_000), (" 1 h ", 3600 * SECOND), (3, 3 * SECOND), (0.25, 250_000), (0, 0),
    ],
)  # fmt: skip
def test_durations_as_people_write_them(text: str | float, micros: int) -> None:
    """Units from microseconds to days, added up; a bare number is seconds."""
    assert duration(text) == micros


@pytest.mark.parametrize(
    "bad",
    ["", "5", "s", "5x", "5s!", "-5s", "1h-2m", "1٣s", -5, True, None, [1], {"a": 1}, float("inf"), float("nan"),
     "99999999999999999999d", 1e300],
)  # fmt: skip
def test_what_is_no_duration_is_refused(bad: object) -> None:
    """Negative, endless and wrongly typed durations are one kind of error, and it shows what was given."""
    with pytest.raises(ValueError, match="is no duration"):
        duration(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "said"),
    [(0, "0ms"), (250_000, "250ms"), (SECOND, "1s"), (90 * SECOND, "1m30s"), (5400 * SECOND, "1h30m"),
     (86_400 * SECOND, "1d"), (90_061_500_000, "1d1h1m1.5s")],
)  # fmt: skip
def test_durations_are_said_as_they_are_written(span: int, said: str) -> None:
    """What `say` says, `duration` reads."""
    assert say(span) == said
    assert duration(said) == span


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", "2026-01-31 12:00:00+00:00", "2026-01-31T12:00:00.000000Z",
     1_769_860_800, 1_769_860_800_000, NOON, NOON * 1000, "1769860800", 1_769_860_800.0, "1769860800.0"],
)  # fmt: skip
def test_one_moment_written_in_many_ways(text: str | float) -> None:
    """RFC 3339 with any offset, and epoch seconds, ms, µs and ns told apart by size."""
    assert instant(text) == NOON


@pytest.mark.parametrize(
    "bad",
    ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00", "1e5", "-5", True, float("nan"), float("inf"),
     "9" * 5000, 10**30, -(10**15)],
)  # fmt: skip
def test_what_is_no_time_is_refused(bad: str | float) -> None:
    """A time without zone would have to be guessed, one without date cannot be shown."""
    with pytest.raises(ValueError, match="no time"):
        instant(bad)


@pytest.mark.parametrize("micros", [0, 1, -1, NOON, NOON + 123_456, 253_402_300_799_999_999, -62_135_596_800 * SECOND])
def test_times_survive_being_written(micros: int) -> None:
    """RFC 3339 in microseconds loses nothing between the years 1 and 9999."""
    assert instant(rfc3339(micros)) == micros


@pytest.mark.parametrize(("micros", "year"), [((1 << 63) - 1, "9999-12-31"), (-(1 << 63), "0001-01-01")])
def test_times_without_date_are_shown_as_the_last_that_have_one(micros: int, year: str) -> None:
    """An id may claim a time in the year 10889; showing it must not fail."""
    assert rfc3339(micros).startswith(year)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1 MiB", 1 << 20), ("1MB", 10**6), ("1.5 kB", 1500), ("512kib", 512 << 10), ("2 GiB", 2 << 30), ("7 B", 7),
     (65_536, 65_536), ("1024 GiB", 1 << 40), (1.2, 1)],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str | float, count: int) -> None:
    """Thousands and powers of two are told apart; a bare number is bytes."""
    assert size(text) == count


@pytest.mark.parametrize(
    "bad",
    ["", "5", "MB", "1 TB", "-1 MB", "1 MB!", "0 kB", 0, -1, True, None, [1], float("inf"), float("nan"), 10**400],
)
def test_what_is_no_size_is_refused(bad: object) -> None:
    """Nothing, less than nothing, and what no payload has."""
    with pytest.raises(ValueError, match="is no size"):
        size(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1024, 1500, 1_048_576, 10**6, 3 << 30, (1 << 20) + 1])
def test_a_size_is_said_exactly(count: int) -> None:
    """What is said means the same number again."""
    assert (size(say_size(count).replace("bytes", "B").replace("byte", "B")) if count else 0) == count
