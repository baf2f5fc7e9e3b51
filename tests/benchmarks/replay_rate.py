"""How quick a replay is: from a real Kafka to a real Kafka, through the whole chain. One line of JSON.

    python -m tests.benchmarks.replay_rate --messages 60000 --json
    python -m tests.benchmarks.replay_rate --messages 8000 --limit 500 --json

A real `tracker serve` (claims in SQLite, ledger in the embedded engine) and a real `collectors run` that tails the
topic, all on one machine with the broker. Billing acknowledges nothing, so every message is missing there and is asked
for again, as many as can be sent before the circuit opens because nobody follows; what is replayed goes into the same
topic, where the collector sees it. The rate is that of the broker's own
log: records with a replay's header, by the time that they carry. Afterwards billing acknowledges all of them, and the
replay has to end with every message recovered.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks import collecting, proc
from tests.benchmarks.kafka_tail import create, fill
from tests.benchmarks.watch import load
from tests.drills.scene import Scene, scene, started_kafka
from tests.servers.kafka import Kafka
from tracker.model.carry import MESSAGE_ID, REPLAY_ID

SPEC = """flow: orders
checkpoints:
  - {{hop: shop, stage: produce, required: false}}
  - {{hop: kafka-eu, stage: persist, within: 1s, coverage: watermark}}
  - {{hop: billing, stage: ack, after: kafka-eu, within: 5s, coverage: watermark}}
replay: {{sources: [log: kafka-eu], mode: approve, rate: {rate}/s, in_flight: 1000000}}
"""
BILLING = {"flow": "orders", "hop": "billing", "stage": "ack", "source": "billing-1"}
PATIENCE = 900.0


@contextmanager
def vouching(service: Any) -> Iterator[None]:
    """Billing says every half second that it reported all that it did."""
    stop = threading.Event()

    def say() -> None:
        sequence = 0
        with httpx.Client(base_url=service.url, timeout=60) as http:
            while not stop.wait(0.5):
                sequence += 1
                http.post("/v1/coverage", json={
                    "collector": "billing-1", "epoch": 1, "sequence": sequence, "events": 0, "lag_ms": 0, "backlog": 0,
                    "dropped": 0, "sources": [BILLING], "signed_off": [],
                }).raise_for_status()  # fmt: skip

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


def replayed(node: Kafka, partitions: int) -> dict[str, list[float]]:
    """Of every message that a replay put into the topic: the times at which it did, seconds since 1970."""
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "truth", "enable.partition.eof": True,
                         "enable.auto.commit": False, "log_level": 0})  # fmt: skip
    consumer.assign([TopicPartition("orders", each, OFFSET_BEGINNING) for each in range(partitions)])
    found: dict[str, list[float]] = {}
    ended = 0
    while ended < partitions:
        for record in consumer.consume(10_000, 1.0):
            if record.error():
                ended += 1
                continue
            headers = dict(record.headers() or ())
            if REPLAY_ID in headers:
                found.setdefault(headers[MESSAGE_ID].decode(), []).append(record.timestamp()[1] / 1000)
    consumer.close()
    return found


def asked(made: Scene, limit: float | None) -> tuple[str, float]:
    """A replay of all that is missing, approved; its id, and how long it took to make."""
    began = time.perf_counter()
    answer = made.service.http.post(
        "/v1/replays", json={"flow": "orders", "reason": "a benchmark", "rate": limit}, timeout=PATIENCE
    )
    answer.raise_for_status()
    seconds = time.perf_counter() - began
    ident = str(answer.json()["id"])
    made.service.http.post(f"/v1/replays/{ident}/approve").raise_for_status()
    return ident, seconds


def until(made: Scene, ident: str, states: set[str], messages: int) -> None:
    """Until so many are in these states."""

    def there() -> bool:
        counts = made.service.get(f"/v1/replays/{ident}")["messages"]
        return sum(counts[state] for state in states) >= messages

    made.until(there, f"{messages} {' or '.join(sorted(states))}", PATIENCE)


def acknowledge(made: Scene, ids: list[str], replay_id: str) -> None:
    """Billing got them."""
    now = time.time_ns() // 1000
    for start in range(0, len(ids), 10_000):
        some = ids[start : start + 10_000]
        made.service.send(
            {"flow": "orders", "message_id": one, "hop": "billing", "stage": "ack", "observed_at": now,
             "delivery": f"again-{one}", "replay_id": replay_id} for one in some
        )  # fmt: skip


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One replay of all messages."""
    with started_kafka(folder / "kafka") as node:
        collector = {"name": "eu", "kind": "kafka", "url": f"kafka://{node.bootstrap}",
                     "topics": [{"topic": "orders", "flow": "orders", "hop": "kafka-eu"}]}  # fmt: skip
        hops = {"kafka-eu": {"kind": "kafka", "url": node.bootstrap, "topic": "orders"}}
        create(node, "orders", options.partitions)
        with scene(folder, SPEC.format(rate=1_000_000), [collector], hops) as made, vouching(made.service):
            made.watch(sources=options.partitions + 1)  # what was there before would be blind at billing
            fill(node, "orders", options)
            made.until(lambda: _open(made) >= options.messages, "all findings", PATIENCE)
            time.sleep(3)  # the engine rests
            before, spent = load(), {pid: proc.process_cpu_s(pid) for pid in _processes(made, node).values()}
            threads = proc.thread_cpu_s(made.service.process.pid)
            ident, planning_s = asked(made, options.limit)
            until(made, ident, {"sent", "recovered"}, options.messages)
            used = {name: proc.process_cpu_s(pid) - spent[pid] for name, pid in _processes(made, node).items()}
            later = proc.thread_cpu_s(made.service.process.pid)
            log = replayed(node, options.partitions)
            began = time.perf_counter()
            acknowledge(made, sorted(log), ident)
            until(made, ident, {"recovered"}, options.messages)
            recovered_s = time.perf_counter() - began
            made.until(lambda: made.service.get(f"/v1/replays/{ident}")["status"] == "done", "the end")
    times = sorted(at for several in log.values() for at in several)
    seconds = times[-1] - times[0]
    by_thread: dict[str, float] = {}
    for (pid, name), value in later.items():
        by_thread[name] = by_thread.get(name, 0.0) + value - threads.get((pid, name), 0.0)
    return {
        "messages": options.messages,
        "size": options.size,
        "partitions": options.partitions,
        "limit": options.limit,
        "messages_per_s": round((len(times) - 1) / seconds, 1),
        "seconds": round(seconds, 2),
        "twice": len(times) - len(log),
        "planned_s": round(planning_s, 1),
        "recovered_s": round(recovered_s, 1),
        "cpu_us_per_message": {name: round(value / options.messages * 1e6, 1) for name, value in used.items()},
        "threads_cpu_us_per_message": {
            name: round(value / options.messages * 1e6, 1)
            for name, value in sorted(by_thread.items(), key=lambda one: -one[1])[:6]
        },
        "load_average": [before, load()],
    }


def _open(made: Scene) -> int:
    """Messages that billing lacks, as the tracker tells it."""
    return int(made.books()["verdicts"].get("unacknowledged", 0))


def _processes(made: Scene, node: Kafka) -> dict[str, int]:
    return {
        "tracker": made.service.process.pid, "collector": made.collectors.pid, "broker": node.process.pid,
    }  # fmt: skip


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--limit", type=float, help="messages per second, at most")
    parser.add_argument("--size", type=int, default=300, help="bytes of a payload")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    options.records = options.messages
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="replay-") as name:
        result = run(Path(name), options)
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
