"""Traffic for measurements: four hops per message, block after block, as columns that the store takes.

A block's messages are produced and persisted in one insert, replicated and acked in the next, as it is when passes run
more often than messages finish. Everything follows from a seed. Times are µs of a simulated clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracker.store.columns import EVENTS

Ids = Literal["uuid7", "uuid4"]
Bytes = npt.NDArray[np.uint8]

FLOW = "orders"
SPEC = f"""
flow: {FLOW}
owner: team-payments
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: kafka-eu, stage: persist, after: checkout, within: 30s}}
  - {{hop: kafka-us, stage: replicate, after: kafka-eu, within: 60s, same_payload: true}}
  - {{hop: billing, stage: ack, after: kafka-eu, within: 120s, at_most: 1}}
"""
HOPS = [("checkout", "produce"), ("kafka-eu", "persist"), ("kafka-us", "replicate"), ("billing", "ack")]
STEP = 10_000_000
"""From one block to the next, µs."""
DELAYS = [(100, 1_000), (1_000, STEP // 3), (1_000, STEP // 3), (1_000, STEP // 3)]
"""How long after a message's origin, or the beginning of a block, each hop sees it, µs: from, to."""
BATCH = 500_000
"""How often a collector sends what it saw, µs: events of one batch are received at one time."""
MISSING = 0.001
"""This part of the messages is never acked."""
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_DASHES = (8, 13, 18, 23)


def texts(raw: Bytes) -> pa.Array:
    """Rows of ASCII bytes, all of one width, as strings."""
    count, width = raw.shape
    offsets = np.arange(count + 1, dtype=np.int32) * width
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(raw))]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def hexadecimal(raw: Bytes) -> Bytes:
    """Rows of bytes as rows of twice as many hexadecimal digits."""
    digits = np.empty((raw.shape[0], raw.shape[1] * 2), dtype=np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[raw >> 4], _HEX[raw & 15]
    return digits


def uuids(random: np.random.Generator, origins: npt.NDArray[np.int64], kind: Ids) -> Bytes:
    """A UUID for each origin (µs), as 36 characters: version 7 begins with the time, version 4 is random."""
    raw = random.integers(0, 256, (len(origins), 16), dtype=np.uint8)
    if kind == "uuid7":
        stamps = (origins // 1000).astype(">u8")
        raw[:, :6] = np.frombuffer(stamps.tobytes(), dtype=np.uint8).reshape(-1, 8)[:, 2:]
    raw[:, 6] = (raw[:, 6] & 0x0F) | (0x70 if kind == "uuid7" else 0x40)
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    text = np.full((len(origins), 36), ord("-"), dtype=np.uint8)
    text[:, [i for i in range(36) if i not in _DASHES]] = hexadecimal(raw)
    return text


@dataclass(frozen=True)
class Block:
    """Messages that were produced together."""

    ids: Bytes
    origins: npt.NDArray[np.int64]
    traces: Bytes
    digests: npt.NDArray[np.uint64]
    first_offset: int

    def some(self, chosen: npt.NDArray[Any]) -> Block:
        """Only these messages."""
        return Block(
            self.ids[chosen], self.origins[chosen], self.traces[chosen], self.digests[chosen], self.first_offset
        )


class Traffic:
    """`next()` gives the next insert and moves `now` on; `sample` is one message in a hundred of all so far."""

    def __init__(self, per_block: int, ids: Ids, start: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._per_block, self._ids = per_block, ids
        self._before: Block | None = None
        self._made = 0
        self.now = start
        self.sample: list[Block] = []

    def next(self, more: bool = True, acked: bool = True) -> pa.Table:
        """Produce and persist of a new block (if `more`), replicate and (if `acked`) ack of the one before."""
        new = self._block() if more else None
        parts = [self._events(new, 0), self._events(new, 1)] if new else []
        if self._before is not None:
            parts.append(self._events(self._before, 2))
            seen = self._random.random(len(self._before.ids)) >= MISSING
            if acked:
                parts.append(self._events(self._before.some(seen), 3))
        self.now += STEP
        self._before = new
        if new:
            self.sample.append(new.some(self._random.random(len(new.ids)) < 0.01))
        return pa.concat_tables(parts)

    def late(self) -> pa.Table:
        """A second ack, on another session, of every message of the sample."""
        blocks, self.sample = self.sample, []
        self.now += STEP
        return pa.concat_tables([self._events(block, 3, delivery="again", at=self.now - STEP) for block in blocks])

    def _block(self) -> Block:
        count = self._per_block
        origins = self.now + np.sort(self._random.integers(0, STEP // 2, count))
        block = Block(
            uuids(self._random, origins, self._ids),
            origins,
            hexadecimal(self._random.integers(0, 256, (count, 16), dtype=np.uint8)),
            self._random.integers(1, 1 << 63, count).astype(np.uint64),
            self._made,
        )
        self._made += count
        return block

    def _events(self, block: Block, hop: int, delivery: str = "", at: int | None = None) -> pa.Table:
        count = len(block.ids)
        delay = self._random.integers(*DELAYS[hop], count)
        observed = delay + ((block.origins if hop < 2 else self.now) if at is None else at)
        placed = hop in (1, 2)
        received = (observed // BATCH + 1) * BATCH + 20_000
        name, stage = HOPS[hop]
        return filled(
            count,
            flow=FLOW,
            message_id=texts(block.ids),
            hop=name,
            stage=stage,
            observed_at=observed,
            origin_at=block.origins,
            node=pa.array([f"{name}-{n}" for n in range(8)]).take(pa.array(self._random.integers(0, 8, count))),
            digest=block.digests,
            size=self._random.integers(200, 5_000, count).astype(np.uint64),
            partition=pa.array([f"{FLOW}/{n}" for n in range(12)]).take(pa.array(np.arange(count) % 12))
            if placed
            else "",
            offset=block.first_offset + np.arange(count) if placed else -1,
            consumer_group="billing" if hop == 3 else "",
            delivery=delivery,
            trace_id=texts(block.traces),
            received_at=received,
        )


def _partitions(count: int) -> pa.Array:
    return pa.array([f"{FLOW}/{n}" for n in range(12)]).take(pa.array(np.arange(count) % 12))


def filled(count: int, **given: Any) -> pa.Table:
    """A table of `EVENTS`: what is given, as one value for all or as an array; nothing in the other columns."""
    columns = []
    for field in EVENTS:
        value = given.get(field.name)
        if value is None:
            value = _nothing(field.type)
        if not isinstance(value, (pa.Array, pa.ChunkedArray, np.ndarray)):
            value = pa.repeat(pa.scalar(value, field.type), count)
        columns.append(value if isinstance(value, (pa.Array, pa.ChunkedArray)) else pa.array(value, field.type))
    return pa.table(columns, schema=EVENTS)


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_map(kind):
        return []
    if pa.types.is_boolean(kind):
        return False
    return 0 if pa.types.is_integer(kind) else ""
