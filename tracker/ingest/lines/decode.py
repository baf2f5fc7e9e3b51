"""Lines of JSON -> columns; lines that are no JSON object are set aside by number.

Nearly all lines are read by one walk of compiled code (`walk`). The others go to a parser that knows all of JSON,
at its speed: in one go, and only when that fails halved until the bad ones stand alone, so Python looks at single lines
only near bad ones.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property, partial

import msgspec
import numpy as np
import polars as pl

from tracker.ingest.decoded import MAX_LINES, Broken, Decoded
from tracker.ingest.errors import TooLarge
from tracker.ingest.fields import WIRE
from tracker.ingest.lines.quick import Quick

QUICK = Quick()
MAX_BODY = (1 << 31) - 1
"""Bytes of a body in which the quick way can tell a place."""
_SCHEMA = dict.fromkeys(WIRE, pl.String)
_ALONE = 512
"""So few lines are looked at one by one."""
_BLANK = b" \t\r"
_NEWLINE = 10


class Lines:
    """The body by line; taken apart only when somebody asks for a single line."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    @cached_property
    def all(self) -> list[bytes]:
        """Every line, blank ones too; index 0 is line 1."""
        return self.body.split(b"\n")

    @cached_property
    def filled(self) -> list[int]:
        """Numbers of the lines that are not blank."""
        return [number for number, line in enumerate(self.all, 1) if line.strip(_BLANK)]

    def count(self) -> int:
        """How many lines there are, blank ones too but for nothing after the last."""
        return int(np.count_nonzero(np.frombuffer(self.body, np.uint8) == _NEWLINE)) + (
            not self.body.endswith(b"\n") and bool(self.body)
        )

    def raw(self, number: int) -> bytes:
        """Line `number`, from 1."""
        return self.all[number - 1].strip(_BLANK)

    def raws(self, numbers: Sequence[int]) -> list[bytes]:
        """These lines."""
        return [self.raw(number) for number in numbers]


def decode(body: bytes) -> list[Decoded]:
    """Typed columns of the lines that one quick walk can read, and text of all others: one part or both, by line. What
    is no JSON object is `broken`, whatever the bytes.

    Raises TooLarge for more than `MAX_LINES` lines.
    """
    lines = Lines(body)
    count = lines.count()
    if count > MAX_LINES:
        raise TooLarge(f"the body has {count} lines; send at most {MAX_LINES} at a time")
    found = QUICK.take(body, count) if len(body) <= MAX_BODY else None
    if found is None:
        return [patiently(lines, lines.filled)]
    frame, words, slow = found
    quick = Decoded(frame, [], lines, words, again=partial(patiently, lines))
    return [quick, patiently(lines, slow)] if slow else [quick]


def patiently(lines: Lines, numbers: Sequence[int]) -> Decoded:
    """These lines, none of them blank: every wire field as text, null where absent."""
    frames: list[pl.DataFrame] = []
    broken: list[Broken] = []
    _sift(lines, numbers, frames, broken)
    return Decoded(pl.concat([_numbered(_parsed(b""), []), *frames]), broken, lines, retold=True)


def _parsed(body: bytes) -> pl.DataFrame | None:
    """None when any line of it is no JSON object. Numbers become their text, nested values their JSON."""
    if body[:1].strip(_BLANK + b"\n{"):  # the parser would inflate what looks compressed, however large it becomes
        return None
    try:
        return pl.read_ndjson(io.BytesIO(body), schema=_SCHEMA)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, ValueError):
        return None


def _numbered(frame: pl.DataFrame | None, numbers: Sequence[int]) -> pl.DataFrame:
    assert frame is not None
    return frame.insert_column(0, pl.Series("line", numbers, pl.UInt32))


def _sift(lines: Lines, numbers: Sequence[int], frames: list[pl.DataFrame], broken: list[Broken]) -> None:
    """Halve until a part parses as a whole or is small; keeps the order of lines."""
    if not numbers:
        return
    frame = _parsed(b"\n".join([lines.raw(n) for n in numbers]))
    if frame is not None and frame.height == len(numbers):
        frames.append(_numbered(frame, numbers))
    elif len(numbers) > _ALONE:
        middle = len(numbers) // 2
        _sift(lines, numbers[:middle], frames, broken)
        _sift(lines, numbers[middle:], frames, broken)
    else:
        _sift_alone(lines, numbers, frames, broken)


def _sift_alone(lines: Lines, numbers: Sequence[int], frames: list[pl.DataFrame], broken: list[Broken]) -> None:
    suspects = []
    for number in numbers:
        reason = _why_broken(lines.raw(number))
        if reason:
            broken.append(Broken(number, reason))
        else:
            suspects.append(number)
    if len(suspects) < len(numbers):
        _sift(lines, suspects, frames, broken)
        return
    for number in suspects:  # each looks fine to one parser, and yet together they are refused by the other
        frame = _parsed(lines.raw(number))
        if frame is not None and frame.height == 1:
            frames.append(_numbered(frame, [number]))
        else:
            broken.append(Broken(number, "not readable as JSON"))


def _why_broken(line: bytes) -> str:
    """Why a line is no JSON object; empty when it is one."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return f"not readable as JSON: {error}"
    return "" if isinstance(value, dict) else "not a JSON object; each line is one event: {...}"
