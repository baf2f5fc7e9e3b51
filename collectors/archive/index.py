"""Which ids a segment holds: hashes in order, each with its row and its time. Columns, so that a hundred thousand
wanted ids are looked up at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from collectors.errors import Unreadable

_HASH, _TIME, _ROW = np.dtype("<u8"), np.dtype("<i8"), np.dtype("<u4")
BYTES = _HASH.itemsize + _TIME.itemsize + _ROW.itemsize
"""What one message takes."""
Hashes = NDArray[np.uint64]


class Index(NamedTuple):
    """Sorted by hash, of the same the newest first."""

    hashes: Hashes
    times: NDArray[np.int64]
    rows: NDArray[np.uint32]


def hashed(ids: Iterable[str]) -> Hashes:
    """xxh3-64 of each id."""
    return np.fromiter((xxhash.xxh3_64_intdigest(each.encode()) for each in ids), dtype=np.uint64)


def built(ids: Iterable[str], times: Any) -> Index:
    """The index of messages with these ids, observed at these times (epoch µs), in the order of rows."""
    hashes, seen = hashed(ids), np.asarray(times, dtype=np.int64)
    order = np.lexsort((-seen, hashes))
    return Index(hashes[order], seen[order], order.astype(np.uint32))


def of_table(table: Any) -> Index:
    """The index of a segment's table."""
    times = table.column("observed_at").cast("int64").to_numpy()
    return built(table.column("message_id").to_pylist(), times)


def packed(index: Index) -> bytes:
    """As bytes."""
    return (
        index.hashes.astype(_HASH).tobytes() + index.times.astype(_TIME).tobytes() + index.rows.astype(_ROW).tobytes()
    )


def unpacked(name: str, data: bytes) -> Index:
    """What was packed. Raises `Unreadable`."""
    count, rest = divmod(len(data), BYTES)
    if rest:
        raise Unreadable(name, "its content is no index")
    times, rows = count * _HASH.itemsize, count * (_HASH.itemsize + _TIME.itemsize)
    return Index(
        np.frombuffer(data, _HASH, count),
        np.frombuffer(data, _TIME, count, times),
        np.frombuffer(data, _ROW, count, rows),
    )


class Search:
    """The newest copy of each wanted id, over any number of indices. Memory: some numbers for each wanted id."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = list(dict.fromkeys(ids))
        hashes = hashed(self.ids)
        self._order = np.argsort(hashes)
        self._wanted = hashes[self._order]
        self._time = np.full(len(hashes), np.iinfo(np.int64).min)
        self._place = np.full(len(hashes), -1, dtype=np.int64)
        self._row = np.zeros(len(hashes), dtype=np.uint32)

    def look(self, place: int, index: Index) -> None:
        """Take what this index has that is newer. `place`: a number of the caller's for it."""
        if not len(index.hashes) or not len(self._wanted):
            return
        if len(self._wanted) <= len(index.hashes):
            at = np.searchsorted(index.hashes, self._wanted)
            mine = np.arange(len(self._wanted))
        else:
            mine = np.searchsorted(self._wanted, index.hashes)
            at = np.arange(len(index.hashes))
        inside = (at < len(index.hashes)) & (mine < len(self._wanted))
        at, mine = at[inside], mine[inside]
        found = index.hashes[at] == self._wanted[mine]
        at, mine = at[found][::-1], mine[found][::-1]  # of one id the newest stands first, so it is written last
        newer = index.times[at] >= self._time[mine]
        at, mine = at[newer], mine[newer]
        self._time[mine], self._row[mine], self._place[mine] = index.times[at], index.rows[at], place

    def settled(self, moment: int) -> bool:
        """Whether nothing up to `moment` can be newer than what was found of each."""
        return bool(len(self._time) == 0 or self._time.min() >= moment)

    def found(self) -> list[tuple[str, int, int]]:
        """Id, place and row of each that was found."""
        hits = np.flatnonzero(self._place >= 0)
        numbers = zip(self._order[hits].tolist(), self._place[hits].tolist(), self._row[hits].tolist(), strict=True)
        return [(self.ids[which], place, row) for which, place, row in numbers]
