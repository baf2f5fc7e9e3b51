"""What a replay and its messages keep as JSON in the control database, read back as values."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.control.messages import Claimed, Planned, ReplayMessage
from tracker.control.replays import Replay
from tracker.model.carry import Locator
from tracker.model.units import SECOND
from tracker.replay.plan import Item, Missing


class Route(msgspec.Struct, frozen=True):
    """Where a message's copy is, where it goes, and what it is sent for."""

    source: str
    hop: str
    partition: str
    offset: int
    target: str
    missing: list[Missing]

    def locator(self, message_id: str) -> Locator:
        """The place of the copy."""
        return Locator(message_id, self.hop, self.partition, self.offset)


class Terms(msgspec.Struct, frozen=True):
    """What was agreed when the replay was made; a spec that changes later does not change it."""

    targets: list[str]
    max_attempts: int
    follow_up_seconds: float
    identity: str

    @property
    def follow_up(self) -> int:
        """Microseconds after sending until a message counts as not recovered."""
        return round(self.follow_up_seconds * SECOND)


def planned(item: Item, ordinal: int) -> Planned:
    """The row of an item of a plan."""
    place = item.locator
    route = Route(item.source, place.hop, place.partition, place.offset, item.target, list(item.missing))
    kept: dict[str, Any] = msgspec.to_builtins(route)
    return Planned(item.message_id, ordinal, kept, item.attempt)


def route_of(message: Claimed | ReplayMessage) -> Route:
    """The route that `planned` kept."""
    return msgspec.convert(message.locator, Route)


def terms_of(replay: Replay) -> Terms:
    """The terms in the summary that the replay keeps."""
    return msgspec.convert(replay.plan, Terms)
