"""RabbitMQ: publishes and deliveries as the broker's own firehose shows them.

`RabbitFirehose` binds a durable quorum queue of its own to `amq.rabbitmq.trace` and reads it with manual acks. What
is put into a queue is `persist` at that queue's hop, what is routed nowhere is `drop: unroutable`, what is taken from
a queue is `deliver` at its consumer's hop. The firehose shows no ack, confirm, expiry or purge: acks come from client
instrumentation (`collectors.instrument.pika`).
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pika

from collectors.base import Lag, Observation, Raw
from collectors.clock import now_micros
from collectors.errors import CollectorError, Unavailable
from collectors.rabbitmq_canary import Canaries, canary_exchange, trace_queue
from collectors.rabbitmq_config import FirehoseConfig, firehose_config
from collectors.rabbitmq_connect import closed, opened, parameters, shown, working
from collectors.rabbitmq_routes import Routes
from collectors.rabbitmq_trace import ROUTING_KEY, SINCE, TRACE, events_of, packed
from collectors.rabbitmq_watch import Watch, mark_of
from tracker.model.coverage import SourceRef

CANARIES = "publish.tracker.canary."
"""Routing keys of the traces of canaries, those of other collectors too."""

NEVER = 10**9
"""Lag in milliseconds of a collector that has proven nothing yet."""


class Position(NamedTuple):
    """Where a record was read: tags count anew on each connection."""

    connection: int
    tag: int


class Delivered(NamedTuple):
    """One message of the trace queue, before it is known what it is."""

    tag: int
    exchange: str
    routing_key: str
    headers: Mapping[str, Any] | None
    body: bytes


class RabbitFirehose:
    """The collector. `read` is to be called at least every half minute: it also answers the broker's heartbeats.

    It vouches only while canaries of its own come back traced (`collectors.rabbitmq_watch`), up to the last of them.
    """

    def __init__(
        self,
        name: str,
        config: FirehoseConfig,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._queue, self._exchange = name, trace_queue(name), canary_exchange(name)
        self._config, self._clock, self._monotonic = config, clock, monotonic
        self._at = parameters(config.url, self._queue, config.tls)
        self._routes = Routes(config)
        self._watch = Watch(uuid.uuid4().hex, monotonic(), config.hole_for)
        self._inbox: deque[Delivered] = deque()
        self._inbox_bytes = 0
        self._outstanding: dict[int, bool] = {}  # tag -> done; in the order of delivery
        self._connections = 0
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._canaries: Canaries | None = None

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """Traces, oldest first; canaries are taken out. Raises `Unavailable`, also while the firehose is off, and
        `ConfigInvalid` for what only an operator can put right."""
        try:
            records = self._read(limit, self._monotonic() + wait)
        except CollectorError:
            self._disconnect()
            raise
        if not records and self._watch.state == "off":
            raise Unavailable(
                f"rabbitmq {shown(self._at)}: the firehose of vhost {self._at.virtual_host!r} is off, nothing is seen "
                f"and nothing vouched for. Switch it on: rabbitmqctl trace_on -p {self._at.virtual_host} "
                "(each restart of the node switches it off again)"
            )
        return records

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """See `collectors.rabbitmq_trace.events_of`."""
        return events_of(raw, self._routes)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acks. Records of an earlier connection are left alone: the broker gives them out again."""
        tags = [raw.position.tag for raw in raws if raw.position.connection == self._connections]
        try:
            with working(self._at):
                self._ack([tag for tag in tags if tag in self._outstanding])
        except Unavailable:
            self._disconnect()
            raise

    def sources(self) -> Sequence[SourceRef]:
        """All configured queues and exchanges while the firehose is proven to be on; else, so that a report without
        them goes out at all, only that this collector reads its own trace queue."""
        vouched = self._routes.sources() if self._watch.vouches(self._monotonic()) else []
        return [*vouched, *(SourceRef(flow, self._queue, "deliver", self._name) for flow in self._routes.flows)]

    def lag(self) -> Lag:
        """Time since the last canary that was read was sent, plus `settle` for channels that were a little slower."""
        behind = self._watch.behind(self._monotonic())
        waiting = len(self._inbox) + (self._canaries.depth if self._canaries else 0)
        return Lag(NEVER if behind is None else int((behind + self._config.settle) * 1000), waiting)

    def close(self) -> None:
        """Close the connections. The trace queue stays and fills until `expires`."""
        self._disconnect()

    def _read(self, limit: int, deadline: float) -> list[Raw]:
        canaries = self._connected()
        records: list[Raw] = []
        while True:
            due = canaries.tick()
            left = max(0.0, deadline - self._monotonic())
            if self._inbox_bytes <= self._config.memory_mb * 2**20:  # else the broker waits: TCP holds it back
                self._pump(0.0 if self._inbox else min(left, due))
            with working(self._at):
                while self._inbox and len(records) < limit:
                    item = self._inbox.popleft()
                    self._inbox_bytes -= len(item.body)
                    records.extend(self._taken(item))
            if records or self._monotonic() >= deadline:
                return records

    def _pump(self, wait: float) -> None:
        """Let pika work: heartbeats, acks out, deliveries in; returns after `wait` seconds or with something."""
        with working(self._at):
            assert self._connection is not None
            self._connection.process_data_events(wait)
            if not self._channel.consumer_tags:
                raise Unavailable(
                    f"rabbitmq {shown(self._at)}: queue {self._queue!r} was deleted under us; "
                    "it is declared again, what it held is lost"
                )

    def _taken(self, item: Delivered) -> list[Raw]:
        """A record, or nothing when it is a canary."""
        at_canaries = item.exchange == self._exchange
        if not at_canaries and not item.routing_key.startswith(CANARIES):
            return [self._record(item)]
        mark = mark_of(item.body)
        if mark is not None and at_canaries:
            self._watch.arrived(mark, self._monotonic())
        elif mark is not None and item.routing_key == f"publish.{self._exchange}":
            self._watch.traced(mark)
        self._ack([item.tag])
        return []

    def _record(self, item: Delivered) -> Raw:
        headers = {ROUTING_KEY: item.routing_key.encode(), TRACE: packed(item.headers)}
        behind = self._watch.behind(self._monotonic())
        if behind is None or behind > self._config.prompt:
            # Read from a backlog: it happened some time after the last canary before it, which may be long ago.
            headers[SINCE] = str(self._watch.marker).encode()
        return Raw(item.body, headers, None, Position(self._connections, item.tag), self._clock())

    def _ack(self, tags: Sequence[int]) -> None:
        """Ack what is done from the oldest on in one frame; what was done out of order one by one."""
        for tag in tags:
            self._outstanding[tag] = True
        last = 0
        while self._outstanding and self._outstanding[first := next(iter(self._outstanding))]:
            del self._outstanding[first]
            last = first
        if last:
            self._channel.basic_ack(last, multiple=True)
        for tag in tags:
            if self._outstanding.pop(tag, False):
                self._channel.basic_ack(tag)

    def _connected(self) -> Canaries:
        if self._canaries is not None:
            return self._canaries
        self._connections += 1
        canaries = Canaries(self._name, self._config, self._at, self._watch, self._clock, self._monotonic)
        self._canaries = canaries
        with opened(self._at) as connection:
            self._connection, self._channel = connection, connection.channel()
            self._channel.basic_qos(prefetch_count=self._config.prefetch)
            self._channel.basic_consume(self._queue, self._on_message)
        return canaries

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._outstanding[method.delivery_tag] = False
        self._inbox_bytes += len(body)
        self._inbox.append(
            Delivered(method.delivery_tag, method.exchange, method.routing_key, properties.headers, body)
        )  # fmt: skip

    def _disconnect(self) -> None:
        connection, canaries = self._connection, self._canaries
        self._connection = self._channel = self._canaries = None
        self._inbox.clear()
        self._inbox_bytes = 0
        self._outstanding.clear()
        self._watch.broken(self._monotonic())
        closed(connection)
        if canaries is not None:
            canaries.close()


def firehose(settings: Mapping[str, Any]) -> RabbitFirehose:
    """A collector as the configuration file describes it, `name` among the settings. Raises `ConfigInvalid`."""
    config = dict(settings)
    name = str(config.pop("name", ""))
    return RabbitFirehose(name, firehose_config(name, config))
