"""Two ways to keep message states, on the same traffic and the embedded engine; prints one line of JSON.

    python -m tests.benchmarks.state_designs --events 20000000 --json

`passes`: what the tracker does (tracker.reconcile on tracker.store). `views`: a materialized view folds every insert
into partial states; what is new is read back from them, what is due is found among all of them. Each design runs in a
process and a folder of its own. The `views` figures hold no verdicts, findings or writes of a pass: a lower bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.folding_view import Views
from tests.benchmarks.watch import Watch, cpu_s, load, peak_rss_mb, spread
from tests.benchmarks.workload import FLOW, HOPS, SPEC, Ids, Traffic
from tests.world.installation import T0, Installation
from tracker.model.coverage import SourceRef
from tracker.reconcile import hearing

BLOCK = 50_000
"""Messages per insert: 200,000 events."""
INCREMENTS = 20
PER_PASS = 5
"""Inserts that one pass takes on while the base is loaded."""


class Design(Protocol):
    """One way to keep states. `look` is a pass over what is new, its seconds by step in the answer."""

    def look(self) -> dict[str, float]:
        """One pass."""

    def size(self) -> dict[str, Any]:
        """Rows, bytes and parts by table."""


class Passes:
    """The reconciler's own passes, with a watch on its steps."""

    def __init__(self, world: Installation) -> None:
        self._world, self._watch = world, Watch()
        store, watch = world.store, self._watch
        for question in ("stored_since", "heard", "ranged", "new_reports", "due_flows", "ever_ranged"):
            watch.on(store, question, "what_is_new")
        watch.on(store, "_run", lambda name, *_, **__: name)
        watch.on(store.engine, "table", "other_questions")
        watch.on(store, "events_of", "events_of_exceptional")
        watch.on(hearing, "judge_plain", "judge_plain")
        watch.on(hearing, "judge_batch", "judge_exceptional")
        watch.on(store, "keep", "keep")

    def look(self) -> dict[str, float]:
        """One pass; `messages` and `opened` beside the seconds."""
        self._watch.taken()
        done = self._world.run_pass()
        steps = self._watch.taken()
        counts = {"messages": done.messages, "opened": done.opened}
        return {"seconds": round(done.seconds, 4)} | steps | counts

    def size(self) -> dict[str, Any]:
        """Rows, bytes and parts of the states and of what finds them when due."""
        stats = self._world.store.stats()
        return {table: stats[table] for table in ("states", "timers") if table in stats}


def measure(design_name: str, events: int, ids: Ids, folder: Path) -> dict[str, Any]:
    """Load the base, then steady increments, due messages and late events."""
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        design: Design = Passes(world) if design_name == "passes" else Views(world)
        traffic = Traffic(BLOCK, ids, T0)
        result: dict[str, Any] = {"design": design_name, "ids": ids, "events": events, "load_before": load()}
        result |= _base(world, traffic, design, events)
        steady = [_increment(world, traffic, design) for _ in range(INCREMENTS)]
        result["pass_200k_events_s"] = spread([s["seconds"] for s in steady])
        result["pass_200k_events_steps"] = _medians(steady)
        result["late_1_percent"] = _late(world, traffic, design)
        result["due"] = _due(world, traffic, design)
        stats = world.store.stats()
        result |= {"size": design.size(), "events_table": stats["events"], "cpu_s": round(cpu_s(), 1)}
        result |= {"peak_rss_mb": peak_rss_mb(), "load_after": load()}
        for table in result["size"]:
            world.store.engine.command(f"OPTIMIZE TABLE {world.store.engine.database}.{table} FINAL")
        return result | {"size_merged": design.size()}


def _insert(world: Installation, traffic: Traffic) -> tuple[float, float]:
    """Seconds and processor seconds of one insert, without making its rows."""
    watch = Watch()
    columns = traffic.next()
    before = cpu_s()
    with watch.around("insert"):
        world.store.insert_events(columns)
    spent = cpu_s() - before
    _vouch(world, traffic.now)
    return watch.seconds["insert"], spent


def _base(world: Installation, traffic: Traffic, design: Design, events: int) -> dict[str, Any]:
    """The first `events`, with a pass after every fifth insert, as a busy tracker would."""
    inserts, looks = [], []
    for n in range(events // (4 * BLOCK)):
        inserts.append(_insert(world, traffic))
        if n % PER_PASS == PER_PASS - 1:
            looks.append({"messages_known": (n + 1) * BLOCK} | design.look())
    return {
        "insert_s": round(sum(seconds for seconds, _ in inserts), 1),
        "insert_cpu_s": round(sum(spent for _, spent in inserts), 1),
        "base_passes_s": round(sum(look["seconds"] for look in looks), 1),
        "growth": list(_thinned(looks)),
    }


def _thinned(looks: list[dict[str, float]]) -> Iterator[dict[str, float]]:
    """About eight of them, the last included."""
    every = max(len(looks) // 8, 1)
    for n in range(len(looks) - 1, -1, -every):
        yield looks[n]


def _vouch(world: Installation, now: int) -> None:
    """It is `now`, and the one collector of everything has reported."""
    world.now = now
    world.vouch([SourceRef(FLOW, hop, stage, "all") for hop, stage in HOPS])


def _increment(world: Installation, traffic: Traffic, design: Design) -> dict[str, float]:
    _insert(world, traffic)
    return design.look()


def _late(world: Installation, traffic: Traffic, design: Design) -> dict[str, float]:
    """Events of one old message in a hundred, anywhere in the table."""
    columns = traffic.late()
    world.store.insert_events(columns)
    world.now = traffic.now
    return {"events": columns.num_rows} | design.look()


def _due(world: Installation, traffic: Traffic, design: Design) -> dict[str, Any]:
    """The last block is never acked, and later all of it is due at once. Then once more with nothing due."""
    world.store.insert_events(traffic.next(more=False, acked=False))
    _vouch(world, traffic.now)
    design.look()
    _vouch(world, traffic.now + 300_000_000)
    found = design.look()
    _vouch(world, world.now + 1_000_000)
    return {"all_at_once": found, "none": design.look()}


def _medians(steps: list[dict[str, float]]) -> dict[str, float]:
    names = sorted({name for step in steps for name in step})
    return {name: spread([step.get(name, 0.0) for step in steps])["p50"] for name in names}


def _apart(design: str, events: int, ids: str) -> dict[str, Any]:
    """Measure in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="state-designs-") as folder:
        command = [sys.executable, "-m", "tests.benchmarks.state_designs", "--design", design, "--events", str(events)]
        command += ["--ids", ids, "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Both designs at `--events`, then the first with random ids at `--random-events`."""
    parser = argparse.ArgumentParser(description="Two ways to keep message states.")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--random-events", type=int, default=8_000_000)
    parser.add_argument("--design", choices=("passes", "views", "all"), default="all")
    parser.add_argument("--ids", choices=("uuid7", "uuid4"), default="uuid7")
    parser.add_argument("--folder", type=Path, help="where one design keeps its data; it is not removed")
    parser.add_argument("--json", action="store_true", help="one line, which is the default too")
    given = parser.parse_args()
    if given.design != "all":
        with tempfile.TemporaryDirectory(prefix="state-designs-") as folder:
            print(json.dumps(measure(given.design, given.events, given.ids, given.folder or Path(folder))))
        return
    runs = [("passes", given.events, "uuid7"), ("views", given.events, "uuid7")]
    runs += [("passes", given.random_events, "uuid7"), ("passes", given.random_events, "uuid4")]
    print(json.dumps({"runs": [_apart(*run) for run in runs]}))


if __name__ == "__main__":
    main()
