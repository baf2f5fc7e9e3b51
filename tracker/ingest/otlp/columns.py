"""Rows that became events -> the columns that every decoder gives (`tracker.ingest.decoded`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from tracker.ingest.cells import Bytes, Int64s
from tracker.ingest.decoded import Broken, Decoded, Retold
from tracker.ingest.otlp.gather import ids, numbers, texts
from tracker.ingest.otlp.names import FIELDS, SLOT
from tracker.ingest.otlp.places import Place, Sort
from tracker.ingest.otlp.walk import END, HEAD, SPAN, START, TRACE
from tracker.ingest.times import micros
from tracker.model.event import Stage

_REASONED = frozenset({Stage.nack, Stage.dead_letter, Stage.drop})
_TEXTS = {"group": "group", "region": "region", "key": "key", "correlation_id": "conversation",
          "causation_id": "causation", "replay_id": "replay", "digest": "digest"}  # fmt: skip
"""Field of the wire -> field of the span."""
_NUMBERS = ("offset", "size", "attempt")


class Found(NamedTuple):
    """Rows that became events: `ids` are the cells that name their messages, `of` says of which sort each is."""

    rows: Int64s
    ids: Int64s
    of: Int64s
    sorts: Sequence[Sort]
    places: Sequence[Place | None]


class _Columns:
    """Makes columns, and notes which rows say what cannot be read."""

    def __init__(self, buf: Bytes, found: Found) -> None:
        self.buf, self.found = buf, found
        self.wrong: dict[int, str] = {}

    def cells(self, name: str) -> Int64s:
        return np.ascontiguousarray(self.found.rows[:, HEAD + SLOT[name]])

    def text(self, name: str, cells: Int64s | None = None) -> pl.Series:
        made, wrong = texts(self.buf, self.cells(name) if cells is None else cells)
        self.note(wrong, f"{FIELDS[name][-1]} is no UTF-8")
        return made

    def number(self, name: str) -> pl.Series:
        made, wrong = numbers(self.buf, self.cells(name))
        self.note(wrong, f"{FIELDS[name][-1]} is no whole number")
        return made

    def by_sort(self, of: Callable[[Sort, Place], str]) -> tuple[pl.Series, pl.Series]:
        """(places in words, words) of what all rows of a sort share."""
        said = [of(s, p) if p else "" for s, p in zip(self.found.sorts, self.found.places, strict=True)]
        words = list(dict.fromkeys(said)) or [""]
        codes = np.array([words.index(word) for word in said] or [0], np.uint32)
        return pl.Series(codes[self.found.of]), pl.Series(words)

    def broken(self) -> list[Broken]:
        return [Broken(row + 1, reason) for row, reason in sorted(self.wrong.items())]

    def note(self, wrong: np.ndarray | None, reason: str) -> None:
        if wrong is not None:
            self.wrong |= dict.fromkeys(np.flatnonzero(wrong).tolist(), reason)


def events(buf: Bytes, found: Found) -> Decoded:
    """The events of those rows, numbered from 1. What cannot be read of one makes it broken."""
    made = _Columns(buf, found)
    words = {}
    columns = {"line": pl.Series(np.arange(1, len(found.rows) + 1, dtype=np.uint32))}
    columns["flow"], words["flow"] = made.by_sort(lambda _, place: place.flow)
    columns["hop"], words["hop"] = made.by_sort(lambda _, place: place.hop)
    columns["stage"], words["stage"] = made.by_sort(lambda _, place: str(place.stage))
    columns["message_id"] = made.text("message_id", found.ids)
    columns |= {wire: made.text(name) for wire, name in _TEXTS.items()}
    columns |= {name: made.number(name) for name in _NUMBERS}
    columns |= {"trace_id": ids(buf, _of(found, TRACE), 16), "span_id": ids(buf, _of(found, SPAN), 8)}
    columns |= {"node": _first(made.text("instance"), made.text("host"))}
    columns["partition"] = _partition(made)
    columns["delivery"] = _delivery(made, columns)
    columns |= {"observed_at": _observed(found), "origin_at": _origin(made), "reason": _reason(made)}
    said = (name for name, column in columns.items() if name in words or column.null_count() < len(column))
    frame = pl.DataFrame([columns["line"].alias("line"), *(columns[n].alias(n) for n in said if n != "line")])
    lines, broken = Retold(frame, words), made.broken()
    if broken:
        frame = frame.filter(~pl.col("line").is_in([b.line for b in broken]))
    return Decoded(frame, broken, lines, words)


def _of(found: Found, head: int) -> Int64s:
    return np.ascontiguousarray(found.rows[:, head])


def _first(first: pl.Series, second: pl.Series) -> pl.Series:
    """The first; where it is null the second."""
    if first.null_count() == 0:
        return first
    return second if first.null_count() == len(first) else first.zip_with(first.is_not_null(), second)


def _partition(made: _Columns) -> pl.Series:
    """`destination/partition`, as the collectors of logs name one: unique within a hop."""
    partition = made.text("partition")
    if partition.null_count() == len(partition):
        return partition
    code, words = made.by_sort(lambda sort, _: f"{sort.destination}/" if sort.destination else "")
    return words.gather(code) + partition


def _delivery(made: _Columns, columns: dict[str, pl.Series]) -> pl.Series:
    """The application's own word; null where partition and offset tell hand-overs apart; else the span's id, which is
    the same when a span is sent again."""
    own, span = made.text("own_delivery"), columns["span_id"]
    placed = columns["partition"].is_not_null() & columns["offset"].is_not_null()
    told = span if not placed.any() else span.set(placed, None)
    return _first(own, told)


def _observed(found: Found) -> pl.Series:
    """When the operation ended; a span without an end counts as of its start."""
    end, start = found.rows[:, END], found.rows[:, START]
    at = np.where(end != 0, end, start).view(np.uint64) // np.uint64(1000)
    return pl.select(pl.when(pl.Series(at != 0)).then(pl.Series(at.view(np.int64)))).to_series()


def _origin(made: _Columns) -> pl.Series:
    """The application's own word, else the start of the span that produced the message."""
    is_produce = np.array([p is not None and p.stage == Stage.produce for p in made.found.places] or [False])
    start = made.found.rows[:, START].view(np.uint64) // np.uint64(1000)
    told = is_produce[made.found.of] & (start != 0)
    origin = pl.select(pl.when(pl.Series(told)).then(pl.Series(start.view(np.int64)))).to_series()
    own = made.text("origin_at")
    if own.null_count() == len(own):
        return origin
    read = own.to_frame("origin_at").select(micros("origin_at")).to_series()
    made.note((own.is_not_null() & read.is_null()).to_numpy(), "tracker.origin_at is no time")
    return _first(read, origin)


def _reason(made: _Columns) -> pl.Series:
    """Why a message was refused: the application's own word, else the type of the error. A dead letter needs one."""
    stages = np.array([p.stage if p else "" for p in made.found.places] or [""])
    asked = np.isin(stages, [*_REASONED])[made.found.of]
    if not asked.any():
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(asked))
    said = _first(made.text("own_reason"), made.text("error"))
    parked = pl.Series((stages == Stage.dead_letter.value)[made.found.of])
    word = pl.select(pl.when(pl.Series(asked)).then(said)).to_series()
    return word.set(parked & word.is_null(), "settled")
