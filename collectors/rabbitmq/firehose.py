"""RabbitMQ: publishes and deliveries as the broker's own firehose shows them.

`RabbitFirehose` binds a durable quorum queue of its own to `amq.rabbitmq.trace` and reads it with manual acks. What
is put into a queue is `persist` at that queue's hop, what is routed nowhere is `drop: unroutable`, what is taken from
a queue is `deliver` at its consumer's hop. The firehose shows no ack, confirm, expiry or purge: acks come from client
instrumentation (`collectors.instrument.pika`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collectors.base import Content, Lag, Observation, Raw
from collectors.clock import elapsed, now_micros
from collectors.errors import Unavailable
from collectors.rabbitmq.canary import Owned, canary_exchange, marker_queue
from collectors.rabbitmq.config import FirehoseConfig, firehose_config
from collectors.rabbitmq.connect import parameters, shown
from collectors.rabbitmq.message import ENCODED, problem_of
from collectors.rabbitmq.own_queue import FIREHOSE, Item, OwnQueue
from collectors.rabbitmq.routes import Routes
from collectors.rabbitmq.table import told
from collectors.rabbitmq.trace import ROUTING_KEY, TRACE, events_of, packed_trace, traced
from collectors.watch import Watch
from tracker.model.coverage import SourceRef
from tracker.model.event import Event


def trace_queue(name: str) -> str:
    """The queue of a collector's own that the broker copies traces into."""
    return f"tracker.trace.{name}"


class RabbitFirehose:
    """The collector. `read` is to be called at least every half minute: it also answers the broker's heartbeats.

    It vouches only while canaries of its own come back traced (`collectors.watch`), up to the last of them.
    """

    def __init__(
        self,
        name: str,
        config: FirehoseConfig,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        self._name, self._trace, self.window = name, trace_queue(name), config.prefetch
        self._config, self._monotonic = config, monotonic
        self._at = parameters(config.url, self._trace, config.tls)
        self._routes = Routes(config)
        self._watch = Watch(uuid.uuid4().hex, monotonic(), config.hole_for)
        canaries = canary_exchange(name)
        bindings = tuple((FIREHOSE, key) for key in config.bindings(canaries))
        self._queue = OwnQueue(
            Owned(self._trace, canaries, marker_queue(name), bindings),
            config,
            self._at,
            self._watch,
            _headers,
            clock,
            monotonic,
        )

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """Traces, oldest first; canaries are taken out. Raises `Unavailable`, also while the firehose is off, and
        `ConfigInvalid` for what only an operator can put right."""
        records = self._queue.read(limit, wait)
        if not records and self._watch.state == "off":
            raise Unavailable(
                f"rabbitmq {shown(self._at)}: the firehose of vhost {self._at.virtual_host!r} is off, nothing is seen "
                f"and nothing vouched for. Switch it on: rabbitmqctl trace_on -p {self._at.virtual_host} "
                "(each restart of the node switches it off again)"
            )
        return records

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """See `collectors.rabbitmq.trace.events_of`."""
        return events_of(raw, self._routes)

    def content(self, raw: Raw, event: Event) -> Content:
        """The message that was traced, without what the broker added."""
        return traced(raw)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acks. Records of an earlier connection are left alone: the broker gives them out again."""
        self._queue.commit([raw.position for raw in raws])

    def sources(self) -> Sequence[SourceRef]:
        """All configured queues and exchanges while the firehose is proven to be on; else, so that a report without
        them goes out at all, only that this collector reads its own trace queue."""
        vouched = self._routes.sources() if self._watch.vouches(self._monotonic()) else []
        return [*vouched, *(SourceRef(flow, self._trace, "deliver", self._name) for flow in self._routes.flows)]

    def lag(self) -> Lag:
        """Time since the last canary that was read was sent, plus `settle` for channels that were a little slower."""
        return Lag(self._watch.lag_ms(self._monotonic(), self._config.settle), self._queue.waiting)

    def close(self) -> None:
        """Close the connections. The trace queue stays and fills until `expires`."""
        self._queue.disconnect()


def _headers(item: Item) -> dict[str, bytes]:
    properties = told(item.properties)
    return {
        ROUTING_KEY: item.routing_key.encode(),
        TRACE: packed_trace(properties.headers),
        ENCODED: item.properties,
        **problem_of(properties),
    }


def firehose(settings: Mapping[str, Any]) -> RabbitFirehose:
    """A collector as the configuration file describes it, `name` among the settings. Raises `ConfigInvalid`."""
    config = dict(settings)
    name = str(config.pop("name", ""))
    return RabbitFirehose(name, firehose_config(name, config))
