"""A running service with a lane for canaries on a real broker, as an operator sets it up."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.brokers.kafka_topic import own_topic
from tests.brokers.rabbitmq_vhost import own_vhost
from tests.brokers.running import run
from tests.e2e.service import TRACKER, Service, environment

PAGE = (Path(__file__).parents[2] / "docs/gameday.md").read_text("utf-8")
FILES = dict(re.findall(r'^```yaml title="([^"]+)"\n(.*?)^```$', PAGE, re.M | re.S))
"""What an operator writes, as docs/gameday.md has it."""


class Installation:
    """The flow `orders` is the business, `orders.canary` the lane: drafted and put by the command line."""

    flow, lane = "orders", "orders.canary"

    def __init__(self, service: Service, hops: Path, spec: str, folder: Path) -> None:
        self.service, self.hops, self._folder = service, hops, folder
        self._put(spec)
        self.draft = service.cli("canary", "draft", self.flow).stdout
        self._put(self.draft)

    def _put(self, spec: str) -> None:
        file = self._folder / "spec.yaml"
        file.write_text(spec)
        put = self.service.cli("flows", "put", str(file))
        assert put.returncode == 0, put.stderr

    def run(self, *words: str, hops: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`tracker WORDS` to its end, with the hops and a spool of its own."""
        command = self._command(*words, hops=hops or self.hops)
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=240)

    def started(self, *words: str) -> subprocess.Popen[str]:
        """The same, while it runs."""
        command, pipe = self._command(*words, hops=self.hops), subprocess.PIPE
        return subprocess.Popen(command, env=self._environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def _command(self, *words: str, hops: Path) -> list[str]:
        return [TRACKER, *words, "--hops", str(hops), "--spool", str(self._folder / words[0])]

    @property
    def _environment(self) -> dict[str, str]:
        return environment(TRACKER_URL=self.service.url)

    def drill(self, fault: str, *more: str) -> dict[str, Any]:
        """The report of a drill that ended as expected."""
        words = ["drill", self.lane, "--fault", fault, "--yes", "--json", "--consume", "billing", "--within", "30s"]
        ran = self.run(*words, *more)
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
        told: dict[str, Any] = json.loads(ran.stdout)
        return told


@contextmanager
def on_kafka(servers: str, folder: Path) -> Iterator[Installation]:
    """What docs/gameday.md sets up, on this Kafka: the business reads a topic, the canaries have another one of the
    same brokers, one tail reads both."""
    with own_topic(servers) as business, own_topic(servers, 2) as lane:

        def here(text: str) -> Any:
            text = text.replace("kafka://127.0.0.1:9092", business.url)
            text = text.replace("topic: orders.canary", f"topic: {lane.name}")
            return yaml.safe_load(text.replace("topic: orders,", f"topic: {business.name},").replace(
                "topic: orders}", f"topic: {business.name}}}"))  # fmt: skip

        [tail] = here(FILES["collectors.yaml"])["collectors"]
        with _installed(folder, here(FILES["hops.yaml"]), tail, FILES["orders.yaml"]) as made:
            yield made


@contextmanager
def on_rabbitmq(server: Any, folder: Path) -> Iterator[Installation]:
    """The business has a queue, the canaries another one of the same node; one firehose shows both."""
    with own_vhost(server) as vhost:
        queues = {"kafka-eu": "billing", "kafka-eu.canary": "billing.canary"}
        for queue in queues.values():
            vhost.channel.queue_declare(queue, durable=True)
        hops = {hop: {"kind": "rabbitmq", "url": vhost.url, "queue": queue} for hop, queue in queues.items()}
        flows = {"kafka-eu": "orders", "kafka-eu.canary": "orders.canary"}
        routes = [{"queue": queue, "flow": flows[hop], "hop": hop} for hop, queue in queues.items()]
        firehose = {"name": "rabbit", "kind": "rabbitmq", "url": vhost.url, "canary_every": 0.2, "queues": routes}
        hops, firehose = _named(hops), _named(firehose)
        with _installed(folder, hops, firehose, _named(FILES["orders.yaml"].partition("replay:")[0])) as made:
            yield made


def _named(of: Any) -> Any:
    """With the hop's name that a queue has."""
    if isinstance(of, str):
        return of.replace("kafka-eu", "rabbit-eu")
    if isinstance(of, Mapping):
        return {_named(key): _named(value) for key, value in of.items()}
    return [_named(one) for one in of] if isinstance(of, list) else of


@contextmanager
def _installed(folder: Path, hops: dict[str, Any], collector: dict[str, Any], spec: str) -> Iterator[Installation]:
    file = folder / "hops.yaml"
    file.write_text(yaml.safe_dump(hops))
    service = Service(folder, "--insecure", TRACKER_HOPS=str(file)).start()
    stops: list[Callable[[], None]] = []
    try:
        made = Installation(service, file, spec, folder)
        stops.append(run(collector, service.url, folder))
        yield made
    finally:
        for stop in stops:
            stop()
        service.close()
