"""What `/clickhouse` costs: a small question, beside the same one asked of the engine directly by a client that stays;
and how fast Native comes, over HTTP, from the ledger's events.

    python -m tests.benchmarks.questions --events 1000000 --questions 300
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import uvicorn
from fastapi import FastAPI

from tests.benchmarks.lookup import make
from tests.benchmarks.watch import load, spread
from tests.benchmarks.workload import SPEC
from tests.servers.ports import free_port
from tests.world.installation import Installation
from tracker.api.routes import clickhouse
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.reconcile import now_us
from tracker.slo.metrics import Metrics
from tracker.store.readonly import Bounds, Question, Reader

SMALL = "SELECT verdict, count() FROM messages GROUP BY verdict"
DIRECT = "SELECT verdict, count() FROM tracker.states FINAL WHERE tenant = '' GROUP BY verdict"
MUCH = "SELECT flow, message_id, hop, stage, observed_at, received_at FROM events LIMIT {rows}"


def measure(events: int, questions: int, folder: Path) -> dict[str, Any]:
    """Load so many events, then ask."""
    before = load()
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        make(world.store.engine, 0, events // 4)
        reader = Reader(world.store.engine, Bounds(rows=events, answer=1 << 30))
        reader.ask(Question(statement=SMALL))
        port = _served(world, reader)
        url = f"http://127.0.0.1:{port}/clickhouse"
        with httpx.Client() as http:
            took = spread([_timed(lambda: http.post(url, content=SMALL).raise_for_status()) for _ in range(questions)])
        least = spread([_timed(lambda: world.store.engine.table(DIRECT)) for _ in range(questions)])
        client = clickhouse_connect.get_client(host="127.0.0.1", port=port, proxy_path="clickhouse", compress=False)
        much = MUCH.format(rows=events)
        raw = min(_timed(lambda: client.raw_query(much, fmt="Native")) for _ in range(3))
        size = len(client.raw_query(much, fmt="Native"))
        arrow = min(_timed(lambda: client.query_arrow(much)) for _ in range(3))
        revision = {"client_protocol_version": "54460", "default_format": "Native"}
        few = min(events, 100_000)
        some = MUCH.format(rows=few)
        revised = min(_timed(lambda: _post(url, some, revision)) for _ in range(3))
    return {
        "events": events,
        "small_p50_ms": round(took["p50"] * 1000, 2),
        "small_p99_ms": round(took["p99"] * 1000, 2),
        "direct_p50_ms": round(least["p50"] * 1000, 2),
        "native_rows_per_s": round(events / raw),
        "native_mb_per_s": round(size / raw / 1e6),
        "arrow_rows_per_s": round(events / arrow),
        "native_with_revision_rows_per_s": round(few / revised),
        "load_average": [before, load()],
    }


def _served(world: Installation, reader: Reader) -> int:
    app, port = FastAPI(), free_port()
    none: Any = None
    app.state.service = Service(
        world.store, world.control, none, Specs(world.control), Metrics(), now_us, insecure=True
    )
    app.include_router(clickhouse.router(reader))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return port


def _post(url: str, statement: str, parameters: dict[str, str]) -> None:
    httpx.post(url, params=parameters, content=statement, timeout=60).raise_for_status()


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """One JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given.events, given.questions, Path(folder))))


if __name__ == "__main__":
    main()
