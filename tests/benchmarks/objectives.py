"""What burn rates of many flows cost: one evaluation of all of them, and `/metrics` as Prometheus gets it.

    python -m tests.benchmarks.objectives --flows 10000 --json

The store holds `--days` of history: a row per flow and pass for the last four days, passes `--every` seconds apart, all
flows in each, a row per flow and hour, and coverage of each checkpoint. Every flow promises delivery. `evaluation_s` is
the median of five times what all burn rates, budgets and ratios take; `latency_s` the same for latencies of the last
hour. Then an app over this ledger is asked for `/metrics`, by HTTP within the process: `metrics_s` is the slowest of
ten answers, each of which reads the books anew while burn rates and counts are worked out beside it; `metrics_mb` is
the longest. `counting_s`: what is counted aside, once: messages, conservation, blind spots and other objectives of all
flows; how old these may get is about eleven times as long.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks.watch import cpu_s, load, peak_rss_mb
from tests.component.api.talk import Client
from tracker.api.app import create_app
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.cli.service import GARBAGE
from tracker.control import Control
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.slo import gauges, metrics
from tracker.slo.metrics import Metrics
from tracker.store import Store
from tracker.store.settled import DAY, HOUR, KEPT

SPEC = """flow: {flow}
owner: team-{team}
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: kafka-eu, stage: persist, after: checkout, within: 5s}}
  - {{hop: kafka-us, stage: replicate, after: kafka-eu, within: 30s}}
  - {{hop: billing, stage: ack, after: kafka-eu, within: 2m}}
objectives:
  delivery: {{target: 99.9%, window: 30d}}
"""
NOW = 1_800_000_000
ASKED = 10


def filled(store: Store, flows: int, days: int, every: int) -> int:
    """How many rows of passes there are. Hours are made of them as the reconciler does it, day by day."""
    engine, db = store.engine, store.engine.database
    counts = "20 AS begun, 19 + (f + at) % 2 AS delivered, if((f * 31 + at) % 997 = 0, 1, 0) AS lost, 20 AS complete"
    rows = 0
    for start in range(NOW - KEPT, NOW, DAY):
        base = {"start": start, "passes": DAY // every, "every": every, "flows": flows}
        engine.command(
            f"INSERT INTO {db}.settled (flow, at, pass, begun, delivered, lost, complete, newest) "
            f"SELECT concat('flow-', leftPad(toString(f), 6, '0')), at, at AS pass, {counts}, at * 1000000 FROM "
            "(SELECT number AS f FROM numbers({flows:UInt32})) AS a CROSS JOIN "
            "(SELECT {start:UInt32} + number * {every:UInt32} AS at FROM numbers({passes:UInt32})) AS b",
            base,
        )
        rows += flows * (DAY // every)
    engine.command(
        f"INSERT INTO {db}.settled_hours (flow, at, since, begun, delivered, lost, complete, newest) "
        f"SELECT concat('flow-', leftPad(toString(f), 6, '0')), at, at, 720, 719, if((f * 31 + at) % 997 = 0, 1, 0), "
        "720, at * 1000000 FROM (SELECT number AS f FROM numbers({flows:UInt32})) AS a CROSS JOIN "
        "(SELECT {start:UInt32} + number * 3600 AS at FROM numbers({hours:UInt32})) AS b",
        {"flows": flows, "start": (NOW - days * DAY) // HOUR * HOUR, "hours": days * 24},
    )
    engine.command(
        f"INSERT INTO {db}.latencies (flow, hop, stage, at, pass, sketch) SELECT concat('flow-', "
        "leftPad(toString(f), 6, '0')), hop, stage, at, at, quantilesDDState(0.01, 0.5, 0.95, 0.99)(took) FROM "
        "(SELECT number AS f FROM numbers({flows:UInt32})) AS a CROSS JOIN "
        "(SELECT {start:UInt32} + number * {every:UInt32} AS at FROM numbers({passes:UInt32})) AS b "
        "ARRAY JOIN ['', 'kafka-eu', 'kafka-us', 'billing'] AS hop, ['', 'persist', 'replicate', 'ack'] AS stage, "
        "arrayMap(n -> exp(10 + (rand(n) % 1000) / 200), range(4)) AS took GROUP BY f, hop, stage, at",
        {"flows": flows, "start": NOW - HOUR, "every": every, "passes": HOUR // every},
    )
    engine.command(
        f"INSERT INTO {db}.coverage (flow, hop, stage, source, evidence, collector, epoch, first_sequence, "
        "last_sequence, start_at, end_at, pass) SELECT concat('flow-', leftPad(toString(f), 6, '0')), hop, stage, "
        "'all', 'message', 'c', 1, 1, 9, "
        "fromUnixTimestamp64Micro({start:Int64}), fromUnixTimestamp64Micro({end:Int64}), 1 "
        "FROM (SELECT number AS f FROM numbers({flows:UInt32})) "
        "ARRAY JOIN ['checkout', 'kafka-eu', 'kafka-us', 'billing'] AS hop, "
        "['produce', 'persist', 'replicate', 'ack'] AS stage",
        {"flows": flows, "start": (NOW - DAY) * SECOND, "end": NOW * SECOND},
    )
    return rows


def measure(flows: int, days: int, every: int, folder: Path) -> dict[str, Any]:
    """The numbers of one run."""
    before = load()
    store = Store.open(f"chdb://{folder}/store", durability="process")
    store.migrate()
    rows = filled(store, flows, days, every)
    specs = [load_spec(_text(n)) for n in range(flows)]
    shown = Metrics()
    cpu = cpu_s()
    evaluation = _median(lambda: _shown(shown, store, specs))
    spent = (cpu_s() - cpu) / 5
    latency = _median(lambda: _took(shown, store, specs))
    size = {table: one["bytes"] / 1e6 for table, one in store.stats().items()}
    asked = _asked(store, specs, folder)
    store.close()
    return {
        "flows": flows,
        "rows_of_passes": rows,
        "rows_of_hours": flows * days * 24,
        "passes_mb": round(size["settled"], 1),
        "hours_mb": round(size["settled_hours"], 1),
        "latencies_of_an_hour_mb": round(size["latencies"], 1),
        "evaluation_s": round(evaluation, 2),
        "evaluation_cpu_s": round(spent, 2),
        "latency_s": round(latency, 2),
        **asked,
        "peak_rss_mb": peak_rss_mb(),
        "load_average": [before, load()],
    }


def _asked(store: Store, specs: list[FlowSpec], folder: Path) -> dict[str, Any]:
    """`/metrics` of an app over this store, ten times."""
    moment = NOW * SECOND
    with Control.open(f"sqlite:///{folder}/control.db") as control:
        with control.transaction() as books:
            for n, spec in enumerate(specs):
                places = [(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop]
                books.flows.put(spec.flow, _text(n), spec.model_dump_json(), 0, "bench", spec.hops, places)
        committer = Committer(store, Bounds())
        known = Specs(control)
        intake = Intake(committer, known.at_ingest, salt=7, inflated=1 << 20)
        shown = Metrics()
        for spec in specs:
            shown.count(metrics.EVENTS, 1000, spec.flow)
        service = Service(store, control, intake, known, shown, lambda: moment, insecure=True)
        app = create_app(service)
        sizes, took, text = [0], [], ""
        gc.freeze()  # as `tracker serve` does
        gc.set_threshold(*GARBAGE)
        with closing(Client(app)) as client:
            for _ in range(ASKED):
                moment += 6 * SECOND
                began = time.perf_counter()
                answer = client.request("GET", "/metrics")
                took.append(time.perf_counter() - began)
                answer.raise_for_status()
                sizes.append(len(answer.content))
                text = answer.text
                time.sleep(2)
        began = time.perf_counter()
        counted = app.state.snapshot._count(moment)
        counting = time.perf_counter() - began
        assert counted, "not all could be counted; the log says what"
        app.state.snapshot.close()
        committer.close()
    lines = text.splitlines()
    return {
        "metrics_s": round(max(took), 2),
        "metrics_each_s": [round(one, 2) for one in took],
        "metrics_p50_s": round(statistics.median(took), 2),
        "counting_s": round(counting, 2),
        "metrics_mb": round(max(sizes) / 1e6, 1),
        "samples": sum(1 for line in lines if not line.startswith("#")),
        "burn_rates": sum(1 for line in lines if line.startswith(metrics.BURN_RATE.name)),
    }


def _text(n: int) -> str:
    return SPEC.format(flow=f"flow-{n:06}", team=n % 50)


def _shown(shown: Metrics, store: Store, specs: list[FlowSpec]) -> None:
    for metric, values in gauges.deliveries(store, specs, NOW * SECOND).items():
        shown.replace(metric, values)


def _took(shown: Metrics, store: Store, specs: list[FlowSpec]) -> None:
    latency, lag = gauges.took(store, {spec.flow for spec in specs}, NOW * SECOND)
    shown.replace(metrics.LATENCY, latency)
    shown.replace(metrics.REPLICATION_LAG, lag)


def _median(work: Callable[[], None]) -> float:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--every", type=int, default=100, help="seconds from pass to pass")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.flows, given.days, given.every, Path(folder))
    print(json.dumps(found) if given.json else "\n".join(f"{name:>16}  {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
