"""What a replay and its messages keep as JSON in the control database, read back as values."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.control.messages import Claimed, Planned, ReplayMessage
from tracker.control.replays import Replay
from tracker.model.spec import IN_FLIGHT
from tracker.model.units import SECOND
from tracker.replay.plan import Item
from tracker.replay.routes import Missing, Way

HELD = 128 * 1024 * 1024
"""Bytes of payloads that a batch may hold in memory, about: by the mean of those that were looked at."""
UNKNOWN = 1024 * 1024
"""The mean where none could be looked at: the largest that a Kafka broker takes unless told otherwise."""


class Route(msgspec.Struct, frozen=True):
    """The ways a message may be sent, in the order in which they are tried, and what it is sent for."""

    ways: list[Way]
    missing: list[Missing]

    @property
    def targets(self) -> frozenset[str]:
        """Where an attempt may have arrived."""
        return frozenset(way.target for way in self.ways)


class Terms(msgspec.Struct, frozen=True):
    """What was agreed when the replay was made; a spec that changes later does not change it. `lines`: how many lines
    its messages stand in, 0 where no order is asked for. `bytes`: of the payloads of all `messages`, about; None: not
    known."""

    targets: list[str]
    max_attempts: int
    follow_up_seconds: float
    identity: str
    in_flight: int = IN_FLIGHT
    lines: int = 0
    messages: int = 0
    bytes: int | None = None

    @property
    def follow_up(self) -> int:
        """Microseconds after sending until a message counts as not recovered."""
        return round(self.follow_up_seconds * SECOND)

    def batch(self, most: int) -> int:
        """How many messages are sent at once: `most`, or fewer where their payloads together would be too large."""
        mean = UNKNOWN if self.bytes is None else self.bytes / max(1, self.messages)
        return most if mean * most <= HELD else max(1, int(HELD / mean))


def planned(item: Item, ordinal: int) -> Planned:
    """The row of an item of a plan."""
    kept: dict[str, Any] = msgspec.to_builtins(Route(list(item.ways), list(item.missing)))
    return Planned(item.message_id, ordinal, kept, item.attempt, item.line)


def route_of(message: Claimed | ReplayMessage) -> Route:
    """The route that `planned` kept; what versions before this one kept has one way."""
    kept = message.locator
    if "ways" not in kept:
        place = {name: kept[name] for name in ("hop", "partition", "offset")} | {"message_id": message.message_id}
        way = {"source": kept["source"], "locator": place, "target": kept["target"]}
        kept = {"ways": [way], "missing": kept["missing"]}
    return msgspec.convert(kept, Route)


def terms_of(replay: Replay) -> Terms:
    """The terms in the summary that the replay keeps."""
    return msgspec.convert(replay.plan, Terms)
