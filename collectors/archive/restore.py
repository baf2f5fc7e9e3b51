"""Everything that an archive holds of a flow up to a moment, written into a folder: one Parquet file a hop, and in
`restored.json` what it is, and for which spans it is not complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from collectors.archive.holdings import Gap, Held, incomplete
from collectors.archive.names import Segment
from collectors.archive.rows import SCHEMA, checked
from collectors.archive.shelves import Shelves
from collectors.errors import ConfigInvalid, Unreadable

TOLD = "restored.json"


class Partition(msgspec.Struct):
    """What was restored of a partition; of a queue, which has no offsets, these are None. `in_order`: the file has it
    in the order of its offsets."""

    partition: str
    records: int = 0
    first_offset: int | None = None
    last_offset: int | None = None
    in_order: bool = True


class Hop(msgspec.Struct):
    """What was restored of a hop. `twice`: copies left out because they were there already."""

    hop: str
    file: str
    records: int
    twice: int
    partitions: list[Partition]
    incomplete: list[Gap]


class Restored(msgspec.Struct):
    """All of it; times in epoch µs. `complete`: no hop has a span that is not."""

    flow: str
    until: int
    complete: bool
    hops: list[Hop]


def restore(shelves: Shelves, holdings: Sequence[Held], flow: str, until: int, to: Path) -> Restored:
    """Write what was observed of `flow` up to `until` (epoch µs) into the folder `to`, which is new or empty. A segment
    that cannot be read is told as a gap. Memory: one segment, and 16 bytes for each record. Raises `ConfigInvalid` for
    the folder, `Unavailable`."""
    segments = [segment for segment in shelves.segments(flow) if segment.first <= until]
    hops = sorted({each.hop for each in holdings if each.flow == flow} | {segment.hop for segment in segments})
    if not hops:
        raise ConfigInvalid(f"the archive holds nothing of flow {flow!r}")
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(to.iterdir()):
            raise ConfigInvalid(f"{to}: the folder is not empty")
        done = [
            _hop(shelves, hop, [s for s in segments if s.hop == hop],
                 [each for each in holdings if (each.flow, each.hop) == (flow, hop)], until, to)
            for hop in hops
        ]  # fmt: skip
        restored = Restored(flow, until, not any(hop.incomplete for hop in done), done)
        (to / TOLD).write_bytes(msgspec.json.format(msgspec.json.encode(restored), indent=1) + b"\n")
    except OSError as error:
        raise ConfigInvalid(f"{to}: {error.strerror or error}") from None
    return restored


def _hop(
    shelves: Shelves, hop: str, segments: Sequence[Segment], holdings: Sequence[Held], until: int, to: Path
) -> Hop:
    seen, partitions, gaps = _Seen(), _Partitions(), incomplete(holdings, until)
    records = twice = 0
    with pq.ParquetWriter(to / f"{hop}.parquet", SCHEMA, compression="zstd") as file:
        for segment in sorted(segments, key=lambda s: (s.collector, s.sequence)):
            try:
                table = checked(segment.path, shelves.table(segment))
            except Unreadable as error:
                gaps.append(Gap(segment.first, min(segment.last, until), str(error)))
                continue
            table = table.filter(
                pc.less_equal(table.column("observed_at"), pa.scalar(until, SCHEMA.field("observed_at").type))
            )
            fresh = table.filter(pa.array(seen.fresh(table)))
            twice += table.num_rows - fresh.num_rows
            records += fresh.num_rows
            partitions.add(fresh)
            file.write_table(fresh)
    return Hop(hop, f"{hop}.parquet", records, twice, partitions.told(), sorted(gaps))


class _Seen:
    """Which records there were: in a log by partition and offset, in a queue by message; by 128 bits of a hash."""

    def __init__(self) -> None:
        self._runs: list[tuple[Any, Any]] = []

    def fresh(self, table: Any) -> Any:
        """Which rows are new; of those that are in the table twice, the first."""
        names = ["partition", "offset", "message_id", "digest", "stage"]
        cells = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        hashes = b"".join(xxhash.xxh3_128_digest(repr(each).encode()) for each in cells)
        high, low = np.frombuffer(hashes, "<u8").reshape(-1, 2).T
        order = np.lexsort((np.arange(len(high)), low, high))
        high, low = high[order], low[order]
        new = np.ones(len(high), dtype=bool)
        new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        for known_high, known_low in self._runs:
            at = np.minimum(np.searchsorted(known_high, high), len(known_high) - 1)
            new &= (known_high[at] != high) | (known_low[at] != low)
        if new.any():
            self._add(high[new], low[new])
        answer = np.zeros(len(high), dtype=bool)
        answer[order] = new
        return answer

    def _add(self, high: Any, low: Any) -> None:
        """Runs at least double in length from the newest to the oldest, so there are few."""
        while self._runs and len(self._runs[-1][0]) <= len(high):
            other = self._runs.pop()
            high, low = np.concatenate((high, other[0])), np.concatenate((low, other[1]))
            order = np.lexsort((low, high))
            high, low = high[order], low[order]
        self._runs.append((high, low))


class _Partitions:
    """What was written of each."""

    def __init__(self) -> None:
        self._found: dict[str, Partition] = {}

    def add(self, table: Any) -> None:
        """These were written next."""
        for name in pc.unique(table.column("partition")).to_pylist():
            found = self._found.setdefault(name, Partition(name))
            offsets = table.filter(pc.equal(table.column("partition"), name)).column("offset")
            found.records += len(offsets)
            numbers = offsets.drop_null().to_numpy()
            if not len(numbers):
                continue
            follows = found.last_offset is None or found.last_offset < int(numbers[0])
            found.in_order = found.in_order and follows and bool((np.diff(numbers) > 0).all())
            known = [offset for offset in (found.first_offset, found.last_offset) if offset is not None]
            found.first_offset = min([int(numbers.min()), *known])
            found.last_offset = max([int(numbers.max()), *known])

    def told(self) -> list[Partition]:
        """By name."""
        return [self._found[name] for name in sorted(self._found)]
