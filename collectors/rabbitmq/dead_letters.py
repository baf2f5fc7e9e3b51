"""RabbitMQ: dead letters, per message, by a queue of our own at each dead letter exchange.

An exchange copies to every queue that is bound to it, so the others still get theirs. The firehose is not needed: it
shows no publish of a dead letter. What a message went through is in its header `x-death`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collectors.base import Content, Lag, Observation, Raw
from collectors.clock import elapsed, now_micros
from collectors.rabbitmq.canary import Owned, canary_exchange, marker_queue
from collectors.rabbitmq.config import DeadLetterConfig, dead_letter_config
from collectors.rabbitmq.connect import parameters
from collectors.rabbitmq.death import CAME_BY, Deaths
from collectors.rabbitmq.message import ENCODED, PROPERTIES, content_of, packed_properties, problem_of, properties_of
from collectors.rabbitmq.own_queue import Item, OwnQueue
from collectors.rabbitmq.table import told
from collectors.watch import Watch
from tracker.model.coverage import SourceRef
from tracker.model.event import Event


class RabbitDeadLetters:
    """The collector. `read` is to be called at least every half minute: it also answers the broker's heartbeats.

    It vouches up to the last canary that came back. A canary goes to an exchange of ours, never to somebody's dead
    letter exchange, where others would get it. So it proves what was read; the bindings are made again before each.
    """

    def __init__(
        self,
        name: str,
        config: DeadLetterConfig,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        self._config, self._monotonic, self.window = config, monotonic, config.prefetch
        self._deaths = Deaths(config)
        self._watch = Watch(uuid.uuid4().hex, monotonic(), config.hole_for, traces=False)
        bindings = tuple((each.exchange, key) for each in config.dead_letters for key in each.routing_keys)
        owned = Owned(f"tracker.dead.{name}", canary_exchange(name), marker_queue(name), bindings, again=True)
        at = parameters(config.url, owned.queue, config.tls)
        self._name, self._own = name, owned.queue
        self._queue = OwnQueue(owned, config, at, self._watch, _headers, clock, monotonic)

    def read(self, limit: int, wait: float) -> Sequence[Raw]:
        """Dead letters, oldest first. Raises `Unavailable`, also while a dead letter exchange is not there, and
        `ConfigInvalid` for what only an operator can put right."""
        return self._queue.read(limit, wait)

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """See `collectors.rabbitmq.death.Deaths.events_of`."""
        return self._deaths.events_of(raw)

    def content(self, raw: Raw, event: Event) -> Content:
        """The message that died, without what the broker added."""
        return content_of(raw, properties_of(raw), raw.headers.get(ENCODED))

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acks. Records of an earlier connection are left alone: the broker gives them out again."""
        self._queue.commit([raw.position for raw in raws])

    def sources(self) -> Sequence[SourceRef]:
        """One per queue and dead letter exchange, while canaries come back: all that came through that exchange was
        reported. And, so that a report without them goes out at all, that this collector reads its own queue."""
        vouched = self._deaths.sources() if self._watch.vouches(self._monotonic()) else []
        return [*vouched, *(SourceRef(flow, self._own, "deliver", self._name) for flow in self._deaths.flows)]

    def lag(self) -> Lag:
        """Time since the last canary that was read was sent, plus `settle` for queues that were a little slower."""
        return Lag(self._watch.lag_ms(self._monotonic(), self._config.settle), self._queue.waiting)

    def close(self) -> None:
        """Close the connections. The queue stays and fills until `expires`."""
        self._queue.disconnect()


def _headers(item: Item) -> dict[str, bytes]:
    properties = told(item.properties)
    return {
        CAME_BY: item.exchange.encode(),
        PROPERTIES: packed_properties(properties),
        ENCODED: item.properties,
        **problem_of(properties),
    }


def dead_letters(settings: Mapping[str, Any]) -> RabbitDeadLetters:
    """A collector as the configuration file describes it, `name` among the settings. Raises `ConfigInvalid`."""
    config = dict(settings)
    name = str(config.pop("name", ""))
    return RabbitDeadLetters(name, dead_letter_config(name, config))
