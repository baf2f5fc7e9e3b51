"""What the reconciler costs, on the embedded engine; prints one line of JSON.

    python -m tests.benchmarks.reconcile --messages 10000000 --json
    python -m tests.benchmarks.reconcile --steady 600 --json
    python -m tests.benchmarks.reconcile --lookup 100000000 --json

All events are stored first, then one pass folds, judges and keeps them: `full_pass_s`. In the same run and on the same
rows, `limit_s` is what no reconciler could do without: one GROUP BY over the events with a bit mask of checkpoints,
and the bare write of as many state rows, from a table that holds them in order, with the settings of our own writes;
each may have all the memory there is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from tests.benchmarks import lookup, steady
from tests.benchmarks.watch import cpu_s, load, peak_rss_mb
from tests.benchmarks.workload import FLOW, HOPS, SPEC, Ids, Traffic
from tests.world.installation import T0, Installation
from tracker.model.coverage import SourceRef
from tracker.store.engine import Engine
from tracker.store.folding import STATES

BLOCK = 250_000
"""Messages per insert: a million events."""
QUIET = 20
"""So many half seconds without a merge, and the engine is at rest."""
LATER = 400_000_000
"""How long after the last event the pass runs, µs: all deadlines have passed."""


def measure(messages: int, ids: Ids, folder: Path) -> dict[str, Any]:
    """One full pass over `messages` messages of four events each."""
    before = load()
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        started = time.perf_counter()
        events = _fill(world, messages, ids)
        loaded = time.perf_counter() - started
        _settle(world.store.engine)
        passed = _pass(world)
        _settle(world.store.engine)
        limit = _limit(world.store.engine)
    limit_s = sum(limit.values())
    return {
        "messages": messages,
        "events": events,
        "ids": ids,
        "load_s": round(loaded, 1),
        **passed,
        "limit_s": round(limit_s, 2),
        **{name: round(seconds, 2) for name, seconds in limit.items()},
        "ratio": round(passed["full_pass_s"] / limit_s, 2),
        "peak_rss_mb": peak_rss_mb(),
        "load_average": [before, load()],
    }


def _fill(world: Installation, messages: int, ids: Ids) -> int:
    """Store the events of all messages, and what vouches for them; how many events there are."""
    traffic, events, blocks = Traffic(BLOCK, ids, T0), 0, messages // BLOCK
    vouch(world, traffic.now)
    for n in range(blocks + 1):
        columns = traffic.next(more=n < blocks)
        events += columns.num_rows
        world.store.insert_events(columns)
        vouch(world, traffic.now)
    vouch(world, traffic.now + LATER)
    return events


def vouch(world: Installation, now: int) -> None:
    """It is `now`, and the one collector of everything has reported."""
    world.now = now
    world.vouch([SourceRef(FLOW, hop, stage, "all") for hop, stage in HOPS])


def _pass(world: Installation) -> dict[str, Any]:
    """Passes until nothing is new; what became of the messages."""
    cpu, started = cpu_s(), time.perf_counter()
    passes = touched = opened = 0
    while (done := world.run_pass()).number:
        passes, touched, opened = passes + 1, touched + done.messages, opened + done.opened
    seconds, spent = time.perf_counter() - started, cpu_s() - cpu
    rows = world.store.engine.rows(
        f"SELECT verdict, count() AS n FROM {world.store.engine.database}.states FINAL GROUP BY verdict"
    )
    return {
        "full_pass_s": round(seconds, 2),
        "full_pass_cpu_s": round(spent, 2),
        "passes": passes,
        "judged": touched,
        "findings": opened,
        "verdicts": {row["verdict"]: row["n"] for row in rows},
    }


def _limit(engine: Engine) -> dict[str, float]:
    """Seconds of the plain fold and of the bare write."""
    db, bits = engine.database, range(len(HOPS))
    places = ", ".join(f"hop = '{HOPS[bit][0]}' AND stage = '{HOPS[bit][1]}', {1 << bit}" for bit in bits)
    engine.command(f"CREATE TABLE {db}.bare AS {db}.states")
    return {
        "group_by_s": _timed(
            engine,
            f"SELECT message_id, groupBitOr(multiIf({places}, 0)) FROM {db}.events WHERE tenant = '' "
            f"AND flow = '{FLOW}' GROUP BY message_id SETTINGS max_memory_usage = 0 FORMAT Null",
        ),
        "bare_write_s": _timed(
            engine, f"INSERT INTO {db}.bare SELECT * FROM {db}.states {STATES}, max_memory_usage = 0"
        ),
    }


def _timed(engine: Engine, sql: str) -> float:
    started = time.perf_counter()
    engine.command(sql)
    return time.perf_counter() - started


def _settle(engine: Engine) -> None:
    """Wait until the engine has merged nothing for some seconds, at most some minutes: between two merges there is
    often a moment without any."""
    until, quiet = time.monotonic() + 300, 0
    while quiet < QUIET and time.monotonic() < until:
        quiet = 0 if engine.rows("SELECT count() AS n FROM system.merges")[0]["n"] else quiet + 1
        time.sleep(0.5)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help=f"a multiple of {BLOCK:,}")
    parser.add_argument("--ids", choices=("uuid7", "uuid4"), default="uuid7", help="whether ids begin with the time")
    parser.add_argument("--steady", type=float, metavar="SECONDS", help="instead: beside a steady stream, in real time")
    parser.add_argument("--rate", type=int, default=100_000, help="with --steady: events per second")
    parser.add_argument("--within", default="5m", help="with --steady: the deadline of most messages")
    parser.add_argument("--flows", type=int, default=1, help="with --steady: how many flows share most messages")
    parser.add_argument("--lookup", type=int, metavar="MESSAGES", help="instead: one message of so many, shown")
    parser.add_argument("--lookups", type=int, default=2_000, help="with --lookup: how many are asked for")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        if asked.steady:
            found = steady.measure(asked.steady, asked.rate, asked.within, asked.flows, Path(folder))
        elif asked.lookup:
            found = lookup.measure(asked.lookup, asked.lookups, Path(folder))
        else:
            found = measure(max(asked.messages // BLOCK, 1) * BLOCK, asked.ids, Path(folder))
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
