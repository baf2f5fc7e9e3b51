"""The demo's world: a shop whose orders go through a log to billing and inventory, watched by our own collectors.

Its traffic is real: an instrumented producer and consumers, a collector that tails the log, emitters that send to the
service over HTTP. Its fault is the commonest one there is: billing commits past orders that it never processed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from collectors.base import Collector
from collectors.emitter import Emitter
from collectors.instrument.memory import MemoryConsumer, MemoryProducer
from collectors.instrument.observe import Observer
from collectors.memory import Config, MemoryCollector, MemoryPublisher, MemorySource, Tailed
from collectors.memory_broker import MemoryBroker, Slot
from collectors.runner import Runner
from tracker.model.carry import MESSAGE_ID, Publisher, Source
from tracker.model.event import Stage
from tracker.replay.routes import Keeper

FLOW, TOPIC, LOG = "demo-orders", "orders", "orders-log"
SHOP, BILLING, INVENTORY = "shop", "billing", "inventory"

SPEC = f"""\
flow: {FLOW}
owner: demo
checkpoints:
  - {{hop: {SHOP}, stage: produce}}
  - {{hop: {LOG}, stage: persist, after: {SHOP}, within: 2s}}
  - {{hop: {BILLING}, stage: ack, after: {LOG}, within: 3s, at_most: 1}}
  - {{hop: {INVENTORY}, stage: ack, after: {LOG}, within: 3s, at_most: 1}}
objectives:
  delivery: {{target: 99.9%, window: 30d}}
replay: {{sources: [log: {LOG}], mode: approve, rate: 500/s, max_attempts: 3}}
runbook: unacknowledged
"""


class Consuming(Protocol):
    """One consumer group's member, as the demo uses it."""

    def work(self, limit: int, wait: float) -> int:
        """Process and acknowledge what is there; how many."""
        ...

    def skip(self, count: int) -> list[str]:
        """Commit past the next `count` messages without processing them; their ids."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Broker(Protocol):
    """What the demo needs of a broker: its in-memory one, or a real one."""

    def producer(self, observer: Observer) -> Any:
        """Something with `send(topic, value, key, headers)` and `close()`."""
        ...

    def consumer(self, group: str, observer: Observer) -> Consuming:
        """A member of `group` on the demo's topic."""
        ...

    def tail(self) -> Collector:
        """A collector that sees what the log persisted."""
        ...

    def source(self) -> Source:
        """Where a replay fetches copies."""
        ...

    def publisher(self) -> Publisher:
        """Where a replay sends them."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class InMemory:
    """The broker that ships with the collectors."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(partitions=1)
        self._broker.create(TOPIC)

    def producer(self, observer: Observer) -> MemoryProducer:
        """An instrumented producer."""
        return MemoryProducer(self._broker, observer)

    def consumer(self, group: str, observer: Observer) -> Consuming:
        """An instrumented consumer."""
        return _InMemoryConsumer(self._broker, group, observer)

    def tail(self) -> MemoryCollector:
        """Each record of the topic is a `persist`."""
        return MemoryCollector("demo-log", Config(topics=[Tailed(TOPIC, FLOW, LOG)]), self._broker)

    def source(self) -> MemorySource:
        """By partition and offset."""
        return MemorySource(self._broker)

    def publisher(self) -> MemoryPublisher:
        """Back to the topic."""
        return MemoryPublisher(self._broker, TOPIC)

    def close(self) -> None:
        """It goes with the process."""


class _InMemoryConsumer:
    def __init__(self, broker: MemoryBroker, group: str, observer: Observer) -> None:
        self._consumer = MemoryConsumer(broker, group, [TOPIC], observer)

    def work(self, limit: int, wait: float) -> int:
        taken = self._consumer.poll(limit, wait)
        for stored in taken:
            self._consumer.ack(stored)
        return len(taken)

    def skip(self, count: int) -> list[str]:
        skipped = self._consumer.skip(Slot(TOPIC, 0), count)
        return [stored.headers[MESSAGE_ID].decode() for stored in skipped]

    def close(self) -> None:
        self._consumer.close()


class Order(msgspec.Struct):
    """What the shop sells."""

    order: int
    item: str
    amount: int


ITEMS = ("ledger", "quill", "ink", "seal", "ribbon")


class World:
    """Everything that runs beside the hops. `skipped` is the truth: the ids that billing went past."""

    def __init__(self, broker: Broker, url: str, token: str, folder: Path) -> None:
        self._broker, self._url, self._token, self._folder = broker, url, token, folder
        self.produced = 0
        self.skipped: set[str] = set()
        self._to_skip = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._emitters: list[Emitter] = []
        self._runner = Runner(
            "demo-log", broker.tail(), self._emitter("demo-log", reader=True), folder / "rejects.ndjson"
        )

    def start(self) -> None:
        """Collector first, then consumers, then the shop: whoever vouches must be there before there is traffic."""
        self._thread("demo-log", self._runner.run)
        for hop in (BILLING, INVENTORY):
            observer = Observer(self._emitter(hop), FLOW, hop, stages=[Stage.deliver, Stage.ack], node=f"{hop}-1")
            self._thread(hop, self._consume, hop, self._broker.consumer(hop, observer))
        observer = Observer(self._emitter(SHOP), FLOW, SHOP, stages=[Stage.produce], node="shop-1")
        self._producer = self._broker.producer(observer)

    def send(self, count: int) -> None:
        """The shop accepts `count` orders."""
        for _ in range(count):
            self.produced += 1
            order = Order(self.produced, ITEMS[self.produced % len(ITEMS)], 10 + self.produced % 90)
            ident = f"order-{self.produced:06d}-{uuid.uuid4().hex[:6]}"
            self._producer.send(TOPIC, msgspec.json.encode(order), None, {MESSAGE_ID: ident.encode()})

    def lose(self, count: int) -> None:
        """From now on billing goes past the next `count` orders."""
        with self._lock:
            self._to_skip += count

    def truth(self) -> set[str]:
        """The ids that billing went past so far."""
        with self._lock:
            return set(self.skipped)

    def close(self) -> None:
        """Everybody finishes and signs off."""
        self._producer.close()
        self._stop.set()
        self._runner.stop()
        for thread in self._threads:
            thread.join(15)
        for emitter in self._emitters:
            emitter.close(2.0)
        self._broker.close()

    def _emitter(self, name: str, reader: bool = False) -> Emitter:
        spool = self._folder / "spool" / name
        emitter = Emitter(self._url, self._token, collector=f"demo-{name}", spool=spool, reader=reader)
        self._emitters.append(emitter)
        return emitter

    def _thread(self, name: str, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"demo {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _consume(self, hop: str, consumer: Consuming) -> None:
        while not self._stop.is_set():
            if hop == BILLING:
                self._skip(consumer)
            consumer.work(50, 0.1)
        consumer.close()

    def _skip(self, consumer: Consuming) -> None:
        with self._lock:
            if self._to_skip:
                gone = consumer.skip(self._to_skip)
                self._to_skip -= len(gone)
                self.skipped.update(gone)


def ports(broker: Broker) -> tuple[Mapping[Keeper, Source], Mapping[str, Publisher]]:
    """Sources and publishers, for the replay engine."""
    return {Keeper("log", LOG): broker.source()}, {LOG: broker.publisher()}
