"""Which flow and hop a trace belongs to. Pure: configuration in, names out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collectors.errors import Undecodable
from collectors.rabbitmq.config import ExchangeRoute, OwnQueueConfig, QueueRoute
from tracker.model.coverage import SourceRef

Place = tuple[str, str]
"""(flow, hop)"""


def topic_matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a routing key, cut at its dots, matches a topic pattern: `*` is one word, `#` none or more
    (https://www.rabbitmq.com/tutorials/tutorial-five-python)."""
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(topic_matches(rest, words[cut:]) for cut in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and topic_matches(rest, words[1:])


class Routes:
    """The configured exchanges and queues, ready to be asked."""

    def __init__(self, config: OwnQueueConfig) -> None:
        self.identity = dict(config.identity)
        self.flows = sorted({e.flow for e in config.exchanges} | {q.flow for q in config.queues})
        self._exchanges: dict[str, list[ExchangeRoute]] = {}
        self._queues: dict[str, list[QueueRoute]] = {}
        for exchange in config.exchanges:
            self._exchanges.setdefault(exchange.exchange, []).append(exchange)
        for queue in config.queues:
            self._queues.setdefault(queue.queue, []).append(queue)

    def stored(self, exchange: str, keys: Sequence[str], queue: str) -> list[Place]:
        """Where a message put into `queue` now is, per flow. Raises `Undecodable` when its flow cannot be told."""
        return [(flow, route.at if route else queue) for flow, route in self._in(exchange, keys, queue)]

    def delivered(self, exchange: str, keys: Sequence[str], queue: str) -> list[Place]:
        """The consumers' hops that a message taken from `queue` went to. Raises `Undecodable` as `stored` does."""
        found = self._in(exchange, keys, queue)
        return [(flow, route.consumer) for flow, route in found if route and route.consumer]

    def unroutable(self, exchange: str, keys: Sequence[str]) -> list[Place]:
        """The hops that a message routed nowhere should have reached. The default exchange routes by queue name, so
        a key that names a configured queue says it all."""
        found = [(route.flow, self._lost_at(route)) for route in self._matching(exchange, keys)]
        if not exchange:
            found += [(route.flow, route.at) for key in keys for route in self._queues.get(key, ())]
        return list(dict.fromkeys(found))

    def sources(self) -> list[SourceRef]:
        """Everything that a firehose with these routes vouches for."""
        found = set()
        for queue in self._all_queues():
            found.add(SourceRef(queue.flow, queue.at, "persist", queue.queue))
            if queue.consumer:
                found.add(SourceRef(queue.flow, queue.consumer, "deliver", queue.queue))
        for routes in self._exchanges.values():
            found |= {SourceRef(route.flow, self._lost_at(route), "drop", route.exchange) for route in routes}
        return sorted(found)

    def _in(self, exchange: str, keys: Sequence[str], queue: str) -> list[tuple[str, QueueRoute | None]]:
        """Flows of a message in `queue` with their route there. The exchange decides, for one queue may hold several
        flows; where it is not configured (a replay through the default exchange, a dead letter), the queue does."""
        here = {route.flow: route for route in self._queues.get(queue, ())}
        flows = list(dict.fromkeys(route.flow for route in self._matching(exchange, keys)))
        if not flows and len(here) > 1:
            raise Undecodable(
                f"queue {queue!r} carries the flows {', '.join(sorted(here))}, and exchange {exchange!r} with keys "
                f"{list(keys)!r} is configured for none of them: add it under `exchanges`"
            )
        return [(flow, here.get(flow)) for flow in flows or here]

    def _matching(self, exchange: str, keys: Sequence[str]) -> list[ExchangeRoute]:
        split = [key.split(".") for key in keys]
        return [
            route
            for route in self._exchanges.get(exchange, ())
            if not route.routing_keys
            or any(topic_matches(pattern.split("."), words) for pattern in route.routing_keys for words in split)
        ]

    def _lost_at(self, route: ExchangeRoute) -> str:
        first = next((queue.at for queue in self._all_queues() if queue.flow == route.flow), route.exchange)
        return route.unroutable_hop or first

    def _all_queues(self) -> Iterable[QueueRoute]:
        return (queue for queues in self._queues.values() for queue in queues)
