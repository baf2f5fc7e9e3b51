"""What watching a topic costs Mosquitto, and how fast one collector reads: a JSON line.

    python -m tests.benchmarks.mqtt [--messages N]

`server_us` and `server_watched_us` are the broker's processor time (µs) for one message of 200 bytes that is published
at QoS 1 and given to one subscriber, without and with a collector; medians of three runs each, taken in turns.
`read_per_s`: messages by the processor time that reading, decoding and committing them takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.mqtt import Subscriber, subscribe
from tests.servers.mosquitto import BINARIES, BINARY, Mosquitto

UNLIMITED = {"max_queued_messages": "0", "persistence": "false"}


def published(server: Mosquitto, messages: int) -> float:
    """The broker's processor time for one message, µs; one subscriber gets them all."""
    publisher, subscriber = server.client(), server.client()
    came = threading.Semaphore(0)
    subscriber.on_message = lambda *_: came.release()
    subscriber.on_subscribe = lambda *_: came.release()
    subscriber.subscribe("orders", 1)
    for client in (publisher, subscriber):
        client.loop_start()
    came.acquire()
    before = _processor(server)
    for number in range(messages):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("x-message-id", f"m-{number}")]
        publisher.publish("orders", b"x" * 200, 1, False, properties)
    for _ in range(messages):
        came.acquire()
    used = _processor(server) - before
    for client in (publisher, subscriber):
        client.disconnect()
        client.loop_stop()
    return used * 1e6 / messages


def _processor(server: Mosquitto) -> float:
    words = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def drained(collector: Subscriber, messages: int) -> float:
    """Messages by second of processor time."""
    read, began = 0, time.thread_time()
    while read < messages:
        raws = collector.read(1000, 0.2)
        for raw in raws:
            collector.decode(raw)
        collector.commit(raws)
        read += len(raws)
    return messages / (time.thread_time() - began)


def measured(folder: Path, messages: int) -> dict[str, Any]:
    """The line."""
    binary = shutil.which(BINARY, path=BINARIES)
    assert binary is not None
    server = Mosquitto(folder, binary, UNLIMITED).start()
    plain, watched, rates = [], [], []
    config = {"url": server.url, "topic": "orders", "flow": "orders", "hop": "mosquitto", "at_least_once": True}
    try:
        for run in range(3):
            plain.append(published(server, messages))
            collector = subscribe(f"{run}", config)
            while not collector._subscribed:
                collector.read(1, 0.1)
            reading = threading.Thread(target=lambda own=collector: rates.append(drained(own, messages)))
            reading.start()
            watched.append(published(server, messages))
            reading.join()
            collector.close()
            gone = server.client(f"message-tracker-{run}")  # a clean session: the old one ends
            gone.loop(1.0)
            gone.disconnect()
    finally:
        server.kill()
    return {
        "messages": messages,
        "server_us": round(statistics.median(plain), 1),
        "server_watched_us": round(statistics.median(watched), 1),
        "read_per_s": round(statistics.median(rates)),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000)
    with tempfile.TemporaryDirectory(prefix="mqtt-") as folder:
        print(json.dumps(measured(Path(folder), parser.parse_args().messages)))


if __name__ == "__main__":
    main()
