"""How well anomalies are found: weeks of flows with labelled ones, through the engine's own seasons.

    python -m tests.benchmarks.anomalies --weeks 4 --flows 24 --seeds 301 --json

Each flow of each seed has `--weeks` weeks of counts by the minute (`tracker.simulate.seasons`), written as passes write
them, and summed up by the hour. Two weeks are history. In the others each minute is decided by itself, as the service
does it, with seasons as they were known before it. Counts are read `--step` minutes at a time, which changes nothing
that is found (tests/store/test_anomalies.py), and seasons are renewed every six hours. Anomalies are compared with the
labels: a drop (by 30 to 100 %) or surge (by 30 to 200 %) of volume, a latency 1.3 to 5 times as long, 3 to 50 % of all
messages lost or delivered twice, a hop that nobody watches; each for 10 to 120 minutes.

A label is found when an anomaly of its signal and flow begins to be told before it has been over for ten minutes. An
anomaly that overlaps no label of its flow, nor the half hour after one, is a false alarm. `delay_min`: from the
beginning of a label to the minute in which it is told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.benchmarks.watch import cpu_s, peak_rss_mb
from tracker.anomalies.watch import Watch
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.simulate.seasons import HOPS, MINUTE, SIGMA, WEEK, Label, Weeks, weeks
from tracker.store import Store
from tracker.store.anomalies import HOUR, Anomaly
from tracker.store.settled import COUNTS

SPEC = """flow: {flow}
owner: team
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: billing, stage: ack, after: log, within: 30s, at_most: 1}}
"""
BEGIN = 1_799_625_600
"""A Monday, 00:00 UTC."""
HISTORY = 2
"""Weeks before the first label."""
AFTER = 30
"""Minutes after a label that still belong to it."""
LATE = 10
"""Minutes after its end until which a label may be found."""
GRID = np.array([-1.28, -0.52, 0.0, 0.52, 1.28])
"""Quantiles of which a sketch is made."""


def fill(store: Store, flow: str, made: Weeks) -> None:
    """Write what passes would have kept, a pass a minute, its hours, and what collectors vouched for."""
    engine, db, n = store.engine, store.engine.database, len(made.begun)
    minutes = np.arange(n)
    at = BEGIN + minutes * MINUTE
    good = made.settled - made.missing
    columns: dict[str, Any] = {"begun": made.begun, "delivered": good, "lost": made.missing, "complete": good}
    columns["duplicated"] = made.duplicated
    engine.insert("settled", _rows(flow, at, columns))
    for hop, (name, stage) in enumerate([("", ""), *HOPS]):
        took = made.took[0 if hop < 2 else hop - 1]
        measured = hop != 1
        counts = (np.zeros(n), np.zeros(n)) if hop == 0 else (made.due[hop - 1], made.seen[hop - 1])
        engine.command(f"CREATE OR REPLACE TABLE {db}.taken (at UInt32, due UInt64, seen UInt64, took Float64) "
                       "ENGINE = Memory")  # fmt: skip
        columns = {"at": pa.array(at, pa.uint32()), "due": pa.array(counts[0], pa.float64()).cast(pa.uint64()),
                   "seen": pa.array(counts[1], pa.float64()).cast(pa.uint64()), "took": took}  # fmt: skip
        engine.insert("taken", pa.table(columns))
        grid = ", ".join(str(float(np.exp(SIGMA * q))) for q in GRID)
        engine.command(
            f"INSERT INTO {db}.latencies (flow, hop, stage, at, pass, sketch, due, seen) SELECT {{flow:String}}, "
            "{hop:String}, {stage:String}, toDateTime(at, 'UTC'), at, "
            f"arrayReduce('quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)', arrayMap(x -> x * took, [{grid}]), "
            f"arrayMap(x -> {int(measured)} AND ({hop} = 0 OR seen > 0), [{grid}])), due, seen FROM {db}.taken",
            {"flow": flow, "hop": name, "stage": stage},
        )
    engine.command(f"DROP TABLE {db}.taken")
    _vouched(store, flow, made)


def _rows(flow: str, at: Any, columns: dict[str, Any]) -> pa.Table:
    named = {name: pa.array(values).cast(pa.uint64()) for name, values in columns.items()}
    moment = pa.array(at, pa.uint32())
    base = {"tenant": [""] * len(at), "flow": [flow] * len(at), "at": moment, "pass": pa.array(at, pa.uint64())}
    return pa.table(base | named)


def _vouched(store: Store, flow: str, made: Weeks) -> None:
    runs: list[tuple[str, str, int, int]] = []
    for hop, (name, stage) in enumerate(HOPS):
        edges = np.flatnonzero(np.diff(np.concatenate([[1], made.blind[hop], [1]]).astype(int)))
        for low, high in edges.reshape(-1, 2):
            runs.append((name, stage, BEGIN + int(low) * MINUTE, BEGIN + int(high) * MINUTE))
    hops, stages, starts, ends = zip(*runs, strict=True)
    size = len(runs)
    columns: dict[str, Any] = {name: [value] * size for name, value in
                               {"tenant": "", "flow": flow, "source": "all", "evidence": "message", "collector": "c",
                                "signed_off": False, "broken": False}.items()}  # fmt: skip
    columns |= {"hop": hops, "stage": stages}
    columns |= {name: pa.array(values, pa.uint64()) for name, values in
                {"epoch": range(1, size + 1), "first_sequence": [1] * size, "last_sequence": [9] * size,
                 "pass": [1] * size}.items()}  # fmt: skip
    columns |= {name: pa.array([one * SECOND for one in values], pa.int64()).cast(pa.timestamp("us", "UTC"))
                for name, values in {"start_at": starts, "end_at": ends}.items()}  # fmt: skip
    store.engine.insert("coverage", pa.table(columns))


def sum_up(store: Store, flow: str) -> None:
    """What `keep_hours` does hour by hour, for all hours of a flow at once."""
    engine, db = store.engine, store.engine.database
    sums = ", ".join(f"sum({name})" for name in COUNTS)
    engine.command(f"INSERT INTO {db}.settled_hours (tenant, flow, at, since, {', '.join(COUNTS)}, newest) SELECT "
                   f"tenant, flow, toStartOfHour(at) AS hour, min(at), {sums}, max(newest) FROM {db}.settled "
                   "WHERE flow = {flow:String} GROUP BY tenant, flow, hour", {"flow": flow})  # fmt: skip
    engine.command(f"INSERT INTO {db}.latency_hours (tenant, flow, hop, stage, at, sketch, due, seen) SELECT tenant, "
                   "flow, hop, stage, toStartOfHour(at) AS hour, quantilesDDMergeState(0.01, 0.5, 0.95, 0.99)(sketch), "
                   f"sum(due), sum(seen) FROM {db}.latencies WHERE flow = {{flow:String}} "
                   "GROUP BY tenant, flow, hop, stage, hour", {"flow": flow})  # fmt: skip


def measure(
    seeds: Sequence[int], flows: int, rate: float, count: int, step: int, folder: Path, told: bool
) -> dict[str, Any]:
    """The numbers of all seeds together."""
    results: dict[str, list[Any]] = {"labels": [], "anomalies": []}
    looked = cpu = 0.0
    for seed in seeds:
        store = Store.open(f"chdb://{folder}/store?database=seed{seed}", durability="process")
        store.migrate()
        made = {f"flow-{seed}-{n}": weeks(seed * 1000 + n, rate, count, HISTORY) for n in range(flows)}
        for flow, filled in made.items():
            fill(store, flow, filled)
            sum_up(store, flow)
        specs: dict[str, FlowSpec] = {flow: load_spec(SPEC.format(flow=flow)) for flow in made}
        watch = Watch(store, lambda specs=specs: specs, lambda: 1 << 60, every=6 * HOUR)  # type: ignore[misc]
        found: dict[Any, Anomaly] = {}
        began, spent = time.perf_counter(), cpu_s()
        first, last = BEGIN + HISTORY * WEEK * MINUTE, BEGIN + count * WEEK * MINUTE
        for now in range(first, last + 1, step * MINUTE):
            for one in watch.look((now + 30) * SECOND):
                found[one.key, one.since] = one
        looked, cpu = looked + time.perf_counter() - began, cpu + cpu_s() - spent
        for flow, one_made in made.items():
            mine = [one for one in found.values() if one.flow == flow]
            results["labels"] += [(label, mine) for label in one_made.labels]
            results["anomalies"] += [(one, one_made.labels) for one in mine]
        store.engine.command(f"DROP DATABASE seed{seed}")
        store.close()
    flow_weeks = len(seeds) * flows * (count - HISTORY)
    return {"seeds": list(seeds), "flows": flows, "rate_per_minute": rate, "weeks": count, "step_min": step,
            "flow_weeks": flow_weeks, **scores(results["labels"], results["anomalies"], flow_weeks, told),
            "look_s": round(looked, 1), "look_cpu_s": round(cpu, 1), "peak_rss_mb": peak_rss_mb()}  # fmt: skip


def scores(labels: Sequence[tuple[Label, Sequence[Anomaly]]], anomalies: Sequence[tuple[Anomaly, Sequence[Label]]],
           flow_weeks: int, told: bool) -> dict[str, Any]:  # fmt: skip
    """Recall, precision, false alarms per flow and week, delays; by signal."""
    found: dict[str, list[bool]] = {}
    delays: dict[str, list[float]] = {}
    for label, mine in labels:
        first = min((one.opened_at for one in mine if one.signal == label.signal and _within(one, label)), default=None)
        found.setdefault(label.signal, []).append(first is not None)
        if first is not None:
            delays.setdefault(label.signal, []).append((first - BEGIN) / MINUTE - label.start)
        elif told:
            print("missed", label, [(one.signal, one.hop, one.direction) for one in mine if _belongs(one, [label])])
    false: dict[str, int] = {}
    for one, mine_labels in anomalies:
        if not _belongs(one, mine_labels):
            false[one.signal] = false.get(one.signal, 0) + 1
            if told:
                print("false", one)
    alarms = sum(false.values())
    every = [hit for hits in found.values() for hit in hits]
    all_delays = [one for some in delays.values() for one in some]
    return {
        "labels": len(every),
        "recall": round(sum(every) / len(every), 4),
        "anomalies": len(anomalies),
        "precision": round(1 - alarms / max(len(anomalies), 1), 4),
        "false_alarms": alarms,
        "false_alarms_per_flow_week": round(alarms / flow_weeks, 4),
        "delay_min_p50": round(statistics.median(all_delays), 1) if all_delays else None,
        "delay_min_p95": round(float(np.quantile(all_delays, 0.95)), 1) if all_delays else None,
        "by_signal": {
            name: {"labels": len(hits), "recall": round(sum(hits) / len(hits), 4),
                   "false_alarms_per_flow_week": round(false.get(name, 0) / flow_weeks, 4),
                   "delay_min_p50": round(statistics.median(delays[name]), 1) if name in delays else None}
            for name, hits in sorted(found.items())
        },
    }  # fmt: skip


def _within(one: Anomaly, label: Label) -> bool:
    """It is told of this label, while that lasts or soon after."""
    opened = (one.opened_at - BEGIN) / MINUTE
    return label.start < opened <= label.end + LATE


def _belongs(one: Anomaly, labels: Sequence[Label]) -> bool:
    begin, end = (one.since - BEGIN) / MINUTE, (one.last_at - BEGIN) / MINUTE
    return any(begin < label.end + AFTER and end > label.start for label in labels)


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=12)
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--rate", type=float, default=200, help="messages a minute")
    parser.add_argument("--step", type=int, default=60, help="minutes from look to look; what is found is the same")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--told", action="store_true", help="name what was missed, and false alarms")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.seeds, given.flows, given.rate, given.weeks, given.step, Path(folder), given.told)
    print(json.dumps(found) if given.json else "\n".join(f"{name:>28}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
