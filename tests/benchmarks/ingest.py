"""The way in, measured at a real service over HTTP: prints one line of JSON.

    python -m tests.benchmarks.ingest --format arrow|ndjson|otlp --seconds 20 --json
    python -m tests.benchmarks.ingest --format arrow --half --profile
    python -m tests.benchmarks.ingest --format arrow --soak 1800 --curve soak.jsonl

`tracker serve` runs as it always does: embedded engine, merges, reconciler, events durable before they are answered.
A load generator in a process of its own sends bodies that it made before the clock started. `events_per_s` counts until
all are in the store, also those that were acknowledged when they were in the spool (`acked_per_s`); `judged_s` later
every message has its verdict; then what all that takes on disk is weighed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import proc, spans
from tests.benchmarks.load import options_of
from tests.benchmarks.watch import load
from tests.benchmarks.wire import bodies, by_hop
from tests.benchmarks.workload import SPEC
from tests.e2e.service import PATIENCE, Service
from tracker.reconcile.reconciler import LONGEST_REST

GENERATORS = ("format", "seconds", "rate", "connections", "per_body", "pool_mb", "every", "compression", "seed")
PROTOBUF = {"Content-Type": "application/x-protobuf"}
PASSES = (
    "SELECT min(finished_at) FILTER (WHERE started_at > :began), coalesce(max(coalesce(finished_at, 9e18)), 0) "
    "FROM passes"
)
QUIET_S = LONGEST_REST + 2
"""When no pass was begun for so long, there was nothing left to judge."""
STOPPING_S = 180.0
"""Seconds that the service may take to stop; it writes what waits first."""


class Running(Service):
    """A service whose threads have names, with the flow put."""

    def __init__(self, folder: Path, form: str, settings: dict[str, str]) -> None:
        super().__init__(folder, "--insecure", **settings)
        self.process.command[:1] = [sys.executable, "-m", "tests.benchmarks.named"]
        self.ledger, self.control = folder / "ledger", folder / "ledger.control.db"
        self.spec = spans.SPEC if form == "otlp" else SPEC

    def start(self) -> Running:
        """Returns once it is ready, knows the flow and has come to rest."""
        self.process.start(self._ready, PATIENCE)
        self.http.put("/v1/flows", content=self.spec).raise_for_status()
        self.until(lambda: self.http.post("/v1/traces", headers=PROTOBUF).status_code, lambda status: status != 503)
        proc.settled(self.process.pid)
        return self

    def drained(self) -> float:
        """Seconds until all that was acknowledged is in the store, and nothing waits in the spool."""
        began = time.perf_counter()
        while (self.get("/healthz").get("spool") or {}).get("bytes", 0):
            time.sleep(0.05)
        return time.perf_counter() - began

    def judged(self) -> float:
        """Seconds until a pass was finished that was begun after this call, and hence saw all that is stored; 0 where
        none had to."""
        began = time.time()
        with closing(sqlite3.connect(f"file:{self.control}?mode=ro", uri=True)) as control:
            while True:
                done, last = control.execute(PASSES, {"began": began * 1e6}).fetchone()
                if done:
                    return max(done / 1e6 - began, 0.0)
                if time.time() > max(last / 1e6, began) + QUIET_S:
                    return 0.0
                time.sleep(0.1)

    def close(self) -> None:
        """Let it finish what it holds."""
        self.http.close()
        self.process.stop(STOPPING_S)


@contextmanager
def generator(options: argparse.Namespace, port: int) -> Iterator[subprocess.Popen[str]]:
    """The load generator, ready to send."""
    command = [sys.executable, "-m", "tests.benchmarks.load", "--port", str(port)]
    for name in GENERATORS:
        command.append(f"--{name.replace('_', '-')}={getattr(options, name)}")
    command.append("--coverage" if options.coverage else "--no-coverage")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def run(options: argparse.Namespace, folder: Path, merge: bool = True) -> dict[str, Any]:
    """One load from its first byte to the count of what is stored."""
    before = load()
    settings = dict(pair.split("=", 1) for pair in options.set)
    with closing(Running(folder, options.format, settings)) as service, generator(options, service.port) as sender:
        service.start()
        made = json.loads(_line(sender))
        sampler = proc.Sampler(service.process.pid, service.ledger)
        sender.stdin.write("go\n")
        sender.stdin.flush()
        sent = _followed(sender, options, sampler, service)
        drained = service.drained()
        sampler.close()
        judged = service.judged()
        peak = proc.rss_mb(service.process.pid, "VmHWM")
    if not sent["events"]:
        raise SystemExit(f"nothing was acknowledged: {sent['failures']}")
    found = _module("ledger", str(service.ledger), *(["--merge"] if merge else []))
    events = sent["events"]
    said = {
        "format": options.format,
        "events": events,
        "seconds": round(sent["seconds"], 2),
        "events_per_s": round(events / (sent["seconds"] + drained)),
        "acked_per_s": round(events / sent["seconds"]),
        "drain_s": round(drained, 2),
        "judged_s": round(judged, 2),
        **{name: sent[name] for name in ("ack_p50_ms", "ack_p99_ms", "ack_max_ms")},
        "peak_rss_mb": peak,
        "active_parts": max(sampler.parts.values()),
        "stored": found["stored"],
        "lost": events - found["stored"],
        "twice": found["events"] - found["stored"],
        "bytes_per_event": round(found["bytes"] / events, 1),
        "cpu_us_per_event": round(sampler.cpu_s / events * 1e6, 3),
        "generator_cpu_us_per_event": round(sent["cpu_s"] / events * 1e6, 3),
        **{name: sent[name] for name in ("requests", "refused", "made_late", "failures")},
        "rate": options.rate,
        "per_body": options.per_body,
        "connections": options.connections,
        "pool_mb": made["pool_mb"],
        "parts": {name: count for name, count in sampler.parts.items() if count},
        "load_average": [before, load()],
    }
    if merge:
        said["bytes_per_event_merged"] = round(found["merged_bytes"] / events, 1)
        for kind in ("tables", "columns"):
            said[f"{kind}_bytes_per_event"] = {name: round(size / events, 2) for name, size in found[kind].items()}
    if options.profile:
        spent = sampler.threads().items()
        said["threads_cpu_us_per_event"] = {name: round(seconds / events * 1e6, 3) for name, seconds in spent}
    return said


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The run that is asked for, the bare engine, and where that is asked for a run at half the rate."""
    said = run(options, folder)
    shutil.rmtree(folder / "ledger")
    lines = options.bare_lines if options.format == "ndjson" else 0
    bare = _module(
        "bare", "--folder", str(folder / "bare"), "--events", str(options.bare_events), "--lines", str(lines)
    )
    shutil.rmtree(folder / "bare")
    said |= {"engine_events_per_s": bare["events_per_s"], "engine_cpu_us_per_event": bare["cpu_us"]}
    said["ratio"] = round(said["events_per_s"] / bare["events_per_s"], 3)
    if lines:
        said |= {"engine_lines_per_s": bare["lines_per_s"], "engine_lines_cpu_us_per_event": bare["lines_cpu_us"]}
    if options.format == "otlp":
        said["python_walk_events_per_s"] = _walked()
    if options.half or options.soak:
        (folder / "half").mkdir()
        options.rate, options.seconds = said["events_per_s"] / 2, options.soak or options.seconds
        said["half"] = run(options, folder / "half", merge=False)
    return said


def _walked() -> int:
    """Spans per processor second of one thread of Python, the best of five."""
    made = by_hop(spans.spans)
    source = bodies(5_000, time.time_ns() // 1000, 1_000_000, seed=4)
    done = [spans.walked(bytes(made(*next(source)))) for _ in range(5)]
    return round(max(count / seconds for count, seconds in done))


def _followed(
    sender: subprocess.Popen[str], options: argparse.Namespace, sampler: proc.Sampler, service: Running
) -> dict[str, Any]:
    """The generator's result; what it tells on the way goes to the curve."""
    last = {"at": 0.0, "events": 0}
    while True:
        said: dict[str, Any] = json.loads(_line(sender))
        if said.get("done"):
            return said
        point = {
            "at": said["at"],
            "events_per_s": round((said["events"] - last["events"]) / max(said["at"] - last["at"], 0.001)),
            "rss_mb": proc.rss_mb(service.process.pid),
            "parts": sampler.now,
        }
        last = said
        if options.curve:
            with options.curve.open("a") as curve:
                curve.write(json.dumps(point) + "\n")
        elif not options.json:
            print(point, file=sys.stderr)


def _line(child: subprocess.Popen[str]) -> str:
    line = child.stdout.readline()
    if not line:
        raise SystemExit("the load generator ended before it was done; its error stands above")
    return line


def _module(name: str, *arguments: str) -> dict[str, Any]:
    """The last line that another benchmark process prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description="Measure the way in.")
    options_of(parser)
    parser.add_argument("--bare-events", type=int, default=6_000_000, help="rows for the bare engine")
    parser.add_argument("--bare-lines", type=int, default=1_000_000, help="lines for its own JSONEachRow (ndjson)")
    parser.add_argument("--half", action="store_true", help="then a run at half the rate that was reached")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="that run as long as this")
    parser.add_argument("--curve", type=Path, help="file for the curve, JSON lines")
    parser.add_argument("--set", action="append", default=[], metavar="TRACKER_X=Y", help="a setting of the service")
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--alone", action="store_true", help="the service only, to compare two versions of it")
    parser.add_argument("--profile", action="store_true", help="where the service's processor time goes, by thread")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="ingest-") as folder:
        result = (run if options.alone else measure)(options, Path(folder))
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
