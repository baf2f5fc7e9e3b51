"""From a Kafka record to a `persist` or `replicate` event. Pure: no I/O, and no error but `Undecodable`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE

from collectors.base import Raw
from collectors.carried import MORE, NOTHING, carried, digest_of, number, text
from collectors.carried import headers_of as carried_headers
from collectors.errors import Undecodable
from collectors.kafka.frontier import Slot
from collectors.part import Part
from tracker.model.carry import ORIGIN_AT
from tracker.model.event import LEADER_EPOCH, Event, Stage


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
    which moments of our own clock (µs) a copy came here; None: its timestamp says when. `tombstone`: it has no
    value."""

    topic: str
    partition: int
    offset: int
    topic_id: str
    created: bool
    epoch: int = -1
    came: tuple[int, int] | None = None
    tombstone: bool = False

    @property
    def slot(self) -> Slot:
        """Its partition."""
        return self.topic, self.partition


def raw_of(message: Any, topics: Mapping[str, tuple[str, str]], now: int) -> Raw:
    """The driver's `Message` as the runner carries it (Any: its stubs allow None everywhere). `topics`: the name and id
    of each by its name, for the driver makes a string of its own for every record. Its time is its own timestamp; `now`
    (us) only where it has none."""
    name = message.topic()
    topic, topic_id = topics.get(name) or (name, "")
    kind, ms = message.timestamp()
    epoch, value = message.leader_epoch(), message.value()
    place = Place(
        topic,
        message.partition(),
        message.offset(),
        topic_id,
        kind == TIMESTAMP_CREATE_TIME,
        -1 if epoch is None else epoch,
        None,
        value is None,
    )
    return Raw(
        value or b"",
        headers_of(message),
        message.key(),
        place,
        now if kind == TIMESTAMP_NOT_AVAILABLE else ms * 1000,
    )


def headers_of(message: Any) -> dict[str, bytes]:
    """The headers of the driver's `Message`; none where they cannot be shown."""
    try:
        headers = carried_headers(message)
    except ValueError:
        return {}
    return dict(headers) if headers else {}


def ends_of(raws: Sequence[Raw]) -> list[Raw]:
    """The last record of each partition, of a read: a position stands for what lies before it."""
    found: dict[Slot, Raw] = {}
    last = None
    for raw in reversed(raws):
        place = raw.position
        if isinstance(place, Place) and (
            last is None or place.partition != last.partition or place.topic != last.topic
        ):
            found.setdefault(place.slot, raw)
            last = place
    return list(found.values())


class Decoder:
    """Makes events of records. `identity_header` None: the place in the log is the id, for a flow that never leaves
    its cluster. `plain_keys` sends record keys as they are; otherwise they stay here. `reused`: from this offset on a
    partition was cut off once, so that offsets were given twice and only the epoch tells two deliveries apart."""

    def __init__(self, routes: Routes, identity_header: str | None, plain_keys: bool, region: str) -> None:
        self.node = ""
        self.reused: Mapping[tuple[str, int], int] = {}
        self._routes, self._region = routes, region
        self._partitions: dict[tuple[str, int], tuple[Route | None, Stage, str]] = {}
        self._identity, self._plain_keys = identity_header or "", plain_keys
        self._more = bool(region) or plain_keys

    def event_of(self, raw: Raw) -> Event:
        """One `persist` or `replicate`. Raises `Undecodable` that names topic, partition and offset when the record has
        no id."""
        place = raw.position
        if not isinstance(place, Place) or raw.observed_at is None:
            raise Undecodable("a record without topic, partition and offset")
        known = self._partitions.get((place.topic, place.partition))
        route, stage, partition = known or self._partition_of(place.topic, place.partition)
        headers, said = raw.headers, NOTHING
        if MORE.isdisjoint(headers):
            named, origin_at = text(headers.get(self._identity)), number(headers.get(ORIGIN_AT))
        else:
            said = carried(headers, self._identity)
            named, origin_at = said.message_id, said.origin_at
        message_id = named if self._identity else f"{partition}/{place.offset}"
        if not message_id or route is None:
            why = f"has no header {self._identity!r}" if route else "is of a topic not configured"
            raise Undecodable(f"{partition} offset {place.offset} {why}")
        since, at = place.came or (raw.observed_at, raw.observed_at)
        twice = self.reused and place.offset >= self.reused.get((place.topic, place.partition), place.offset + 1)
        event = Event(
            flow=route.flow,
            message_id=message_id,
            hop=route.hop,
            stage=stage,
            observed_at=at,
            origin_at=origin_at or (raw.observed_at if place.created else None),
            node=self.node,
            digest=digest_of(raw.value),
            size=len(raw.value),
            partition=partition,
            offset=place.offset,
        )
        if said is NOTHING and not self._more and not twice and since >= at:
            return event
        return msgspec.structs.replace(  # most records carry no more, and each field takes its time
            event,
            delivery=f"{partition}:{place.offset}@{place.epoch}" if twice else "",
            attributes={LEADER_EPOCH: str(place.epoch)} if twice else {},
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

    def _partition_of(self, topic: str, number: int) -> tuple[Route | None, Stage, str]:
        """The route and stage of its records and its name; a cluster has few of them, and each has many records."""
        route = self._routes.of(topic)
        stage = Stage(route.stage) if route else Stage.persist
        self._partitions[topic, number] = known = route, stage, f"{topic}/{number}"
        return known
