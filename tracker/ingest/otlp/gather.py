"""What the walk found, as columns. No text is copied: a view (Arrow's BinaryView) says where in the body it lies."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tracker.ingest.cells import LONGEST, Bytes, Int64s
from tracker.ingest.compiled import compiled, part
from tracker.ingest.otlp.walk import BOOL, INT, TEXT

MAX_KINDS = 10_000
"""Different combinations of what tells flows apart, in one body."""
FEW = 1000
"""So many different texts of a field are kept once each, as words; where there are more, each row has its own."""
_DIGITS = 20
_SEED = np.int64(secrets.randbits(62) | 1)
_ALONE = np.zeros(1, np.int64)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


@part
def same(buf, one, other):
    """Whether two cells hold the same: equal cells, or bytes that are equal and of the same kind."""
    if one == other:
        return True
    size = (one >> 31) & LONGEST
    if size != (other >> 31) & LONGEST or (one >> 55) & 15 != (other >> 55) & 15:
        return False
    a, b = one & 0x7FFFFFFF, other & 0x7FFFFFFF
    for i in range(size):  # noqa: SIM110 - a generator cannot be compiled
        if buf[a + i] != buf[b + i]:
            return False
    return True


@part
def number_at(buf, first, size):
    """The value of a varint that the walk has found to be whole."""
    value = np.int64(0)
    for i in range(min(size, 10)):
        value |= (np.int64(buf[first + i]) & 0x7F) << np.int64(7 * i)
    return value


@compiled
def kinds(buf, rows, columns, flat, seed, limit):
    """(the kind of each row, the first row of each kind). Rows are of one kind where the cells in `columns` hold the
    same and the numbers in `flat` are equal. More than `limit` kinds: those beyond are -1."""
    # Most rows say what the one before says: that is seen by comparing alone, without a hash of every byte.
    mask = 1
    while mask < 4 * limit:
        mask *= 2
    mask -= 1
    heads = np.full(mask + 1, -1, np.int64)
    kind = np.empty(len(rows), np.int64)
    firsts = np.empty(limit, np.int64)
    found = 0
    for row in range(len(rows)):
        if row > 0 and kind[row - 1] >= 0:
            equal = True
            for c in flat:
                equal = equal and rows[row - 1, c] == rows[row, c]
            for c in columns:
                equal = equal and same(buf, rows[row - 1, c], rows[row, c])
            if equal:
                kind[row] = kind[row - 1]
                continue
        value = seed
        for c in flat:
            value = (value ^ rows[row, c]) * 0x2545F4914F6CDD1D
        for c in columns:
            cell = rows[row, c]
            at, size = cell & 0x7FFFFFFF, (cell >> 31) & LONGEST
            value = (value ^ size) * 0x2545F4914F6CDD1D
            for i in range(size):
                value = (value ^ np.int64(buf[at + i])) * 0x2545F4914F6CDD1D
                value ^= (value >> 29) & 0x7FFFFFFFF
        place = (value ^ (value >> 32)) & mask
        kind[row] = -1
        while heads[place] >= 0:
            known = firsts[heads[place]]
            equal = True
            for c in flat:
                equal = equal and rows[known, c] == rows[row, c]
            for c in columns:
                equal = equal and same(buf, rows[known, c], rows[row, c])
            if equal:
                kind[row] = heads[place]
                break
            place = (place + 1) & mask
        if kind[row] < 0 and found < limit:
            heads[place] = kind[row] = found
            firsts[found] = row
            found += 1
    return kind, firsts[:found]


@compiled
def views(buf, cells, out, valid, digits):
    """A BinaryView for each cell that holds a text, a number or a boolean. `out` is zeroed, 16 bytes a cell; numbers
    that are too long to be kept in their view are written to `digits`, the second buffer."""
    used = 0
    for row in range(len(cells)):
        cell = cells[row]
        kind, first, size = (cell >> 55) & 15, cell & 0x7FFFFFFF, (cell >> 31) & LONGEST
        source, number = buf, 0
        if kind == INT:
            value = number_at(buf, first, size)
            at = used + _DIGITS
            left = value
            while True:
                at -= 1
                digit = left % 10 if left >= 0 else (10 - left % 10) % 10
                digits[at] = 48 + digit
                left = (left - digit if left >= 0 else left + digit) // 10
                if left == 0:
                    break
            if value < 0:
                at -= 1
                digits[at] = 45
            source, number, first, size = digits, 1, at, used + _DIGITS - at
            used += _DIGITS if size > 12 else 0
        elif kind == BOOL:
            value = number_at(buf, first, size)
            word = 0x65757274 if value != 0 else 0x65736C6166  # "true", "false"
            out[row, 0] = 4 if value != 0 else 5
            for i in range(5):
                out[row, 4 + i] = (word >> (8 * i)) & 255
            valid[row] = True
            continue
        elif kind != TEXT:
            continue
        valid[row] = True
        for i in range(4):
            out[row, i] = (size >> (8 * i)) & 255
        for i in range(size if size <= 12 else 4):
            out[row, 4 + i] = source[first + i]
        if size > 12:
            out[row, 8] = number
            for i in range(4):
                out[row, 12 + i] = (first >> (8 * i)) & 255


@compiled
def whole(buf, cells, out, valid):
    """The whole number that each cell holds, also as a text of digits; 1 where there is one, -1 where it is none."""
    for row in range(len(cells)):
        cell = cells[row]
        kind, first, size = (cell >> 55) & 15, cell & 0x7FFFFFFF, (cell >> 31) & LONGEST
        if kind == INT:
            out[row] = number_at(buf, first, size)
            valid[row] = 1
        elif kind == TEXT and 0 < size <= 18:
            value, good = np.int64(0), True
            for i in range(size):
                digit = np.int64(buf[first + i]) - 48
                good = good and 0 <= digit <= 9
                value = value * 10 + digit
            out[row] = value
            valid[row] = 1 if good else -1
        elif kind > 0:
            valid[row] = -1


@compiled
def hexes(buf, places, size, letters, out):
    """Ids as hex digits, `2 * size` of them a row; rows whose place is -1 stay as they are."""
    for row in range(len(places)):
        first = places[row]
        if first >= 0:
            for i in range(size):
                byte = buf[first + i]
                out[row, 2 * i] = letters[byte >> 4]
                out[row, 2 * i + 1] = letters[byte & 15]


def texts(buf: Bytes, cells: Int64s) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """The cells as text, null where there is none; and which rows are no UTF-8, None when all are."""
    if not cells.any():
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(cells)), None
    out, valid = np.zeros((len(cells), 16), np.uint8), np.zeros(len(cells), np.bool_)
    numbers = int(((cells >> 55) & 15 == INT).sum())
    digits = np.zeros(_DIGITS * (numbers + 1), np.uint8)
    views(buf, cells, out, valid, digits)
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bits, pa.py_buffer(out), pa.py_buffer(buf), pa.py_buffer(digits)]
    raw = pl.from_arrow(pa.Array.from_buffers(pa.binary_view(), len(cells), buffers))
    assert isinstance(raw, pl.Series)
    try:
        return raw.cast(pl.String), None
    except pl.exceptions.ComputeError:  # some value is no UTF-8: look for it, one by one
        text = pl.Series([_decoded(one) for one in raw], dtype=pl.String)
        return text, (text.is_null() & raw.is_not_null()).to_numpy()


def _decoded(said: bytes | None) -> str | None:
    try:
        return None if said is None else said.decode()
    except UnicodeDecodeError:
        return None


def numbers(buf: Bytes, cells: Int64s) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """The cells as whole numbers, null where there is none; and which rows hold something else, None when none does."""
    out, valid = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int8)
    if cells.any():
        whole(buf, cells, out, valid)
    wrong = valid < 0
    return held(out, valid > 0), wrong if wrong.any() else None


def held(values: Int64s, there: NDArray[np.bool_]) -> pl.Series:
    """The numbers; null where there is none."""
    made = pl.from_arrow(pa.array(values, mask=None if there.all() else ~there))
    assert isinstance(made, pl.Series)
    return made


def few(buf: Bytes, cells: Int64s) -> tuple[list[str | None], Int64s] | None:
    """(texts, for each cell its place among them); a cell without one has its place at a None. None where there are
    more than `FEW`, or one is no UTF-8."""
    of, firsts = kinds(buf, cells.reshape(-1, 1), _ALONE, _ALONE[:0], _SEED, FEW)
    if len(of) and of.min() < 0:
        return None
    said, wrong = texts(buf, cells[firsts])
    return None if wrong is not None else (said.to_list(), of)


def worded(said: Sequence[str | None], of: Int64s) -> tuple[pl.Series, pl.Series]:
    """(places in words, words), where row by row `of` is the place in `said`; each word is there once. A place is null
    where nothing is said."""
    places = {word: place for place, word in enumerate(dict.fromkeys(word for word in said if word is not None))}
    codes = np.array([-1 if word is None else places[word] for word in said] or [0], np.int64)[of]
    made = held(codes.astype(np.uint32), codes >= 0)
    return made, pl.Series([*places] or [""], dtype=pl.String)


def ids(buf: Bytes, places: Int64s, size: int) -> pl.Series:
    """Ids as lower-case hex, null where there is none."""
    out = np.full((len(places), 2 * size), 48, np.uint8)
    hexes(buf, places, size, _HEX, out)
    offsets = pa.py_buffer(np.arange(len(places) + 1, dtype=np.int64) * (2 * size))
    bits = pa.py_buffer(np.packbits(places >= 0, bitorder="little"))
    made = pl.from_arrow(pa.Array.from_buffers(pa.large_string(), len(places), [bits, offsets, pa.py_buffer(out)]))
    assert isinstance(made, pl.Series)
    return made
