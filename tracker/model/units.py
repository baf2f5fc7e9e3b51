"""Times and durations: integers of microseconds inside, RFC 3339 and `5s` outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SECOND = 1_000_000
_UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration(text: str | int | float) -> int:
    """Microseconds of `500ms`, `5s`, `2m`, `1h30m`, `7d`; a bare number is seconds. ValueError otherwise."""
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is no duration; write 500ms, 5s, 2m, 1h or 7d")
    if isinstance(text, int | float):
        return round(text * SECOND)
    compact = text.replace(" ", "")
    parts = _DURATION.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"{text!r} is no duration; write 500ms, 5s, 2m, 1h or 7d")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def say(span: int) -> str:
    """A duration of microseconds as people say it: `2m`, `1h30m`, `250ms`."""
    if span < SECOND:
        return f"{span / 1000:g}ms"
    rest, out = span, ""
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _UNITS[unit])
        out += f"{count}{unit}" if count else ""
    return out + (f"{rest / SECOND:g}s" if rest or not out else "")


def instant(value: str | int | float) -> int:
    """Epoch microseconds of an RFC 3339 time or an epoch number in s, ms, µs or ns (told apart by size).

    ValueError when it is neither, or a time without offset that would have to be guessed.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
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
    if value < 1e11:
        return round(value * SECOND)
    if value < 1e14:
        return round(value * 1000)
    return int(value) if value < 1e17 else int(value) // 1000


def rfc3339(micros: int) -> str:
    """RFC 3339 UTC with microseconds, `Z` at the end."""
    seconds, fraction = divmod(micros, SECOND)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction:06d}Z"
