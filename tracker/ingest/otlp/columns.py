"""Rows that became events -> the columns that every decoder gives (`tracker.ingest.decoded`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from tracker.ingest.cells import Bytes, Int64s
from tracker.ingest.decoded import Broken, Decoded, Retold
from tracker.ingest.fields import TEXTS
from tracker.ingest.otlp.gather import few, held, ids, numbers, texts, worded
from tracker.ingest.otlp.names import FIELDS, SLOT
from tracker.ingest.otlp.places import Place, Sort
from tracker.ingest.otlp.walk import END, HEAD, SPAN, START, TRACE
from tracker.ingest.times import micros
from tracker.model.event import Stage

_REASONED = frozenset({Stage.nack, Stage.dead_letter, Stage.drop})
_TEXTS = {"key": "key", "correlation_id": "conversation", "causation_id": "causation", "digest": "digest"}
"""Field of the wire -> field of the span."""
_WORDS = {"group": ("group",), "region": ("region",), "replay_id": ("replay",), "node": ("instance", "host")}
"""The same for what a body says few different things of; of several fields the first that a span has."""
_NUMBERS = ("offset", "size", "attempt")
_TOO_LONG = TEXTS["partition"] + 1

Column = tuple[pl.Series, pl.Series | None]
"""Texts and None, or places in words and these."""


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

    def word(self, names: Sequence[str]) -> Column:
        """Of each row the first of these fields that it has."""
        cells = self.cells(names[0])
        for name in names[1:]:
            cells = cells if cells.all() else np.where(cells != 0, cells, self.cells(name))
        if not cells.any():
            return self.nothing(), None
        found = few(self.buf, cells)
        return worded(*found) if found else (_first(*map(self.text, names)), None)

    def nothing(self) -> pl.Series:
        """A text column without any."""
        return texts(self.buf, np.zeros(len(self.found.rows), np.int64))[0]

    def number(self, name: str) -> pl.Series:
        made, wrong = numbers(self.buf, self.cells(name))
        self.note(wrong, f"{FIELDS[name][-1]} is no whole number")
        return made

    def by_sort(self, of: Callable[[Sort, Place], str]) -> tuple[pl.Series, pl.Series]:
        """(places in words, words) of what all rows of a sort share."""
        said = [of(s, p) if p else "" for s, p in zip(self.found.sorts, self.found.places, strict=True)]
        return worded(said, self.found.of)

    def broken(self) -> list[Broken]:
        """The rows that say what cannot be read, and where they belong."""
        return [Broken(row + 1, reason, *self._where(row)) for row, reason in sorted(self.wrong.items())]

    def _where(self, row: int) -> tuple[str, str, str]:
        place = self.found.places[self.found.of[row]]
        return (place.flow, place.hop, str(place.stage)) if place else ("", "", "")

    def note(self, wrong: np.ndarray | None, reason: str) -> None:
        if wrong is not None:
            self.wrong |= dict.fromkeys(np.flatnonzero(wrong).tolist(), reason)


def events(buf: Bytes, found: Found) -> Decoded:
    """The events of those rows, numbered from 1. What cannot be read of one makes it broken."""
    made = _Columns(buf, found)
    columns = {"line": pl.Series(np.arange(1, len(found.rows) + 1, dtype=np.uint32))}
    coded: dict[str, Column] = {
        "flow": made.by_sort(lambda _, place: place.flow),
        "hop": made.by_sort(lambda _, place: place.hop),
        "stage": made.by_sort(lambda _, place: str(place.stage)),
        **{wire: made.word(fields) for wire, fields in _WORDS.items()},
        "partition": _partition(made),
    }
    columns |= {name: column for name, (column, _) in coded.items()}
    words = {name: known for name, (_, known) in coded.items() if known is not None}
    columns["message_id"] = made.text("message_id", found.ids)
    columns |= {wire: made.text(name) for wire, name in _TEXTS.items()}
    columns |= {name: made.number(name) for name in _NUMBERS}
    columns |= {"trace_id": ids(buf, _of(found, TRACE), 16), "span_id": ids(buf, _of(found, SPAN), 8)}
    columns["delivery"] = _delivery(made, columns)
    columns |= {"observed_at": _observed(found), "origin_at": _origin(made), "reason": _reason(made)}
    always = ("flow", "hop", "stage")
    said = (name for name, column in columns.items() if name in always or column.null_count() < len(column))
    frame = pl.DataFrame([columns["line"].alias("line"), *(columns[n].alias(n) for n in said if n != "line")])
    lines, broken = Retold(frame, words), made.broken()
    if broken:
        frame = frame.filter(~pl.col("line").is_in([b.line for b in broken]))
    return Decoded(frame, broken, lines, words)


def _of(found: Found, head: int) -> Int64s:
    return np.ascontiguousarray(found.rows[:, head])


def _first(first: pl.Series, second: pl.Series | None = None) -> pl.Series:
    """The first; where it is null the second."""
    if second is None or first.null_count() == 0:
        return first
    return second if first.null_count() == len(first) else first.zip_with(first.is_not_null(), second)


def _partition(made: _Columns) -> Column:
    """`destination/partition`, as the collectors of logs name one: unique within a hop. Of what is too long for that no
    more than it takes to be refused: one long text may be joined to that of every span."""
    sorts, cells = made.found.sorts, made.cells("partition")
    if not cells.any():
        return made.nothing(), None
    before = [f"{sort.destination[:_TOO_LONG]}/" if sort.destination else "" for sort in sorts]
    found = few(made.buf, cells)
    if found is None:
        return pl.Series(before).gather(made.found.of) + made.text("partition").str.slice(0, _TOO_LONG), None
    said, of = found
    pairs, of = np.unique(made.found.of * len(said) + of, return_inverse=True)
    both = ((before[pair // len(said)], said[pair % len(said)]) for pair in pairs.tolist())
    joined = (None if partition is None else start + partition[:_TOO_LONG] for start, partition in both)
    return worded([*joined], of)


def _delivery(made: _Columns, columns: dict[str, pl.Series]) -> pl.Series:
    """The application's own word; null where partition and offset tell hand-overs apart; else the span's id, which is
    the same when a span is sent again."""
    own, span = made.text("own_delivery"), columns["span_id"]
    placed = columns["partition"].is_not_null() & columns["offset"].is_not_null()
    if placed.all():
        return own
    told = span if not placed.any() else span.set(placed, None)
    return _first(own, told)


def _observed(found: Found) -> pl.Series:
    """When the operation ended; a span without an end counts as of its start."""
    end, start = found.rows[:, END], found.rows[:, START]
    at = np.where(end != 0, end, start).view(np.uint64) // np.uint64(1000)
    return held(at.view(np.int64), at != 0)


def _origin(made: _Columns) -> pl.Series:
    """The application's own word, else the start of the span that produced the message."""
    is_produce = np.array([p is not None and p.stage == Stage.produce for p in made.found.places] or [False])
    start = made.found.rows[:, START].view(np.uint64) // np.uint64(1000)
    told = is_produce[made.found.of] & (start != 0)
    origin = held(start.view(np.int64), told)
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
