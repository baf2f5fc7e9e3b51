"""The archive: what it costs a collector, what a message takes, how quick messages are found and fetched. One line of
JSON.

    python -m tests.benchmarks.archive --json
    python -m tests.benchmarks.archive --no-broker --held 10000000 --json    # only finding and fetching

A real Kafka on the same machine holds `--records` before the clock starts; `collectors run` reads them into something
that says yes at once, without an archive and with one in a local folder, encrypted. Then `--held` messages in segments
of `--per-segment` are written by what collectors write with, and `--wanted` of them, spread over all, are found by id
and fetched. Payloads: JSON of about `--size` bytes of which half is random.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from collectors.archive.config import ArchiveConfig
from collectors.archive.rows import Row
from collectors.archive.shelf import Shelf
from collectors.archive.source import source
from collectors.carried import digest_of, new_message_id
from tests.benchmarks import collecting, proc
from tests.benchmarks.kafka_tail import SPEC, create, fill
from tests.drills.scene import started_kafka
from tests.servers.kafka import Kafka
from tracker.model.carry import MESSAGE_ID, Copy


def described(folder: Path) -> dict[str, Any]:
    """An archive of flow `orders` in a folder, with a key of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key").write_text(base64.b64encode(os.urandom(32)).decode())
    return {"url": f"file://{folder}/archive", "key": f"file:{folder}/key", "flows": ["orders"]}


def collected(node: Kafka, name: str, folder: Path, options: argparse.Namespace, archived: bool) -> dict[str, Any]:
    """One collector from the beginning of the topic to its end."""
    with ExitStack() as stack:
        folder.mkdir()
        told = collecting.target(stack, folder, SPEC, sink=True)
        route = {"topic": "orders", "flow": "orders", "hop": "kafka-eu"}
        said = {"name": name, "kind": "kafka", "url": f"kafka://{node.bootstrap}", "topics": [route]}
        kept = described(folder) if archived else None
        process = collecting.collecting(stack, folder, told, said | ({"archive": kept} if kept else {}))
        found = collecting.measured(told, process, options.records, {"broker": node.process})
        if archived:
            process.stop(60.0)
            found["segments"] = len(list((folder / "archive").rglob("*.segment")))
        return found


def made(options: argparse.Namespace, chance: random.Random) -> Iterator[Row]:
    """Messages, one every millisecond."""
    at = time.time_ns() // 1000 - options.held * 1000
    for number in range(options.held):
        name = new_message_id(at + number * 1000)
        noise = base64.b64encode(chance.randbytes(options.size * 3 // 8)).decode()
        value = json.dumps({"id": name, "kind": "order", "customer": number % 977, "noise": noise}).encode()
        value += b" " * max(0, options.size - len(value))
        headers: list[tuple[str, bytes | None]] = [(MESSAGE_ID, name.encode())]
        yield Row(
            name, "log", "persist", f"orders/{number % 4}", number // 4, None, value, headers, at + number * 1000,
            at + number * 1000, digest_of(value),
        )  # fmt: skip


def held(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """How quick an archive is written, searched and read."""
    said, chance = described(folder), random.Random(1)
    shelf, batch, ids = Shelf("bench", ArchiveConfig(**said)), list[Row](), list[str]()
    spent, number, size = 0.0, 0, 0
    for row in made(options, chance):
        batch.append(row)
        ids.append(row.message_id)
        if len(batch) == options.per_segment:
            number += 1
            began = time.perf_counter()
            size += shelf.write("orders", "log", number, batch)
            spent += time.perf_counter() - began
            batch = []
    wanted = chance.sample(ids[: number * options.per_segment], min(options.wanted, len(ids)))
    del ids
    reader = source({key: said[key] for key in ("url", "key")} | {"hop": "log"})
    times, found = [], []
    for _ in range(2):  # the second has what the cache holds
        began = time.perf_counter()
        found = reader.find("orders", wanted)
        times.append(time.perf_counter() - began)
    assert len(found) == len(wanted), f"{len(found)} of {len(wanted)} found"
    batches = [found[start : start + 10_000] for start in range(0, min(len(found), options.fetched), 10_000)]
    began = time.perf_counter()
    copies = sum(isinstance(each, Copy) for some in batches for each in reader.fetch(some))
    seconds = time.perf_counter() - began
    assert copies == sum(map(len, batches))
    index = sum(path.stat().st_size for path in (folder / "archive").rglob("*.index"))
    return {
        "records": number * options.per_segment,
        "segments": number,
        "written_per_s": round(number * options.per_segment / spent),
        "payload_bytes_per_record": options.size,
        "segment_bytes_per_record": round(size / number / options.per_segment, 1),
        "index_bytes_per_record": round(index / number / options.per_segment, 1),
        "wanted": len(wanted),
        "found_in_s": [round(one, 2) for one in times],
        "fetched": copies,
        "fetched_per_s": round(copies / seconds),
        "peak_rss_mb": proc.rss_mb(os.getpid(), "VmHWM"),
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=300, help="bytes of a payload")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--held", type=int, default=1_000_000)
    parser.add_argument("--per-segment", type=int, default=500)
    parser.add_argument("--wanted", type=int, default=100_000)
    parser.add_argument(
        "--fetched", type=int, default=10_000, help="of those found; one batch of 10,000 after the other"
    )
    parser.add_argument("--no-broker", action="store_true", help="only writing, finding and fetching")
    parser.add_argument("--folder", type=Path, help="where the data goes; default a temporary folder")
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made_folder:
        folder, result = Path(made_folder), dict[str, Any]()
        if not options.no_broker:
            with started_kafka(folder / "kafka") as node:
                create(node, "orders", options.partitions)
                fill(node, "orders", options)
                for name, archived in (("without", False), ("with", True)):
                    result[name] = collected(node, f"bench-{name}", folder / name, options, archived)
        result["held"] = held(folder / "held", options)
    collecting.told(result, options.json)


if __name__ == "__main__":
    main()
