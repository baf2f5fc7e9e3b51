"""What advisories cost an ActiveMQ broker, and how many of them the collector reads.

python -m tests.benchmarks.activemq --messages 20000
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from contextlib import closing
from pathlib import Path

from collectors.activemq.advisories import advisories
from collectors.activemq.link import Link, Server
from tests.servers.activemq import ActiveMQ

TICK = os.sysconf("SC_CLK_TCK")
BODY = bytes(500)


def main() -> None:
    """One line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    count = parser.parse_args().messages
    with tempfile.TemporaryDirectory() as folder:
        plain, plain_cpu, _ = _run(Path(folder) / "plain", count, False, False)
        advised, advised_cpu, _ = _run(Path(folder) / "advised", count, True, False)
        bodies, bodies_cpu, read = _run(Path(folder) / "bodies", count, True, True)
    print(json.dumps({
        "messages": count, "plain_per_s": plain, "advised_per_s": advised, "with_bodies_per_s": bodies,
        "plain_broker_us": plain_cpu, "advised_broker_us": advised_cpu, "with_bodies_broker_us": bodies_cpu,
        "advisories_read_per_s": read,
    }))  # fmt: skip


def _run(folder: Path, count: int, advised: bool, bodies: bool) -> tuple[int, float, int]:
    """Messages sent and then acked in a second, and the broker's processor time for each (µs), in a second round, when
    it is warm; and advisories that the collector read in a second, afterwards."""
    folder.mkdir()
    broker = ActiveMQ(folder)
    config = folder / "conf/activemq.xml"
    text = config.read_text()
    if not bodies:
        text = text.replace('includeBodyForAdvisory="true"', "")
    if not advised:
        text = re.sub(
            r"<compositeTopic.*?</compositeTopic>", "", re.sub(r'advisoryFor\w+="true"', "", text), flags=re.S
        )
    config.write_text(text)
    broker.start()
    try:
        _business(broker, count)
        cpu = _used(broker)
        took = _business(broker, count)
        used = _used(broker) - cpu
        read = _read(broker, 4 * count) if advised else 0
    finally:
        broker.kill()
    return int(count / took), round(used / count * 1e6, 1), read


def _business(broker: ActiveMQ, count: int) -> float:
    """Seconds in which so many messages are sent, given out and acked."""
    began = time.monotonic()
    with closing(Link(Server(url=broker.url))) as link:
        for number in range(count):
            link.send("SEND", {"destination": "/queue/bench", "x-message-id": f"m-{number}"}, BODY)
        link.sure("SUBSCRIBE", {"id": "1", "destination": "/queue/none", "ack": "auto"})
    with closing(Link(Server(url=broker.url))) as link:
        link.send("SUBSCRIBE", {"id": "1", "destination": "/queue/bench", "ack": "client-individual"})
        for number in range(count):
            frame = link.next(10.0)
            assert frame is not None
            ack = {"id": frame.headers["ack"]}
            link.sure("ACK", ack) if number == count - 1 else link.send("ACK", ack)
    return time.monotonic() - began


def _read(broker: ActiveMQ, count: int) -> int:
    """How many it reads, decodes and commits in a second."""
    route = {"queue": "bench", "flow": "orders", "hop": "activemq", "consumer": "billing"}
    began, seen = time.monotonic(), 0
    with closing(advisories("one", {"url": broker.first, "routes": [route]})) as tail:
        while seen < count:
            raws = tail.read(500, 1.0)
            seen += sum(len(tail.decode(raw)) for raw in raws)
            tail.commit(raws)
    return int(count / (time.monotonic() - began))


def _used(broker: ActiveMQ) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{broker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


if __name__ == "__main__":
    main()
