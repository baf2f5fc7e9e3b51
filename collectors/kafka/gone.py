"""What a tail takes back: the `drop` of a record that it reported and that its log does not hold for good. Pure."""

from __future__ import annotations

import msgspec

from collectors.base import Raw
from collectors.errors import Undecodable
from collectors.kafka.frontier import Slot
from collectors.kafka.records import Place, Routes
from tracker.model.event import Event, Stage


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A record that was reported, as far as its `drop` needs it. `delivery` is empty where it is derived."""

    place: Place
    message_id: str
    delivery: str
    attempt: int | None

    @property
    def slot(self) -> Slot:
        """Its partition."""
        return self.place.slot


def seen(place: Place, event: Event) -> Seen:
    """What is remembered of a `persist`."""
    return Seen(place, event.message_id, event.delivery, event.attempt)


class Gone(msgspec.Struct, frozen=True):
    """Why it is taken back: a reason of a `drop`."""

    record: Seen
    reason: str


class Unnamed(msgspec.Struct, frozen=True):
    """Offsets that were cut off, from the first to the last, of which nobody remembers what stood there."""

    topic: str
    partition: int
    first: int
    last: int


def drop_of(raw: Raw, routes: Routes, node: str, region: str) -> Event:
    """The `drop` that takes a `persist` back: same hop, same delivery. Raises `Undecodable` that says which offsets
    cannot be named, and why."""
    gone = raw.position
    if isinstance(gone, Unnamed):
        raise Undecodable(
            f"{gone.topic}/{gone.partition} offsets {gone.first} to {gone.last} were cut off the log by an unclean "
            "leader election; they cannot be named: read before this start, or further back than `remember` reaches"
        )
    if not isinstance(gone, Gone) or raw.observed_at is None:
        raise Undecodable("a record without topic, partition and offset")
    record, place = gone.record, gone.record.place
    route = routes.of(place.topic)
    if route is None:
        raise Undecodable(f"{place.topic} is of a topic not configured")
    return Event(
        flow=route.flow,
        message_id=record.message_id,
        hop=route.hop,
        stage=Stage.drop,
        reason=gone.reason,
        observed_at=raw.observed_at,
        delivery=record.delivery,
        node=node,
        region=region,
        partition=f"{place.topic}/{place.partition}",
        offset=place.offset,
        attempt=record.attempt,
    )
