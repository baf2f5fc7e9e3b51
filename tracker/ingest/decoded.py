"""What decoders give: columns, whatever the format. All that follows is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import polars as pl

from tracker.ingest.fields import RAW, WIRE

MAX_LINES = 500_000
"""Events of one request: bounds the work that a body of nothing but bad ones makes."""

Words = Mapping[str, pl.Series]
"""The different values of some text columns, which hold but places in these (UInt32)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that cannot be read, such as one that is no JSON object. `line` counts from 1; flow, hop and stage as far
    as they are known all the same."""

    line: int
    reason: str
    flow: str = ""
    hop: str = ""
    stage: str = ""


class Raws(Protocol):
    """What was sent, event by event."""

    def raws(self, numbers: Sequence[int]) -> list[bytes]:
        """These lines, from 1, as they came; of binary formats each event as a line of JSON, so that it can be sent
        again. What quarantine would not keep may be left out."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """`frame`: one row per event, `line` (UInt32, from 1) and fields of the wire (`fields.WIRE`); absent ones may be
    left out. A column is text as a line of JSON says it, or typed: times as epoch µs and whole numbers Int64, `digest`
    UInt64, `backfill` Boolean, `attributes` as List(Struct(key, value)); or it holds places in `words`.

    `retold`: texts may be the JSON of something nested, which the raw line tells. `coverage`: a coverage report, JSON,
    that came with them. `again`: lines of it, by number, as they were written, for saying what is wrong with them.
    """

    frame: pl.DataFrame
    broken: list[Broken]
    lines: Raws
    words: Words = field(default_factory=dict)
    retold: bool = False
    coverage: str = ""
    again: Callable[[Sequence[int]], Decoded] | None = None


def text(frame: pl.DataFrame, words: Words, names: Iterable[str] | None = None) -> pl.DataFrame:
    """The frame with its words spelled out: all, or those named."""
    spelled = [name for name in (words if names is None else names) if name in words and name in frame.columns]
    return frame.with_columns(words[name].gather(frame[name]).alias(name) for name in spelled) if spelled else frame


@dataclass(frozen=True, slots=True)
class Retold:
    """Events of a binary format as lines of JSON. `frame` holds them all, in order."""

    frame: pl.DataFrame
    words: Words

    def raws(self, numbers: Sequence[int]) -> list[bytes]:
        """These events; each text with its first `RAW` characters."""
        if not numbers:
            return []
        picked = self.frame[[number - 1 for number in numbers]]
        cut = text(picked, self.words).with_columns(pl.col(pl.String).str.slice(0, RAW))
        names = [name for name in WIRE if name in cut.columns]
        return [
            msgspec.json.encode({name: _said(name, row[name]) for name in names if row[name] is not None})
            for row in cut.iter_rows(named=True)
        ]


def _said(name: str, value: Any) -> Any:
    if name == "digest" and isinstance(value, int):
        return f"{value:016x}"
    if name == "attributes" and isinstance(value, list):
        return {pair["key"]: pair["value"] for pair in value if pair}
    return value
