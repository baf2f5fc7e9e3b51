"""From a Kafka record to a `persist` or `replicate` event. Pure: no I/O, and no error but `Undecodable`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE

from collectors.base import Raw
from collectors.carried import carried, digest_of, text
from collectors.errors import Undecodable
from collectors.part import Part
from tracker.model.event import Event, Stage


class Route(Part):
    """Which flow and hop a topic's records belong to; `topic` is a name, or a pattern that begins with `^`. `stage`:
    `replicate` where the records are copies from another cluster."""

    topic: str
    flow: str
    hop: str
    stage: Literal["persist", "replicate"] = "persist"


class Routes:
    """Finds the route of a topic: the first that names it or whose pattern fits."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._known: dict[str, Route | None] = {}

    def of(self, topic: str) -> Route | None:
        """The route of `topic`, None when there is none."""
        if topic not in self._known:
            self._known[topic] = next((route for route in self._routes if _fits(route.topic, topic)), None)
        return self._known[topic]


def _fits(pattern: str, topic: str) -> bool:
    return re.match(pattern, topic) is not None if pattern.startswith("^") else pattern == topic


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a record stands. `created` tells a producer's timestamp (CreateTime) from the broker's (LogAppendTime);
    `epoch` is that of the leader who appended it, the same on every replica, or -1 where there is none. `came`: between
    which moments of our own clock (µs) a copy came here; None: its timestamp says when."""

    topic: str
    partition: int
    offset: int
    topic_id: str
    created: bool
    epoch: int = -1
    came: tuple[int, int] | None = None


def raw_of(message: Any, ids: Mapping[str, str], now: int) -> Raw:
    """The driver's `Message` as the runner carries it (Any: its stubs allow None everywhere). Its time is its own
    timestamp; `now` (us) only where it has none."""
    topic, (kind, ms) = message.topic(), message.timestamp()
    created, epoch = kind == TIMESTAMP_CREATE_TIME, message.leader_epoch()
    number, offset, epoch = message.partition(), message.offset(), -1 if epoch is None else epoch
    place = Place(topic, number, offset, ids.get(topic, ""), created, epoch)
    observed_at = now if kind == TIMESTAMP_NOT_AVAILABLE else ms * 1000
    return Raw(message.value() or b"", dict(message.headers() or ()), message.key(), place, observed_at)


class Decoder:
    """Makes events of records. `identity_header` None: the place in the log is the id, for a flow that never leaves
    its cluster. `plain_keys` sends record keys as they are; otherwise they stay here. `reused`: from this offset on a
    partition was cut off once, so that offsets were given twice and only the epoch tells two deliveries apart."""

    def __init__(self, routes: Routes, identity_header: str | None, plain_keys: bool, region: str) -> None:
        self.node = ""
        self.reused: Mapping[tuple[str, int], int] = {}
        self._routes, self._region = routes, region
        self._partitions: dict[tuple[str, int], tuple[Route | None, str]] = {}
        self._identity_header, self._plain_keys = identity_header, plain_keys
        self._more = bool(region) or plain_keys

    def event_of(self, raw: Raw) -> Event:
        """One `persist` or `replicate`. Raises `Undecodable` that names topic, partition and offset when the record has
        no id."""
        place = raw.position
        if not isinstance(place, Place) or raw.observed_at is None:
            raise Undecodable("a record without topic, partition and offset")
        route, partition = self._partition_of(place.topic, place.partition)
        said = carried(raw.headers, self._identity_header or "")
        message_id = said.message_id if self._identity_header else f"{partition}/{place.offset}"
        if not message_id or route is None:
            why = f"has no header {self._identity_header!r}" if route else "is of a topic not configured"
            raise Undecodable(f"{partition} offset {place.offset} {why}")
        since, at = place.came or (raw.observed_at, raw.observed_at)
        twice = self.reused and place.offset >= self.reused.get((place.topic, place.partition), place.offset + 1)
        event = Event(
            flow=route.flow,
            message_id=message_id,
            hop=route.hop,
            stage=Stage(route.stage),
            observed_at=at,
            origin_at=said.origin_at or (raw.observed_at if place.created else None),
            node=self.node,
            digest=digest_of(raw.value),
            size=len(raw.value),
            partition=partition,
            offset=place.offset,
        )
        if said.plain and not self._more and not twice and since >= at:
            return event
        return msgspec.structs.replace(  # most records carry no more, and each field takes its time
            event,
            delivery=f"{partition}:{place.offset}@{place.epoch}" if twice else "",
            observed_from=since if since < at else None,
            region=self._region,
            key=text(raw.key) if self._plain_keys else "",
            attempt=said.attempt,
            trace_id=said.trace_id,
            span_id=said.span_id,
            correlation_id=said.correlation_id,
            causation_id=said.causation_id,
            replay_id=said.replay_id,
        )

    def _partition_of(self, topic: str, number: int) -> tuple[Route | None, str]:
        """The route of its records and its name; a cluster has few of them, and each has many records."""
        known = self._partitions.get((topic, number))
        if known is None:
            known = self._partitions[topic, number] = self._routes.of(topic), f"{topic}/{number}"
        return known
