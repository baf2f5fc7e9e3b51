"""Around a drill: a tracker and collectors as they run in production, and what the tracker says in the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pika
import yaml
from pika.adapters.blocking_connection import BlockingChannel

from tests.drills.result import Result
from tests.e2e.service import PATIENCE, Service, environment
from tests.servers import activemq, kafka, nats, postgres, rabbitmq
from tests.servers.activemq import ActiveMQ
from tests.servers.kafka import Kafka
from tests.servers.kafka_cluster import Cluster
from tests.servers.mirror_maker import MirrorMaker
from tests.servers.nats import Nats
from tests.servers.postgres import PostgreSQL
from tests.servers.process import Process
from tests.servers.rabbitmq import RabbitMQ

COLLECTORS = str(Path(sys.executable).with_name("collectors"))


class Missing(RuntimeError):
    """A server that the drill needs is not installed; the text says which and how to get it."""


@contextmanager
def started_kafka(folder: Path, **properties: str) -> Iterator[Kafka]:
    """A node of Kafka, gone afterwards."""
    node = Kafka(folder, *_java_and_jars(), {name.replace("_", "."): value for name, value in properties.items()})
    with ExitStack() as stack:
        stack.callback(node.kill)
        yield node.start()


@contextmanager
def started_cluster(folder: Path, **properties: str) -> Iterator[Cluster]:
    """Three brokers of Kafka and a controller, gone afterwards."""
    named = {key.replace("_", "."): value for key, value in properties.items()}
    cluster = Cluster(folder, *_java_and_jars(), properties=named)
    with ExitStack() as stack:
        stack.callback(cluster.kill)
        yield cluster.start()


@contextmanager
def started_mirror(
    folder: Path, source: Kafka, target: Kafka, topics: Sequence[str], properties: Mapping[str, str] | None = None
) -> Iterator[MirrorMaker]:
    """A MirrorMaker between two nodes, gone afterwards."""
    ends = source.bootstrap, target.bootstrap
    mirror = MirrorMaker(folder, *_java_and_jars(), *ends, topics, properties=properties)
    with ExitStack() as stack:
        stack.callback(mirror.kill)
        yield mirror.start()


def _java_and_jars() -> tuple[str, Path]:
    runtime, jars = kafka.java(), kafka.jars()
    if runtime is None or jars is None:
        raise Missing("this drill needs Kafka: make servers")
    return runtime, jars


@contextmanager
def started_postgres() -> Iterator[PostgreSQL]:
    """A PostgreSQL server, gone afterwards."""
    binaries = postgres.binaries()
    if binaries is None:
        raise Missing("this drill needs PostgreSQL: make servers")
    server = PostgreSQL(binaries)
    with ExitStack() as stack:
        stack.callback(server.stop)
        yield server.start()


@contextmanager
def started_nats(folder: Path) -> Iterator[Nats]:
    """A server of NATS with JetStream, gone afterwards."""
    program = nats.binary()
    if program is None:
        raise Missing("this drill needs NATS: make servers")
    folder.mkdir(parents=True, exist_ok=True)
    server = Nats(folder, program)
    with ExitStack() as stack:
        stack.callback(server.stop)
        yield server.start()


@contextmanager
def started_activemq(folder: Path) -> Iterator[ActiveMQ]:
    """A broker that can be managed, gone afterwards."""
    if not activemq.there():
        raise Missing("this drill needs ActiveMQ: make servers")
    broker = ActiveMQ(folder, jmx=True)
    with ExitStack() as stack:
        stack.callback(broker.kill)
        yield broker.start()


@contextmanager
def started_rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """A node of RabbitMQ with its firehose on, gone afterwards."""
    if rabbitmq.scripts() is None:
        raise Missing("this drill needs RabbitMQ: make servers")
    node = RabbitMQ(folder)
    with ExitStack() as stack:
        stack.callback(node.stop)
        node.start()
        node.trace()
        yield node


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """A channel of RabbitMQ, its connection closed at the end."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


class Scene:
    """A tracker and one process of collectors."""

    def __init__(
        self, folder: Path, spec: str, collectors: Sequence[Mapping[str, Any]], hops: Mapping[str, Any] | None = None
    ) -> None:
        """`hops`: where replays read and send."""
        self.flow = yaml.safe_load(spec)["flow"]
        settings = {}
        if hops:
            (folder / "hops.yaml").write_text(yaml.safe_dump(dict(hops)))
            settings["TRACKER_HOPS"] = str(folder / "hops.yaml")
        self.service = Service(folder, "--insecure", **settings)
        self.service.start()
        self.service.http.put("/v1/flows", content=spec).raise_for_status()
        self._folder = folder
        self.oldest = ""
        """The origin of the oldest message that was missing when the result was taken."""
        self.collectors = self.beside("collectors", collectors)

    def beside(self, name: str, collectors: Sequence[Mapping[str, Any]]) -> Process:
        """A process of collectors, not started; in a region of its own, say."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        about = {"tracker": {"url": self.service.url}, "spool": str(folder / "spool"), "collectors": [*collectors]}
        (folder / "collectors.yaml").write_text(yaml.safe_dump(about))
        return Process(name, [COLLECTORS, "run", str(folder / "collectors.yaml")], folder, environment())

    def watch(self, sources: int) -> None:
        """Start the collectors; returns when they vouch for so many sources."""
        self.collectors.start(lambda: None)
        self.until(lambda: self._vouched() >= sources, "coverage")

    def _vouched(self) -> int:
        rows = self.service.get("/v1/coverage", flow=self.flow, limit=1000)["items"]
        fresh = [row for row in rows if not row["closed"] and time.time() - _seconds(row["end"]) < 5]
        return len({(row["hop"], row["stage"], row["source"]) for row in fresh})

    def kill_collectors(self) -> None:
        """SIGKILL, as a node that dies."""
        self.collectors.kill()

    def until(self, met: Callable[[], Any], what: str, patience: float = PATIENCE * 2, every: float = 0.2) -> Any:
        """What `met` gives, as soon as it is true; it is asked `every` so many seconds."""
        deadline = time.monotonic() + patience
        while not (found := met()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come within {patience:.0f} s\n{self.collectors.tail()}")
            time.sleep(every)
        return found

    def findings(self, status: str = "open") -> list[dict[str, Any]]:
        """Those of a status."""
        found, cursor = [], ""
        while True:
            page = self.service.get("/v1/findings", flow=self.flow, status=status, limit=1000, cursor=cursor)
            found += page["items"]
            cursor = page["next"]
            if not cursor:
                return found

    def books(self) -> dict[str, Any]:
        """What became of every message."""
        return dict(self.service.get(f"/v1/flows/{self.flow}/reconciliation", **{"from": "-1h", "to": "now"}))

    def settled(self, messages: int, patience: float = PATIENCE * 2) -> dict[str, Any]:
        """The books, once they hold so many messages, none of which is in flight or unknown any more."""

        def done() -> dict[str, Any] | None:
            books = self.books()
            open_ones = sum(books["verdicts"].get(verdict, 0) for verdict in ("in_flight", "blind"))
            return books if sum(books["verdicts"].values()) >= messages and not open_ones else None

        return dict(self.until(done, "a verdict for every message", patience))

    def decided(self, messages: int) -> dict[str, Any]:
        """The books, once they hold so many messages and none is in flight: what is unknown may stay so."""

        def done() -> dict[str, Any] | None:
            books = self.books()
            enough = sum(books["verdicts"].values()) >= messages
            return books if enough and not books["verdicts"].get("in_flight", 0) else None

        return dict(self.until(done, "a verdict for every message"))

    def unknown(self, ids: Iterable[str]) -> list[str]:
        """Those of these messages of which the tracker says that it does not know."""
        if not self.books()["verdicts"].get("blind", 0):
            return []
        told = {one: self.service.get(f"/v1/flows/{self.flow}/messages/{one}") for one in ids}
        return sorted(one for one, answer in told.items() if answer["verdict"] == "blind")

    def cli(self, *words: str) -> Any:
        """What `tracker WORDS --json` says."""
        done = self.service.cli(*words, "--json", patience=PATIENCE * 5)
        assert done.returncode == 0, f"tracker {' '.join(words)}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def replayed(self, reason: str, *options: str, patience: float = 300) -> dict[str, Any]:
        """What an operator does: ask for all that is missing to be sent again, approve it, and look until it is done.
        What became of it; `last`: when the last message was back, epoch seconds, and `seconds` after the asking."""
        began = time.time()
        asked = self.cli("replay", self.flow, "--yes", "--reason", reason, *options)
        self.cli("replay", "approve", asked["id"], "--why", "a drill")
        done = self.until(lambda: self._done(asked["id"]), "the end of the replay", patience, every=1)
        rows = self.service.get(f"/v1/replays/{asked['id']}/messages", limit=1000)["items"]
        last = max(_seconds(one["resolved_at"]) for one in self.findings("recovered") if one["by"] == "replay")
        return {
            "sources": asked["plan"]["sources"],
            "refused": {reason: some["messages"] for reason, some in asked["plan"]["refused"].items()},
            "states": {state: count for state, count in done["messages"].items() if count},
            "errors": sorted({row["error"] for row in rows if row["error"]})[:3],
            "last": round(last, 3),
            "seconds": round(last - began, 1),
        }

    def _done(self, replay: str) -> dict[str, Any] | None:
        found = dict(self.cli("replay", "status", replay))
        return found if found["status"] == "done" else None

    def result(self, drill: str, truth: Sequence[str], blind: Sequence[str] = (), **more: Any) -> Result:
        """Compared with what brokers themselves say."""
        found = self.findings()
        self.oldest = min((one["origin_at"] for one in found), default="")
        late = [_seconds(one["opened_at"]) - _seconds(one["known_at"]) for one in found]
        books = self.books()
        told = {"produced": books["produced"], "verdicts": books["verdicts"], "conserved": books["conserved"]}
        return Result(drill, truth, sorted({one["message_id"] for one in found}), late, blind, more={**told, **more})

    def close(self) -> None:
        """End both."""
        self.collectors.stop()
        self.service.close()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@contextmanager
def scene(
    folder: Path, spec: str, collectors: Sequence[Mapping[str, Any]], hops: Mapping[str, Any] | None = None
) -> Iterator[Scene]:
    """A scene, closed at the end."""
    with closing(Scene(folder, spec, collectors, hops)) as made:
        yield made
