"""What collectors send: batches of events as lines of JSON, each with its coverage report, in the order of receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tracker.simulate.case import clock_error, shown
from tracker.simulate.watchers import Watcher, receipts
from tracker.simulate.world import NEVER, Chunk, World


@dataclass(frozen=True)
class Batch:
    """One request to the tracker at `at` (µs): lines of events, and the collector's report if it makes one."""

    at: int
    lines: bytes
    report: dict[str, Any] | None


def ident(world: World, message: int) -> str:
    """The id of a message."""
    return f"{world.scenario.name}-{world.seed}-{message:07d}"


def batches(world: World, watching: dict[str, list[Watcher]]) -> Iterator[Batch]:
    """Every request of every collector, by time. A collector that resends sends each batch twice."""
    lines = _lines(world, watching)
    made: list[tuple[int, Batch]] = []
    for watcher in (one for every in watching.values() for one in every):
        for n, at in enumerate(watcher.receipt.tolist()):
            batch = Batch(at, lines.pop((watcher.name, n), b""), _report(world, watcher, n))
            made += [(at, batch)] * (2 if watcher.resends else 1)
    made += [(at, Batch(at, text, None)) for (_, at), text in lines.items()]  # of hops that nobody watches
    for _, batch in sorted(made, key=lambda one: one[0]):
        yield batch


def _report(world: World, watcher: Watcher, n: int) -> dict[str, Any]:
    flow = world.scenario.flow["flow"]
    places = [p for p in world.route.places if watcher.hop in p.hops]
    report: dict[str, Any] = {
        "collector": watcher.name,
        "epoch": int(watcher.epoch[n]),
        "sequence": int(watcher.sequence[n]),
        "lag_ms": int(watcher.receipt[n] - watcher.cut[n]) // 1000,
        "sources": [{"flow": flow, "hop": watcher.hop, "stage": p.stage, "source": str(watcher.node)} for p in places],
    }
    for fault in world.faults("clock"):
        if fault.measured and fault.place in ("", watcher.hop) and fault.node in (None, watcher.node):
            report["offset_us"] = -int(clock_error(world, fault, watcher.cut[n : n + 1])[0])
            report["error_us"] = 2_000
    return report


def _lines(world: World, watching: dict[str, list[Watcher]]) -> dict[tuple[str, int], bytes]:
    """The lines of each (collector, report); of hops that nobody watches, (hop, time) in slices of 100 ms."""
    names = {hop: i for i, hop in enumerate(world.route.hops)}
    frames = [frame for chunk in world.chunks if (frame := _frame(world, watching, chunk, names)) is not None]
    if not frames:
        return {}
    found = {}
    for (name, report), rows in (
        pl.concat(frames, how="diagonal").partition_by(["_by", "_report"], as_dict=True, include_key=False).items()
    ):
        found[str(name), int(report)] = rows.write_ndjson().encode()
    return found


def _frame(
    world: World, watching: dict[str, list[Watcher]], chunk: Chunk, names: dict[str, int]
) -> pl.DataFrame | None:
    receipt, report = receipts(watching, chunk)
    by = np.array([f"{chunk.hop}-{n}" for n in range(int(chunk.node.max()) + 1)])[chunk.node]
    if chunk.hop in world.scenario.unwatched:
        receipt = np.where(chunk.silent, NEVER, chunk.time + 1_000)
        report, by = receipt, np.full(len(receipt), chunk.hop)
    sent = receipt < NEVER
    if not sent.any():
        return None
    message = chunk.message[sent]
    origin = world.origin[message] if chunk.origin is None else chunk.origin[sent]
    columns: dict[str, Any] = {
        "_by": by[sent],
        "_report": report[sent],
        "flow": world.scenario.flow["flow"],
        "message_id": [ident(world, m) for m in message.tolist()],
        "hop": chunk.hop,
        "stage": chunk.stage,
        "observed_at": shown(world, chunk)[sent],
        "origin_at": origin,
        "node": [f"{chunk.hop}-{n}" for n in chunk.node[sent].tolist()],
        "digest": [f"{d:016x}" for d in chunk.digest[sent].tolist()],
    }
    if chunk.delivery.any():
        columns["delivery"] = [f"d{d}" for d in chunk.delivery[sent].tolist()]
    if chunk.reason:
        columns["reason"] = chunk.reason
    if chunk.replay:
        columns["replay_id"] = chunk.replay
    if world.scenario.partitions and chunk.stage == "produce":
        columns["partition"] = [f"p{p}" for p in world.partition[message].tolist()]
        columns["offset"] = message
    return pl.DataFrame(columns)


def header(report: dict[str, Any]) -> str:
    """A report as the header of its batch."""
    return json.dumps(report, separators=(",", ":"))
