"""How soon one message is shown, of very many, while events come in: everything that `GET .../messages/{id}` asks. In
the same run, of other messages, the least that the engine can be asked about one: how many events it has (`bare`).

The events are made by the engine itself, four per message, with version 7 UUIDs whose bits follow from the message's
number, so that any of them can be asked for.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np

from tests.benchmarks.steady import Stream
from tests.benchmarks.watch import load, peak_rss_mb, spread
from tests.benchmarks.workload import FLOW, HOPS, SPEC
from tests.world.installation import Installation
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.api.timeline import timeline
from tracker.reconcile import now_us
from tracker.slo.metrics import Metrics
from tracker.store.engine import Engine

BEGIN = 1_790_000_000_000
"""When the first message was made, epoch ms; 25 of them each ms."""
PER_MS = 25
CHUNK = 1_000_000
"""Messages per insert."""
RATE = 20_000
"""Events per second beside the lookups."""


def ident(number: str) -> str:
    """SQL: the id of a message by its number."""
    number = f"toUInt64({number})"  # hashes follow the type
    stamp = f"leftPad(lower(hex({BEGIN} + intDiv({number}, {PER_MS}))), 12, '0')"
    random = f"lower(hex(sipHash128({number})))"
    return (f"concat(substr({stamp}, 1, 8), '-', substr({stamp}, 9, 4), '-7', substr({random}, 1, 3), "
            f"'-a', substr({random}, 4, 3), '-', substr({random}, 7, 12))")  # fmt: skip


def measure(messages: int, lookups: int, folder: Path) -> dict[str, Any]:
    """Load `messages`, then look `lookups` of them up, one after another, while events come in."""
    before = load()
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        world.put(SPEC.replace(f"flow: {FLOW}", "flow: archive"))
        started = time.perf_counter()
        for first in range(0, messages, CHUNK):
            make(world.store.engine, first, min(CHUNK, messages - first))
        loaded = time.perf_counter() - started
        store, control = world.store, world.control
        service = Service(store, control, cast(Any, None), Specs(control), Metrics(), now_us)
        stream, stop = Stream(world, RATE), threading.Event()
        sending = threading.Thread(target=stream.run, args=(stop, 3600), daemon=True)
        sending.start()
        seconds, bare = _look_up(service, messages, lookups)
        stop.set()
        sending.join(30)
        tables = store.stats()
    took, least = spread(seconds), spread(bare)
    return {
        "messages": messages,
        "load_s": round(loaded, 1),
        "lookups": lookups,
        "lookup_p50_ms": round(took["p50"] * 1000, 2),
        "lookup_p99_ms": round(took["p99"] * 1000, 2),
        "bare_p50_ms": round(least["p50"] * 1000, 2),
        "bare_p99_ms": round(least["p99"] * 1000, 2),
        "ingest_events_per_s": RATE,
        "events_mb": tables["events"]["bytes"] >> 20,
        "event_parts": tables["events"]["parts"],
        "peak_rss_mb": peak_rss_mb(),
        "load_average": [before, load()],
    }


def _look_up(service: Service, messages: int, lookups: int) -> tuple[list[float], list[float]]:
    random, seconds, bare = np.random.default_rng(3), list[float](), list[float]()
    asked = service.store.engine
    count = (
        f"SELECT count() AS n FROM {asked.database}.events WHERE tenant = '' AND flow = {{flow:String}} "
        "AND message_id = {id:String}"
    )
    for one, other in random.integers(0, messages, (lookups, 2)).tolist():
        [row] = asked.rows(f"SELECT {ident(str(one))} AS id, {ident(str(other))} AS other")
        started = time.perf_counter()
        found = len(timeline(service, FLOW, row["id"]).timeline)
        between = time.perf_counter()
        counted = asked.rows(count, {"flow": FLOW, "id": row["other"]})[0]["n"]
        bare.append(time.perf_counter() - between)
        seconds.append(between - started)
        if not found == counted == len(HOPS):
            raise RuntimeError(f"{row} have {found} and {counted} observations, not {len(HOPS)}")
    return seconds, bare


def make(engine: Engine, first: int, count: int) -> None:
    """The events of messages `first` to `first + count`, received about when they were made."""
    places = ", ".join(f"('{hop}', '{stage}', {n * 40})" for n, (hop, stage) in enumerate(HOPS))
    engine.command(
        f"INSERT INTO {engine.database}.events (tenant, flow, message_id, hop, stage, observed_at, origin_at, node, "
        "digest, size, `partition`, offset, received_at, lane, sequence) "
        f"SELECT '', '{FLOW}', id, place.1, place.2, made + toIntervalMillisecond(place.3), made, "
        "concat(place.1, '-', toString(number % 8)), sipHash64(number), 500 + number % 3000, "
        f"concat('{FLOW}/', toString(number % 12)), number, "
        f"made + toIntervalMillisecond(place.3 + 500), 1, {first + 1} "
        f"FROM (SELECT number, {ident('number')} AS id, "
        f"fromUnixTimestamp64Milli({BEGIN} + intDiv(number, {PER_MS})) AS made, "
        f"arrayJoin([{places}]) AS place FROM numbers({first}, {count})) SETTINGS max_insert_threads = 2"
    )
