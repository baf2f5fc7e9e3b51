"""What the instrumentation of a client library adds to the application's own thread, per message.

    python -m tests.benchmarks.instrument --client aiokafka --json

The library's messages, futures and channels are its own, and the emitter with its spool on disk is the real one; only
what would talk to a broker is a stand-in that does nothing, for a broker's pace would hide what is measured. Each
workload runs plain and instrumented in turn, and the difference of their processor time (`thread_time`: the machine is
shared) is printed, of the cheapest of many short rounds of both. `produce_us` is one message sent and confirmed: one
event; `consume_us` is one message taken and acked: two events. `next_file_ms` is how long the one in many thousands
takes, by the wall clock, with which the spool goes on to its next file: the median and the worst of some, where the
sender has made that file before, and where it has not (it had not come to it, or the process has just begun).
`next_records_ms` is the same of the worst of the thousand behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collectors.emitter import Emitter
from collectors.instrument.observe import Observer
from collectors.segment import Kind
from collectors.sender import Pace
from collectors.spool import SEGMENT, Spool
from tests.benchmarks.instrument_clients import BODY, CLIENTS, MESSAGES, Work

ROUNDS = 200
SEGMENTS = 51
BEHIND = 1000
Workload = Callable[[Observer | None], Work]
"""(observer, or None for plain) -> what is timed."""


def spent(work: Work, loop: asyncio.AbstractEventLoop) -> float:
    """Processor seconds of this thread."""
    began = time.thread_time()
    coroutine = work()
    if coroutine is not None:
        loop.run_until_complete(coroutine)
    return time.thread_time() - began


def added(workload: Workload) -> float:
    """µs per message."""
    plain, observed, loop = [], [], asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        emitter = Emitter("http://127.0.0.1:9", collector="c", spool=folder, pace=Pace(backoff=(60, 60)))
        for _ in range(ROUNDS):
            observer = Observer(emitter, "orders", "billing")
            plain.append(spent(workload(None), loop))
            observed.append(spent(workload(observer), loop))
            assert observer.counts.events in (MESSAGES, 2 * MESSAGES), observer.counts
        emitter.close(timeout=0)
    loop.close()
    return round((min(observed) - min(plain)) / MESSAGES * 1e6, 1)


def append(spool: Spool, size: int) -> float:
    """One record; seconds by the wall clock."""
    began = time.perf_counter()
    spool.append(Kind.lines, bytes(size), 1)
    return time.perf_counter() - began


def next_file(prepared: bool) -> dict[str, list[float]]:
    """Median and worst, ms, of the appends that begin a file, and of the slowest behind each."""
    first, behind = [], []
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for _ in range(SEGMENTS):
            spool.append(Kind.lines, bytes(SEGMENT - 2 * len(BODY)), 1)
            if prepared:
                spool.prepare()
            before = spool.end
            first.append(append(spool, 2 * len(BODY)))
            behind.append(max(append(spool, len(BODY)) for _ in range(BEHIND)))
            spool.release(before, 1)
        spool.close()
    return {"next_file_ms": shown(first), "next_records_ms": shown(behind)}


def shown(seconds: list[float]) -> list[float]:
    """Median and worst, ms."""
    return [round(found * 1000, 2) for found in (statistics.median(seconds), max(seconds))]


def main() -> None:
    """One line, as JSON or for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=sorted(CLIENTS), required=True)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    produce, consume = CLIENTS[given.client]
    result = {
        "client": given.client, "messages": MESSAGES, "rounds": ROUNDS,
        "produce_us": added(produce), "consume_us": added(consume),
        "prepared": next_file(True), "not_prepared": next_file(False),
    }  # fmt: skip
    print(json.dumps(result) if given.json else "  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
