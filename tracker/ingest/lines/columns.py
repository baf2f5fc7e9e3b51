"""What the walk over lines of JSON found, as typed columns; and which lines are left for the patient way."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from tracker.ingest.cells import Bytes, Int64s, texts
from tracker.ingest.fields import INTEGERS, TEXTS, TIMES, WIRE
from tracker.ingest.lines import walk

WORDS = ("flow", "hop", "stage", "reason", "node", "region", "partition", "group", "replay_id", "log")
"""Fields that have few different values in a body, by what they are."""
FEW = 1 << 16
"""With more different values than this, a field is kept as text."""
_TABLE = 128


def taken(body: bytes, most: int) -> tuple[pl.DataFrame, dict[str, pl.Series], list[int]]:
    """Of the lines that the walk takes frame and words, as `Decoded` has them; and the numbers of the other lines. Of
    lines there are `most` at most."""
    table, letters = _names()
    buf = np.frombuffer(body, np.uint8)
    cells, status = np.zeros((len(WIRE), most), np.int64), np.zeros(most, np.uint8)
    status = status[: walk.walk(buf, table, letters, cells, status)]
    cells = cells[:, : len(status)]
    numbers = np.flatnonzero(status == walk.TAKEN).astype(np.uint32)
    if len(numbers) < len(status):
        cells = cells[:, numbers]
    words: dict[str, pl.Series] = {}
    columns = [pl.Series("line", numbers + np.uint32(1))]
    for slot, name in enumerate(WIRE):
        if cells[slot].any():
            columns.append(_column(name, buf, cells[slot], words).rename(name))
    slow = (np.flatnonzero(status == walk.SLOW) + 1).tolist()
    return pl.DataFrame(columns), words, slow


def _column(name: str, buf: Bytes, cells: Int64s, words: dict[str, pl.Series]) -> pl.Series:
    match _holds(name):
        case walk.TIME:
            return _known(cells, pl.Series(cells))
        case walk.COUNT:
            return _known(cells, pl.Series(cells - 1))
        case walk.DIGEST:
            return pl.Series(cells.view(np.uint64))
        case walk.FLAG:
            return _known(cells, pl.Series(cells == 2))
    if name in WORDS:
        codes, firsts = walk.coded(buf, cells, FEW)
        if len(firsts):
            words[name] = texts(buf, firsts)
            return _known(cells, pl.Series(codes, dtype=pl.UInt32, strict=False))
    return texts(buf, cells)


def _known(cells: Int64s, column: pl.Series) -> pl.Series:
    """The column, null where nothing was said."""
    return column if cells.all() else pl.select(pl.when(pl.Series(cells != 0)).then(column)).to_series()


def _holds(name: str) -> int:
    if name in TIMES:
        return walk.TIME
    if name in INTEGERS:
        return walk.COUNT
    return {"digest": walk.DIGEST, "backfill": walk.FLAG, "attributes": walk.PAIRS}.get(name, walk.WORDS)


@cache
def _names() -> tuple[Int64s, Bytes]:
    """The names of the wire as a hash table, and their letters."""
    assert {*TEXTS, *WORDS} <= {*WIRE}
    table, letters = np.zeros((_TABLE, 4), np.int64), np.frombuffer("".join(WIRE).encode(), np.uint8)
    first = 0
    for slot, name in enumerate(WIRE):
        place = walk.hashed(letters, first, len(name)) & (_TABLE - 1)
        while table[place, walk.SIZE]:
            place = (place + 1) & (_TABLE - 1)
        table[place] = (first, len(name), slot, _holds(name))
        first += len(name)
    return table, letters
