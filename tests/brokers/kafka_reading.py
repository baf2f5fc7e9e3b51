"""A tail that reads a topic to its end: `python -m tests.brokers.kafka_reading SERVERS TOPIC MEMORY_KB RECORDS`.

Says on stdout how much memory it had at most before it read, and in the end: two lines, kB resident.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from collectors.kafka.tail import tail


def _most() -> str:
    """Of this program; `ru_maxrss` would count what its parent had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return found[1] if found else ""


def main(servers: str, topic: str, memory_kb: str, records: str) -> None:
    """Read, decode and commit as the runner does, but at most 1000 records at a time are held."""
    route = {"topic": topic, "flow": "orders", "hop": "kafka"}
    settings = {"url": f"kafka://{servers}", "topics": [route], "memory_kb": int(memory_kb)}
    collector = tail("reading", settings)
    print(_most(), flush=True)
    count = 0
    while count < int(records):
        raws = collector.read(1000, 1.0)
        for raw in raws:
            collector.decode(raw)
        collector.commit(raws)
        count += len(raws)
    collector.close()
    print(_most(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
