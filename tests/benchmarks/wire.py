"""Bodies as collectors send them, made by the million: one hop's events of one block of messages each.

Records of one format and hop all have the same width, so a body is a matrix of bytes into whose columns ids, times and
digests are written; nothing is formatted one by one. Every body has new ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.benchmarks.workload import FLOW, HOPS, MISSING, Bytes, filled, hexadecimal, texts, uuids

Body = bytes | memoryview
Compression = Literal["none", "lz4", "zstd"]
Numbers = npt.NDArray[np.int64]

PARTITIONS = 8
_PARTITIONS = [f"{FLOW}/{n}" for n in range(PARTITIONS)]
NODES = 8
DELAY = 2_000
"""How long after the hop before it each hop sees a message at most, µs."""
_FIRST_OFFSET = 101_000_000_000
"""Offsets have as many digits from the first to the last."""
_FOUR = np.array([list(f"{n:04}".encode()) for n in range(10_000)], dtype=np.uint8)


@dataclass(frozen=True)
class Block:
    """Messages produced together: ids, trace ids (bytes), digests, sizes, origins (µs), places on a log."""

    ids: Bytes
    traces: Bytes
    digests: Bytes
    sizes: Numbers
    origins: Numbers
    offsets: Numbers
    seen: tuple[Numbers, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, chosen: npt.NDArray[np.bool_]) -> Block:
        """Only these messages."""
        return Block(
            self.ids[chosen], self.traces[chosen], self.digests[chosen], self.sizes[chosen], self.origins[chosen],
            self.offsets[chosen], tuple(times[chosen] for times in self.seen),
        )  # fmt: skip


def blocks(count: int, start: int, step: int, seed: int) -> Iterator[Block]:
    """Blocks of `count` new messages without end; the first has origins from `start`, each next one `step` µs later."""
    random = np.random.default_rng(seed)
    for n in itertools.count():
        origins = start + n * step + np.sort(random.integers(0, step, count))
        delays = random.integers(1, DELAY, (len(HOPS), count))
        yield Block(
            ids=uuids(random, origins, "uuid7"),
            traces=random.integers(0, 256, (count, 16), dtype=np.uint8),
            digests=random.integers(0, 256, (count, 8), dtype=np.uint8),
            sizes=random.integers(1_000, 5_000, count),
            origins=origins,
            offsets=_FIRST_OFFSET + n * count + np.arange(count),
            seen=tuple(origins + np.cumsum(delays, axis=0)),
        )


def bodies(count: int, start: int, step: int, seed: int) -> Iterator[tuple[Block, int]]:
    """What the four collectors of the flow send: (block, hop). A block is replicated and acked a block later; a few
    messages never are."""
    random = np.random.default_rng(seed + 1)
    before: Block | None = None
    for block in blocks(count, start, step, seed):
        yield from ((block, hop) for hop in (0, 1))
        if before is not None:
            yield before, 2
            yield before.some(random.random(count) >= MISSING), 3
        before = block


@dataclass(frozen=True)
class Format:
    """Where bodies of a format go, what they are called, how one is made."""

    path: str
    content_type: str
    body: Callable[[Block, int], Body]


class Template:
    """A record with places of fixed width, each found by what stands there in the example."""

    def __init__(self, example: bytes, places: Mapping[str, bytes]) -> None:
        assert all(example.count(mark) == 1 for mark in places.values()), "a mark must stand in the example once"
        self._record = np.frombuffer(example, dtype=np.uint8)
        self._at = {name: slice(at := example.index(mark), at + len(mark)) for name, mark in places.items()}

    def filled(self, count: int, values: Mapping[str, Bytes]) -> Bytes:
        """`count` records, one a row, with `values` in their places."""
        matrix = np.empty((count, len(self._record)), dtype=np.uint8)
        matrix[:] = self._record
        for name, place in self._at.items():
            matrix[:, place] = values[name]
        return matrix


def digits(numbers: Numbers, width: int) -> Bytes:
    """Decimal digits of numbers below 10 ** `width`, a row each; `width` is a multiple of four."""
    out = np.empty((len(numbers), width), dtype=np.uint8)
    rest = numbers
    for end in range(width, 0, -4):
        rest, four = np.divmod(rest, 10_000)
        out[:, end - 4 : end] = _FOUR[four]
    return out


def _ndjson(hop: int) -> Callable[[Block], Body]:
    """As an emitter writes its lines."""
    name, stage = HOPS[hop]
    marks = {"id": "i" * 36, "observed": "1" * 16, "origin": "2" * 16, "node": "~", "digest": "d" * 16, "size": "3333",
             "partition": "#", "offset": "4" * 12, "trace": "t" * 32}  # fmt: skip
    line: dict[str, Any] = {
        "flow": FLOW, "message_id": marks["id"], "hop": name, "stage": stage, "observed_at": int(marks["observed"]),
        "origin_at": int(marks["origin"]), "node": f"{name}-~", "digest": marks["digest"], "size": int(marks["size"]),
        "trace_id": marks["trace"],
    }  # fmt: skip
    if hop in (1, 2):
        line |= {"partition": f"{FLOW}/#", "offset": int(marks["offset"])}
    if hop == 3:
        line |= {"group": name}
    text = msgspec.json.encode(line) + b"\n"
    template = Template(text, {n: m.encode() for n, m in marks.items() if m.encode() in text})

    def body(block: Block) -> Body:
        matrix = template.filled(len(block), _ascii(block, hop))
        return matrix.reshape(-1).data

    return body


def _ascii(block: Block, hop: int) -> dict[str, Bytes]:
    places = np.arange(len(block))[:, None]
    return {
        "id": block.ids,
        "observed": digits(block.seen[hop], 16),
        "origin": digits(block.origins, 16),
        "node": (places % NODES + ord("0")).astype(np.uint8),
        "digest": hexadecimal(block.digests),
        "size": digits(block.sizes, 4),
        "partition": (places % PARTITIONS + ord("0")).astype(np.uint8),
        "offset": digits(block.offsets, 12),
        "trace": hexadecimal(block.traces),
    }


def by_hop(make: Callable[[int], Callable[[Block], Body]]) -> Callable[[Block, int], Body]:
    """A body for each hop, which is made ready once."""
    made = [make(hop) for hop in range(len(HOPS))]
    return lambda block, hop: made[hop](block)


def _arrow(compression: Compression) -> Callable[[Block, int], Body]:
    """A stream of one batch: times and numbers as such, words as dictionaries."""
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)

    def body(block: Block, hop: int) -> Body:
        columns = _columns(block, hop)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, columns.schema, options=options) as stream:
            stream.write_batch(columns)
        return memoryview(sink.getvalue())

    return body


def _columns(block: Block, hop: int) -> pa.RecordBatch:
    name, stage = HOPS[hop]
    places = np.arange(len(block))
    times = pa.timestamp("us", "UTC")
    columns = {
        "flow": _words(places, [FLOW]),
        "message_id": texts(block.ids),
        "hop": _words(places, [name]),
        "stage": _words(places, [stage]),
        "observed_at": pa.array(block.seen[hop], pa.int64()).cast(times),
        "origin_at": pa.array(block.origins, pa.int64()).cast(times),
        "node": _words(places, [f"{name}-{n}" for n in range(NODES)]),
        "digest": pa.array(_digests(block)),
        "size": pa.array(block.sizes),
        "trace_id": texts(hexadecimal(block.traces)),
    }
    if hop in (1, 2):
        columns |= {"partition": _words(places, _PARTITIONS), "offset": pa.array(block.offsets)}
    if hop == 3:
        columns |= {"group": _words(places, [name])}
    return pa.RecordBatch.from_pydict(columns)


def _words(places: Numbers, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array((places % len(words)).astype(np.int32)), pa.array(words))


def _digests(block: Block) -> npt.NDArray[np.uint64]:
    return block.digests.view(">u8").reshape(-1).astype(np.uint64)


def formats(compression: Compression = "lz4") -> dict[str, Format]:
    """Every format by its name; `compression` is that of Arrow's buffers."""
    return {
        "ndjson": Format("/v1/events", "application/x-ndjson", by_hop(_ndjson)),
        "arrow": Format("/v1/events", "application/vnd.apache.arrow.stream", _arrow(compression)),
    }


def rows(block: Block, hop: int, received_at: int) -> pa.Table:
    """The same events as rows of `EVENTS`, as the service makes them of a body."""
    name, stage = HOPS[hop]
    placed = hop in (1, 2)
    words = _columns(block, hop)
    return filled(
        len(block), flow=FLOW, message_id=texts(block.ids), hop=name, stage=stage, observed_at=block.seen[hop],
        origin_at=block.origins, node=words["node"].cast(pa.string()), digest=_digests(block),
        size=block.sizes.astype(np.uint64), partition=words["partition"].cast(pa.string()) if placed else "",
        offset=block.offsets if placed else -1, consumer_group=name if hop == 3 else "",
        trace_id=texts(hexadecimal(block.traces)), received_at=received_at, clock_error=-1,
    )  # fmt: skip
