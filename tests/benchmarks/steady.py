"""The reconciler beside a steady stream, in real time: processor time, and how soon what is missing is found.

Four-checkpoint messages, `within: 5m`, one in a hundred of a flow with `within: 7d`; one in a thousand is never acked.
What the ingest alone costs is measured first, on a ledger of its own, and taken off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.benchmarks.watch import cpu_s, load, peak_rss_mb, spread
from tests.benchmarks.workload import HOPS, filled, texts, uuids
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.reconcile import PassResult, Reconciler, now_us
from tracker.store import Store

SPEC = """
flow: {flow}
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: kafka-eu, stage: persist, after: checkout, within: {within}}}
  - {{hop: kafka-us, stage: replicate, after: kafka-eu, within: {within}, same_payload: true}}
  - {{hop: billing, stage: ack, after: kafka-eu, within: {within}, at_most: 1}}
"""
FLOWS = {"orders": 0.99, "archive": 0.01}
"""Which part of the messages each has; the last one's have seven days."""
MISSING = 0.001
TICK = 0.5
"""How often every collector sends, s."""


Block = tuple[str, pa.Array, npt.NDArray[np.int64], npt.NDArray[np.uint64]]
"""Flow, ids, origins and digests of messages that were produced together."""


class Stream:
    """So many events per second, in batches of half a second: produce and persist at once, replicate and ack a batch
    later. `reported`: when coverage reports were received, µs."""

    def __init__(self, world: Installation, rate: int, flows: Mapping[str, float] = FLOWS) -> None:
        self._world, self._random, self._flows = world, np.random.default_rng(7), flows
        self._count = int(rate * TICK / 4)
        self._last: list[Block] = []
        self.events, self.late_s = 0, 0.0
        self.reported: list[int] = []

    def run(self, stop: threading.Event, seconds: float) -> None:
        """Send until `stop`, or until the time is over; `late_s` is the most that it fell behind."""
        began = time.monotonic()
        for n in range(int(seconds / TICK)):
            wait = began + n * TICK - time.monotonic()
            self.late_s = max(self.late_s, -wait)
            if stop.wait(max(wait, 0)):
                return
            self._tick()

    def _tick(self) -> None:
        now = now_us()
        new = [self._block(flow, int(self._count * share), now) for flow, share in self._flows.items()]
        parts = [self._events(block, hop, now) for block in new for hop in (0, 1)]
        for block in self._last:
            parts.append(self._events(block, 2, now))
            acked = self._random.random(len(block[2])) >= MISSING
            some = (block[0], block[1].filter(pa.array(acked)), block[2][acked], block[3][acked])
            parts.append(self._events(some, 3, now))
        self._last = new
        columns = pa.concat_tables(parts)
        self._world.store.insert_events(columns)
        self.events += columns.num_rows
        self._world.now = now_us()
        self._world.vouch([SourceRef(flow, hop, stage, "all") for flow in self._flows for hop, stage in HOPS])
        self.reported.append(self._world.now)

    def _block(self, flow: str, count: int, now: int) -> Block:
        origins = now - self._random.integers(0, int(TICK * 1e6), count)
        digests = self._random.integers(1, 1 << 63, count).astype(np.uint64)
        return flow, texts(uuids(self._random, origins, "uuid7")), origins, digests

    def _events(self, block: Block, hop: int, now: int) -> pa.Table:
        flow, ids, origins, digests = block
        name, stage = HOPS[hop]
        return filled(
            len(ids), flow=flow, message_id=ids, hop=name, stage=stage, received_at=now, digest=digests,
            observed_at=now - self._random.integers(0, 1_000, len(ids)) + hop, origin_at=origins, node=f"{name}-0",
            size=np.full(len(ids), 700, dtype=np.uint64),
        )  # fmt: skip


class Watched(Reconciler):
    """Notes of every finding how long after it could be known it was there: deadline passed, and covered beyond it."""

    def __init__(self, store: Store, world: Installation, stream: Stream) -> None:
        super().__init__(store, world.control, now_us)
        self._engine, self._stream = store.engine, stream
        self.delays: list[float] = []
        self.passes: list[float] = []

    def run_pass(self, finish: Any = None) -> PassResult:
        """One pass, and a look at what it opened."""
        result = super().run_pass(finish)
        if result.number:
            self.passes.append(result.seconds)
        if result.opened:
            there = now_us()
            rows = self._engine.rows(
                f"SELECT toUnixTimestamp64Micro(deadline) AS due FROM {self._engine.database}.findings "
                "WHERE pass = {number:UInt64} AND status = 'open'",
                {"number": result.number},
            )
            due = np.array([row["due"] for row in rows], dtype=np.int64)
            reports = np.array(self._stream.reported, dtype=np.int64)
            covered = np.searchsorted(reports, due)
            known = np.maximum(due, reports[np.minimum(covered, len(reports) - 1)])
            self.delays += ((there - known) / 1e6).tolist()
        return result


def measure(seconds: float, rate: int, within: str, many: int, folder: Path) -> dict[str, Any]:
    """`seconds` of the stream with the reconciler beside it, after a tenth of that without. All messages but one in a
    hundred are of `many` flows, as many of each."""
    before, flows = load(), {f"orders-{n}": 0.99 / many for n in range(many)} | {"archive": 0.01}
    alone = _alone(seconds / 10, rate, within, flows, folder / "alone")
    with closing(_installed(folder / "steady", within, flows)) as world:
        stream, stop = Stream(world, rate, flows), threading.Event()
        reconciler = Watched(world.store, world, stream)
        judging = threading.Thread(target=reconciler.run, args=(stop,), daemon=True)
        cpu, began = cpu_s(), time.monotonic()
        judging.start()
        stream.run(stop, seconds)
        took, spent = time.monotonic() - began, cpu_s() - cpu
        stop.set()
        judging.join(60)
    found = spread(reconciler.delays) if reconciler.delays else {"p50": None, "p99": None}
    return {
        "steady_events_per_s": round(stream.events / took),
        "seconds": round(took, 1),
        "within": within,
        "flows": len(flows),
        "reconciler_cores": round(spent / took - alone, 2),
        "ingest_cores": round(alone, 2),
        "fell_behind_s": round(stream.late_s, 2),
        "passes": len(reconciler.passes),
        "pass_s": spread(reconciler.passes),
        "findings": len(reconciler.delays),
        "detection_p50_s": found["p50"],
        "detection_p99_s": found["p99"],
        "peak_rss_mb": peak_rss_mb(),
        "load_average": [before, load()],
    }


def _alone(seconds: float, rate: int, within: str, flows: Mapping[str, float], folder: Path) -> float:
    """Cores that the stream takes when nobody judges it."""
    with closing(_installed(folder, within, flows)) as world:
        stream = Stream(world, rate, flows)
        cpu, began = cpu_s(), time.monotonic()
        stream.run(threading.Event(), seconds)
        return (cpu_s() - cpu) / (time.monotonic() - began)


def _installed(folder: Path, within: str, flows: Mapping[str, float] = FLOWS) -> Installation:
    folder.mkdir()
    world = Installation(folder)
    for n, flow in enumerate(flows, 1):
        world.put(SPEC.format(flow=flow, within=within if n < len(flows) else "7d"))
    return world
