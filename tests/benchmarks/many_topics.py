"""One tail of thousands of topics, by a pattern: what starting costs, and what resting costs. One line of JSON.

    python -m tests.benchmarks.many_topics --topics 10000 --json

A real Kafka with that many topics of one partition, a record in each tenth; `collectors run` and `tracker serve` as
they always are. `*_rest_cpu` is the share of one processor that is taken while nothing happens.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks import collecting, proc
from tests.servers import kafka
from tests.servers.kafka import Kafka
from tracker.model.carry import MESSAGE_ID

SPEC = """flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: kafka-eu, stage: persist, after: shop, within: 1h, coverage: watermark}
"""
AT_ONCE = 250
"""Topics per request to the cluster."""
EACH = 10
"""One topic of so many has a record."""
REST_S = 30.0
PATIENCE = 1200.0
FRESH_S = 60.0
"""What is vouched for is no older than that: of ten thousand partitions the collector looks each ten seconds."""


def made(folder: Path, topics: int) -> tuple[Kafka, float]:
    """A node with the topics, and how many seconds it took to make them."""
    runtime, jars = kafka.java(), kafka.jars()
    if runtime is None or jars is None:
        raise SystemExit("this needs Kafka: make servers")
    _files(topics + 4096)
    small = {
        "log.index.size.max.bytes": "4096",  # each partition maps two of them
        "broker.session.timeout.ms": "60000",  # on a busy machine it is slow to say that it lives
    }
    node = Kafka(folder, runtime, jars, small, heap_mb=1024).start()
    try:
        return node, _topics(node, topics)
    except BaseException:
        node.kill()
        raise


def _topics(node: Kafka, topics: int) -> float:
    """Make them; the seconds that it took."""
    admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0})
    names = [f"orders.{number:05d}" for number in range(topics)]
    began = time.monotonic()
    for start in range(0, topics, AT_ONCE):
        some = [NewTopic(name, 1, 1) for name in names[start : start + AT_ONCE]]
        for answer in admin.create_topics(some, request_timeout=120).values():
            answer.result(120)
    _fill(node, names)
    return round(time.monotonic() - began, 1)


def _files(wanted: int) -> None:
    """So many open files for the broker, which keeps one for each partition, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard)
        )


def _fill(node: Kafka, names: list[str]) -> None:
    """A record in each tenth topic. One that was made a moment ago may be refused: the broker does not know it yet."""
    wanted, until = set(range(0, len(names), EACH)), time.monotonic() + 300
    producer = Producer({"bootstrap.servers": node.bootstrap, "linger.ms": 5, "log_level": 0})
    while wanted:
        if time.monotonic() > until:
            raise SystemExit(f"the broker did not take {len(wanted)} of the records")
        taken: list[int] = []
        for number in wanted:
            told = partial(_told, taken, number)
            message_id = (MESSAGE_ID, f"m-{number}".encode())
            with suppress(KafkaException):  # as a report would say it
                producer.produce(names[number], b"{}", headers=[message_id], on_delivery=told)
        producer.flush(60)
        wanted.difference_update(taken)
        time.sleep(0.2 if wanted else 0.0)


def vouched(url: str, fresh_s: float) -> int:
    """How many sources are vouched for up to `fresh_s` seconds ago."""
    fresh, cursor = 0, ""
    while True:
        query: dict[str, str | int] = {"flow": "orders", "limit": 1000, "cursor": cursor}
        page = httpx.get(f"{url}/v1/coverage", params=query, timeout=60).json()
        fresh += sum(collecting.age_s(row["end"]) < fresh_s for row in page["items"])
        cursor = page["next"]
        if not cursor:
            return fresh


def measure(topics: int, folder: Path) -> dict[str, Any]:
    """The numbers of one run."""
    node, making = made(folder / "kafka", topics)
    _say(f"{topics} topics after {making} s")
    with ExitStack() as stack:
        stack.callback(node.kill)
        told = collecting.target(stack, folder, SPEC, sink=False)
        route = {"topic": r"^orders\..*", "flow": "orders", "hop": "kafka-eu"}
        described = {"name": "many", "kind": "kafka", "url": f"kafka://{node.bootstrap}", "topics": [route]}
        began = time.monotonic()
        process = collecting.collecting(stack, folder, told, described)
        read = _seconds(began, lambda: told.events() >= len(range(0, topics, EACH)), process.tail)
        _say(f"all records stored {read} s after the start")
        covered = _seconds(began, lambda: vouched(told.url, FRESH_S) >= topics, process.tail)
        _say(f"all partitions vouched for after {covered} s")
        watched = {"collector": process, "tracker": told.process, "broker": node.process}
        before = {name: proc.process_cpu_s(one.pid) for name, one in watched.items()}
        disk = proc.disk_bytes(folder / "ledger")
        time.sleep(REST_S)
        spent = {name: proc.process_cpu_s(one.pid) - before[name] for name, one in watched.items()}
        return {
            "topics": topics,
            "making_topics_s": making,
            "read_after_s": read,
            "vouched_after_s": covered,
            **{f"{name}_rest_cpu": round(value / REST_S, 3) for name, value in spent.items()},
            **{f"{name}_peak_rss_mb": proc.rss_mb(one.pid, "VmHWM") for name, one in watched.items()},
            "standing_bytes": (folder / "spool" / "many" / "standing.json").stat().st_size,
            "ledger_bytes_per_s": round((proc.disk_bytes(folder / "ledger") - disk) / REST_S),
            "lag_s": told.lag_s(),
        }


def _told(taken: list[int], number: int, error: object, _: object) -> None:
    if error is None:
        taken.append(number)


def _say(text: str) -> None:
    """How far it is, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _seconds(began: float, met: Callable[[], bool], said: Callable[[], str]) -> float:
    while not met():
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"not within {PATIENCE:.0f} s\n{said()}")
        time.sleep(0.5)
    return round(time.monotonic() - began, 1)


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="topics-", ignore_cleanup_errors=True) as folder:
        result = measure(options.topics, Path(folder))
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
