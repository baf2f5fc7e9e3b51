"""What `collectors.idempotency` costs per message: `python -m tests.benchmarks.idempotency [--json]`.

Real servers on this machine, one worker, microseconds that pass. `first`: `begin` and `done` of a new message; `again`:
`begin` of one that was done. For `Marks`: a transaction with one insert, with a mark and without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from collectors.idempotency import AsyncOnce, Once
from collectors.idempotency.memory import MemoryStore
from collectors.idempotency.postgres import Marks, PostgresStore
from collectors.idempotency.postgres_async import AsyncPostgresStore
from collectors.idempotency.redis import RedisStore
from collectors.idempotency.redis_async import AsyncRedisStore
from tests.benchmarks.watch import load
from tests.servers.postgres import PostgreSQL, binaries
from tests.servers.redis import BINARY, FORGETFUL, LASTING, Redis

TERMS: Any = {"consumer": "billing", "flow": "orders", "unknown": "again"}
Row = dict[str, float]


def names(count: int) -> list[str]:
    """New message ids."""
    return [str(uuid.uuid4()) for _ in range(count)]


def spent(work: Callable[[str], object], messages: list[str]) -> list[float]:
    """µs of each."""
    found = []
    for message in messages:
        began = time.perf_counter()
        work(message)
        found.append((time.perf_counter() - began) * 1e6)
    return found


def row(first: list[float], again: list[float]) -> Row:
    """Medians, and the slow ones of the new messages."""
    slow = statistics.quantiles(first, n=100)[98]
    return {
        "first_us": round(statistics.median(first), 1),
        "first_p99_us": round(slow, 1),
        "again_us": round(statistics.median(again), 1),
    }


def of_a_store(store: Any, count: int) -> Row:
    """A store by `Once`."""
    once, messages = Once(store, **TERMS), names(count)
    spent(lambda message: once.done(once.begin(message)), names(50))  # type: ignore[arg-type]
    first = spent(lambda message: once.done(once.begin(message)), messages)  # type: ignore[arg-type]
    return row(first, spent(once.begin, messages))


async def of_an_async_store(store: Any, count: int) -> Row:
    """A store by `AsyncOnce`, one message after the other."""
    once, messages = AsyncOnce(store, **TERMS), names(count)
    first, again = [], []
    for message in names(50) + messages:
        began = time.perf_counter()
        await once.done(await once.begin(message))  # type: ignore[arg-type]
        first.append((time.perf_counter() - began) * 1e6)
    for message in messages:
        began = time.perf_counter()
        await once.begin(message)
        again.append((time.perf_counter() - began) * 1e6)
    await store.close()
    return row(first[50:], again)


def of_marks(url: str, count: int) -> Row:
    """Marks in a transaction, and that transaction without them, in turns."""
    marks = Marks(consumer="billing", flow="orders")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE effects (message_id text)")

        def bare(message: str) -> None:
            with connection.transaction():
                connection.execute("INSERT INTO effects VALUES (%s)", [message])

        def marked(message: str) -> None:
            with connection.transaction():
                if marks.first(connection, message):
                    connection.execute("INSERT INTO effects VALUES (%s)", [message])

        messages, alone, first = names(count), list[float](), list[float]()
        spent(marked, names(50))
        for message in messages:
            alone += spent(bare, [message])
            first += spent(marked, [message])
        again = spent(marked, messages)
        counted = connection.execute("SELECT count(*) FROM effects").fetchone()
    if counted != (2 * count + 50,):
        raise RuntimeError(f"{counted} effects of {2 * count + 50}")
    figures = row(first, again)
    without = statistics.median(alone)
    more = figures["first_us"] - without
    return figures | {"without_us": round(without, 1), "more_us": round(more, 1)}


def measured(count: int, folder: Path) -> dict[str, Any]:
    """Every store. PostgreSQL runs with `fsync`, Redis without persistence and with its log synced at every write."""
    before, bins, binary = load(), binaries(), shutil.which(BINARY)
    if bins is None or binary is None:
        raise SystemExit("PostgreSQL and Redis are needed: make servers")
    found: dict[str, Any] = {"messages": count, "memory": of_a_store(MemoryStore(), count)}
    for name, settings in (("redis", FORGETFUL), ("redis_synced", LASTING)):
        (folder / name).mkdir()
        server = Redis(folder / name, binary, settings).start()
        try:
            store = RedisStore(server.url)
            found[name] = of_a_store(store, count)
            store.close()
            if name == "redis":
                found["redis_async"] = asyncio.run(_async(lambda url=server.url: AsyncRedisStore(url), count))  # type: ignore[misc]
        finally:
            server.stop()
    database = PostgreSQL(bins, {"fsync": "on"}).start()
    try:
        kept = PostgresStore(database.url())
        kept.create()
        found["postgres"] = of_a_store(kept, count)
        kept.close()
        found["postgres_async"] = asyncio.run(_async(lambda: AsyncPostgresStore(database.url()), count))
        found["marks"] = of_marks(database.url(), count)
    finally:
        database.stop()
    return found | {"load_average": [before, load()]}


async def _async(make: Callable[[], Any], count: int) -> Row:
    return await of_an_async_store(make(), count)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.messages, Path(folder))
    if given.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(name, figures)


if __name__ == "__main__":
    main()
