"""How long a look at thousands of flows takes, and what it needs.

    python -m tests.benchmarks.anomalies_many --flows 5000 --json

Flows of three checkpoints and about 20 messages a minute, with `--weeks` weeks of hours, a pass each ten minutes of the
last day and one each minute of the last hours, on an embedded engine. `learn_s`: a look that works out the seasons of
all flows at once; the service spreads that over looks (`REFRESH`). `look_s`: the looks after it, of a minute each.
`look_every_s`: how far apart they are with rests of ten times as long.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.anomalies import BEGIN, GRID, SPEC
from tests.benchmarks.watch import cpu_s
from tracker.anomalies.running import SHARE
from tracker.anomalies.watch import Watch
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.store import Store
from tracker.store.anomalies import DAY, HOUR, MINUTE

PLACES = (("", ""), ("shop", "produce"), ("log", "persist"), ("billing", "ack"))
FINE = 4 * HOUR
"""So much of the end has a pass a minute."""


def fill(store: Store, flows: int, weeks: int) -> int:
    """Write what passes and hours would have left; the end of it, epoch s."""
    end = BEGIN + weeks * 7 * DAY + HOUR // 2
    hours = range(BEGIN, end // HOUR * HOUR, HOUR)
    coarse = range(end // HOUR * HOUR - DAY, end - FINE, 600)
    for at in (hours[n : n + 24] for n in range(0, len(hours), 24)):
        _write(store, flows, at, 60, "settled_hours", "latency_hours")
    _write(store, flows, coarse, 10, "settled", "latencies")
    _write(store, flows, range(end - FINE, end + 4 * HOUR, MINUTE), 1, "settled", "latencies")
    return end


def _write(store: Store, flows: int, at: range, minutes: int, counts: str, sketches: str) -> None:
    engine, db = store.engine, store.engine.database
    base = {"flows": flows, "first": at[0], "step": at.step, "n": flows * len(at), "per": 20 * minutes}
    moment = "toDateTime({first:UInt32} + {step:UInt32} * intDiv(number, {flows:UInt32}), 'UTC')"
    flow = "'flow-' || toString(number % {flows:UInt32})"
    many = "toUInt64({per:UInt32} * exp(0.4 * sin(toUnixTimestamp(at) * 2 * pi() / 86400)) + rand() % 7)"
    own = "pass" if counts == "settled" else "since"
    engine.command(
        f"INSERT INTO {db}.{counts} (tenant, flow, at, {own}, begun, delivered, complete) SELECT '', {flow}, {moment} "
        f"AS at, at, {many} AS m, m, m FROM numbers({{n:UInt64}})", base
    )  # fmt: skip
    passes = ", pass" if counts == "settled" else ""
    value = ", toUnixTimestamp(at)" if passes else ""
    for hop, stage in PLACES:
        grid = ", ".join(str(1e5 * 1.8**q) for q in GRID)
        engine.command(
            f"INSERT INTO {db}.{sketches} (tenant, flow, hop, stage, at{passes}, sketch, due, seen) SELECT '', {flow}, "
            f"'{hop}', '{stage}', {moment} AS at{value}, arrayReduce('quantilesDDState(0.01, 0.5, 0.95, 0.99)', "
            f"arrayMap(x -> x * (0.9 + rand() % 100 / 500), [{grid}])), {many} * {int(bool(hop))} AS m, m "
            "FROM numbers({n:UInt64})",
            base,
        )


def rss_mb() -> int:
    """The memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // (1 << 20)


def measure(flows: int, weeks: int, looks: int, folder: Path) -> dict[str, Any]:
    """The numbers."""
    store = Store.open(f"chdb://{folder}/store?database=many", durability="process")
    store.migrate()
    end = fill(store, flows, weeks)
    filled = most = rss_mb()
    specs = {f"flow-{n}": load_spec(SPEC.format(flow=f"flow-{n}")) for n in range(flows)}
    watch = Watch(store, lambda: specs, lambda: 1 << 60, lambda: 0.0)
    cpu, taken = cpu_s(), list[float]()
    for n in range(looks + 1):
        began = time.perf_counter()
        watch.look((end + n * MINUTE) * SECOND)
        taken.append(time.perf_counter() - began)
        most = max(most, rss_mb())
    look = statistics.median(taken[1:])
    return {
        "flows": flows, "weeks": weeks, "learned": watch.learned, "learn_s": round(taken[0], 1),
        "look_s": round(look, 2), "slowest_look_s": round(max(taken[1:]), 2),
        "look_every_s": round(max(look * (1 + SHARE), MINUTE)),
        "cpu_s": round(cpu_s() - cpu, 1), "rss_mb_before": filled, "rss_mb": most,
    }  # fmt: skip


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=5000)
    parser.add_argument("--weeks", type=int, default=2)
    parser.add_argument("--looks", type=int, default=3, help="after the one that learns")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.flows, given.weeks, given.looks, Path(folder))
    print(json.dumps(found) if given.json else "\n".join(f"{name:>28}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
