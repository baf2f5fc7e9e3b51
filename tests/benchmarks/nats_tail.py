"""NATS JetStream: how fast one collector reads a stream, and what that costs the server. One line of JSON.

    python -m tests.benchmarks.nats_tail --records 100000 --json

`collectors run` reads a stream that holds the records before the clock starts, into something that says yes at once.
Then an application publishes, five hundred confirmations on their way at a time, and consumes, five hundred messages a
fetch, each acked: `plain` without and `watched` with a collector that reads the stream and follows the consumer, in
turns, medians of `--runs`. `server_us`: the server's processor time for a message that is published, consumed and
acked, until the collector has told all of it, which counts where all share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import nats
from nats.js.api import ConsumerConfig

from collectors.carried import new_message_id
from collectors.nats.link import Link, Server
from tests.benchmarks import collecting, proc
from tests.drills.scene import started_nats
from tests.servers.nats import Nats
from tracker.model.carry import MESSAGE_ID

SPEC = """flow: orders
checkpoints:
  - {hop: nats-eu, stage: persist, coverage: watermark}
"""
AT_ONCE = 500


def publish(server: Nats, stream: str, options: argparse.Namespace) -> float:
    """So many messages, confirmed; how many a second."""
    payload, began = os.urandom(options.size), time.perf_counter()
    with closing(Link(Server(url=server.url), "application")) as link:
        for start in range(0, options.records, AT_ONCE):
            count = min(AT_ONCE, options.records - start)
            headers = [{MESSAGE_ID: new_message_id(time.time_ns() // 1000)} for _ in range(count)]
            link.send([(f"{stream}.new", payload, each) for each in headers])
    return options.records / (time.perf_counter() - began)


async def create(server: Nats, stream: str) -> None:
    """The stream and its consumer, for whom everything waits."""
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(name=stream, subjects=[f"{stream}.>"])
    about = ConsumerConfig(max_ack_pending=10_000)
    await client.jetstream().pull_subscribe(f"{stream}.>", durable="billing", stream=stream, config=about)
    await client.close()


async def consume(server: Nats, stream: str, options: argparse.Namespace) -> float:
    """All of it, acked; how many a second."""
    client = await nats.connect(server.url)
    consumer = await client.jetstream().pull_subscribe(f"{stream}.>", durable="billing", stream=stream)
    taken, began = 0, time.perf_counter()
    while taken < options.records:
        for message in await consumer.fetch(AT_ONCE, timeout=10):
            await message.ack()
            taken += 1
    await client.flush()
    seconds = time.perf_counter() - began
    await client.close()
    return options.records / seconds


def described(server: Nats, stream: str, follows: bool) -> dict[str, Any]:
    """A collector of the stream."""
    return {
        "name": f"of-{stream}", "kind": "nats", "url": server.url,
        "streams": [{"stream": stream, "flow": "orders", "hop": "nats-eu"}],
        "consumers": [{"stream": stream, "consumer": "billing", "hop": "billing"}] if follows else [],
    }  # fmt: skip


def used(server: Nats, stream: str, options: argparse.Namespace, told: collecting.Target | None) -> dict[str, float]:
    """What an application comes to; `told`: what a collector tells, which has to come to it, too."""
    spent = proc.process_cpu_s(server.process.pid)
    before = told.events() if told else 0
    rates = {"publish_per_s": publish(server, stream, options)}
    rates["consume_per_s"] = asyncio.run(consume(server, stream, options))
    while told and told.events() < before + 2 * options.records:
        time.sleep(collecting.LOOK)
    return {**rates, "server_us": (proc.process_cpu_s(server.process.pid) - spent) / options.records * 1e6}


def watched(server: Nats, stream: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The same, with a collector that was at the end of the stream when it began."""
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, sink=True)
        collecting.collecting(stack, folder, told, described(server, stream, follows=True))
        while told.lag_s() > collecting.FRESH_S:
            time.sleep(collecting.LOOK)
        return used(server, stream, options, told)


def reading(server: Nats, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A stream that was there before."""
    asyncio.run(create(server, "FILLED"))
    publish(server, "FILLED", options)
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, sink=True)
        process = collecting.collecting(stack, folder, told, described(server, "FILLED", follows=False))
        return collecting.measured(told, process, options.records, {"server": server.process})


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=300, help="bytes of a payload")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    plain, seen = [], []
    with tempfile.TemporaryDirectory(prefix="nats-tail-") as name, started_nats(Path(name) / "nats") as server:
        result = reading(server, options, Path(name) / "reading")
        for run in range(options.runs):
            for stream in (f"PLAIN{run}", f"WATCHED{run}"):
                asyncio.run(create(server, stream))
            plain.append(used(server, f"PLAIN{run}", options, None))
            seen.append(watched(server, f"WATCHED{run}", options, Path(name) / f"{run}"))
    collecting.told({
        "system": "nats", "size": options.size, "runs": options.runs, **result,
        **{name: middle(found) for name, found in (("plain", plain), ("watched", seen))},
    }, options.json)  # fmt: skip


def middle(found: list[dict[str, float]]) -> dict[str, float]:
    """Of each the median."""
    return {name: round(statistics.median(each[name] for each in found), 1) for name in found[0]}


if __name__ == "__main__":
    main()
