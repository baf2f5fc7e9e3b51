"""Times, durations and sizes: integers of microseconds and bytes inside, RFC 3339, `5s` and `1 MiB` outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SECOND = 1_000_000
_UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)", re.ASCII)
_LONGEST = 36_500 * _UNITS["d"]
"""A hundred years: what is longer is a slip, and sums of durations must fit 64 bits."""
_SIZES = {"b": 1, "kb": 1000, "kib": 1 << 10, "mb": 1000**2, "mib": 1 << 20, "gb": 1000**3, "gib": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|kib|mb|mib|gb|gib)", re.ASCII | re.IGNORECASE)
_LARGEST = 1 << 50
"""A pebibyte: what is larger is a slip."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = -62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1
"""The first and the last moment that have a date: years 1 to 9999."""


def duration(text: str | int | float) -> int:
    """Microseconds of `500ms`, `5s`, `2m`, `1h30m`, `7d`; a bare number is seconds. At most a hundred years.

    ValueError for anything else, whatever its type: YAML makes dates, lists and infinities out of slips.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        span = text * SECOND
    else:
        compact = text.replace(" ", "") if isinstance(text, str) else ""
        parts = _DURATION.findall(compact)
        if not parts or "".join(number + unit for number, unit in parts) != compact:
            raise ValueError(f"{text!r} is no duration; write 500ms, 5s, 2m, 1h or 7d")
        span = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= span <= _LONGEST:
        raise ValueError(f"{text!r} is no duration between 0 and 36500d")
    return round(span)


def say(span: int) -> str:
    """A duration of microseconds as people say it: `2m`, `1h30m`, `250ms`."""
    if span < SECOND:
        return f"{span / 1000:g}ms"
    rest, out = span, ""
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _UNITS[unit])
        out += f"{count}{unit}" if count else ""
    return out + (f"{rest / SECOND:g}s" if rest or not out else "")


def size(text: str | int | float) -> int:
    """Bytes of `512 kB`, `1 MiB`, `1.5GB`; a bare number is bytes. From 1 byte to a pebibyte.

    ValueError for anything else, whatever its type.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        count = text
    else:
        found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if not found:
            raise ValueError(f"{text!r} is no size; write 65536, 512 kB or 1 MiB")
        count = float(found[1]) * _SIZES[found[2].lower()]
    if not 1 <= count <= _LARGEST:
        raise ValueError(f"{text!r} is no size between 1 byte and 1024 TiB")
    return round(count)


def say_size(count: int) -> str:
    """Bytes as people say them, exactly: `1 MiB`, `512 kB`, `1 byte`."""
    for unit, factor in (
        ("GiB", 1 << 30),
        ("GB", 1000**3),
        ("MiB", 1 << 20),
        ("MB", 1000**2),
        ("KiB", 1 << 10),
        ("kB", 1000),
    ):
        if count and count % factor == 0:
            return f"{count // factor} {unit}"
    return f"{count} byte{'' if count == 1 else 's'}"


def instant(value: str | int | float) -> int:
    """Epoch microseconds of an RFC 3339 time or an epoch number in s, ms, µs or ns (told apart by size).

    ValueError when it is neither, has no date (years 1 to 9999), or is a time without offset that one would guess.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    text = str(value).strip()
    if re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", text):
        return _from_number(float(text) if "." in text else int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{value!r} is no time; write RFC 3339 (2026-01-31T12:00:00Z) or epoch s, ms, µs, ns"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; add Z or an offset")
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def _from_number(value: int | float) -> int:
    """Seconds below 1e11 (year 5138), then ms below 1e14, µs below 1e17, else ns."""
    if not _EARLIEST // SECOND <= value <= _LATEST * 1000:
        raise ValueError(f"{value!r} is no time: it has no date in s, ms, µs or ns")
    if value < 1e11:
        return round(value * SECOND)
    if value < 1e14:
        return round(value * 1000)
    return int(value) if value < 1e17 else int(value) // 1000


def rfc3339(micros: int) -> str:
    """RFC 3339 UTC with microseconds, `Z` at the end. What lies outside the years 1 to 9999, as an id may claim, is
    shown as their first or last moment."""
    seconds, fraction = divmod(min(max(micros, _EARLIEST), _LATEST), SECOND)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
