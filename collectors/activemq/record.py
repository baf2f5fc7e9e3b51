"""From an advisory to `persist`, `ack`, `dead_letter` and `drop`. Pure: no I/O, and no error but `Undecodable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from collectors.activemq.advice import Advice, advice
from collectors.activemq.config import ActiveConfig, Route
from collectors.base import Observation, Raw
from collectors.carried import Carried, carried, digest_of, number, text
from collectors.errors import Undecodable
from tracker.model.carry import MESSAGE_ID
from tracker.model.event import Event, Stage

TOPICS = "ActiveMQ.Advisory."
DELIVERED, CONSUMED = "MessageDelivered", "MessageConsumed"
DEAD, EXPIRED, DISCARDED = "MessageDLQd", "Expired", "MessageDiscarded"
KINDS = (DELIVERED, CONSUMED, DEAD, EXPIRED, DISCARDED)

SAYS, CONNECTOR, ENDED, LATE = "says", "connector", "ended", "late"
"""Headers of a `Raw` of ours: the advisory's topic without its beginning; by which connector came what it is about;
that another advisory before it told the message's end; and that it was read from a backlog."""
INSIDE = "vm:"
"""How the connector of who is inside of the broker's process begins."""


class Place(NamedTuple):
    """Of which connection, and which of its messages it settles."""

    connection: int
    numbers: tuple[int, ...]


def said_of(headers: Mapping[str, Any], identity: str) -> Carried:
    """What headers say; the id is in `identity`, else in our own."""
    return carried(headers, identity if headers.get(identity) else MESSAGE_ID)


class Decoder:
    """Makes events."""

    def __init__(self, config: ActiveConfig) -> None:
        self._config = config
        self._routes = {route.at: route for route in config.routes}

    def route(self, says: str) -> Route | None:
        """Of an advisory's topic (`MessageConsumed.Queue.orders`); None where it is none of our business."""
        kind, _, place = says.partition(".")
        return self._routes.get(place) if kind in KINDS else None

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """What was observed."""
        says = text(raw.headers.get(SAYS))
        route = self.route(says)
        if route is None or raw.observed_at is None:
            raise Undecodable(f"not an advisory of a configured queue or topic: {says[:80]!r}")
        if ENDED in raw.headers:
            return []
        told = advice(raw.value)
        kind, _, place = says.partition(".")
        hop, stage, reason = self._meaning(raw, kind, route, told)
        return [self._event(raw, raw.observed_at, route, told, place, (hop, stage, reason))] if hop else []

    def _meaning(self, raw: Raw, kind: str, route: Route, told: Advice) -> tuple[str, Stage, str]:
        """Hop, stage and reason; no hop where nobody is told of it."""
        about, durable = told.message, route.hop if route.queue or route.consumer else ""
        if kind == DELIVERED:
            return route.hop, Stage.persist, ""
        if kind == DISCARDED:
            return route.listeners, Stage.drop, "discarded"
        if kind == EXPIRED:
            return durable, Stage.drop, "expired"
        if kind == DEAD:
            late = 0 < about.expiration * 1000 <= (raw.observed_at or 0)
            return durable, Stage.dead_letter, "expired" if late else "rejected"
        connector = text(raw.headers.get(CONNECTOR))
        if route.queue and self._by_nobody(connector, told):
            return route.hop, Stage.drop, "purged"
        if route.topic and not about.broker_out_time:  # so does the broker itself, at once, what a selector leaves out
            return route.consumer, Stage.drop, "filtered"
        taken = not connector.startswith(INSIDE) or self._config.inside == "clients"
        return (route.consumer if taken else ""), Stage.ack, ""

    def inside(self, connector: str) -> bool:
        """Whether nobody knows who took it: an application inside of the broker's process, or a network of brokers,
        which takes messages from one to give them to another, and nobody acked them."""
        return connector.startswith(INSIDE) and not self._config.inside

    def _by_nobody(self, connector: str, told: Advice) -> bool:
        """Whether no client took it: it was never given to one; or it was the broker itself, which says so with the
        name of its first connector."""
        return not told.message.broker_out_time or connector == (self._config.first_connector or None)

    def _event(self, raw: Raw, at: int, route: Route, told: Advice, place: str, what: tuple[str, Stage, str]) -> Event:
        message, (hop, stage, reason) = told.message, what
        said = said_of(told.headers, self._config.identity_of(route.flow))
        own = message.message_id.text
        since = (message.broker_out_time or message.broker_in_time) * 1000
        if stage is Stage.persist:
            since = message.broker_in_time * 1000
        return Event(
            flow=route.flow, message_id=said.message_id or own, hop=hop, stage=stage, reason=reason, observed_at=at,
            observed_from=min(since, at) if LATE in raw.headers else None,
            origin_at=said.origin_at or number(message.timestamp * 1000) or None,
            delivery=f"{place}:{own}", node=self._config.node, region=self._config.region,
            digest="" if told.payload is None else digest_of(told.payload),
            size=None if told.payload is None else len(told.payload),
            attempt=said.attempt, trace_id=said.trace_id, span_id=said.span_id,
            correlation_id=said.correlation_id or _text_of(message.correlation_id),
            causation_id=said.causation_id, replay_id=said.replay_id,
            attributes={"redelivered": str(message.redelivery_counter)} if message.redelivery_counter else {},
        )  # fmt: skip


def _text_of(value: Any) -> str:
    """What is a number here may have been a text with zeros before it."""
    return value if isinstance(value, str) else ""
