"""Dead letters as events. Pure: a `Raw` in, events out.

The broker tells in the header `x-death` which queue a message left and why (https://www.rabbitmq.com/docs/dlx): one
entry per queue and reason, the newest first, its `count` raised each time. Tried on 3.10.8, where `time` (seconds, of
the broker's clock), `exchange` and `routing-keys` of an entry stay those of its first time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import xxhash

from collectors.base import Raw
from collectors.carried import number, text
from collectors.errors import Undecodable
from collectors.rabbitmq.config import DeadLetterConfig
from collectors.rabbitmq.message import Seen, event_of, packed, properties_of
from collectors.rabbitmq.routes import Routes
from tracker.model.carry import ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import RETRY, Event, Stage

CAME_BY = "exchange"
"""Header of a `Raw` of ours: the exchange that the message came by."""

DROPS = {"expired": "expired", "maxlen": "discarded", "rejected": "discarded", "delivery_limit": "discarded"}
"""What the broker's reasons are as reasons of a drop. The attribute `death` keeps the broker's own word."""

TOLD_APART_BY = ("x-death", ORIGIN_AT, REPLAY_ID, REPLAY_ATTEMPT)
"""Headers that tell two dead letters of one message apart, and that our own queue does not change when it gives a
record again (as `x-delivery-count`)."""


class Death(msgspec.Struct, frozen=True, rename="kebab"):
    """An entry of `x-death`; what it does not tell is empty. Values of any type: whoever publishes can write this
    header too."""

    queue: str
    reason: str
    count: Any = 1
    exchange: str = ""
    routing_keys: list[str] = []


class Deaths:
    """What dead letters mean by this configuration."""

    def __init__(self, config: DeadLetterConfig) -> None:
        self._routes = Routes(config)
        self._means = {each.exchange: each.means for each in config.dead_letters}
        self.flows = self._routes.flows

    def events_of(self, raw: Raw) -> list[Event]:
        """What one dead letter says, per flow of the queue that it left; nothing when that queue is of no configured
        flow. Raises `Undecodable`."""
        properties = properties_of(raw)
        by = text(raw.headers.get(CAME_BY))
        means = self._means.get(by)
        if means is None:
            raise Undecodable(f"it came by exchange {by!r}, of which `dead_letters` does not say what it means")
        death = _newest(properties.headers)
        stage, reason = Stage.dead_letter, RETRY if means == "retry" else death.reason
        if means == "dropped":
            if death.reason not in DROPS:
                raise Undecodable(f"queue {death.queue!r}: no drop is known for the broker's reason {death.reason!r}")
            stage, reason = Stage.drop, DROPS[death.reason]
        told = {name: properties.headers[name] for name in TOLD_APART_BY if name in properties.headers}
        count = number(death.count) or 1
        delivery = f"{death.queue}:{death.reason}:{count}:{xxhash.xxh3_64_hexdigest(packed(told))}"
        came = f"dead-lettered by queue {death.queue!r} to exchange {by!r}"
        attributes = {"death": death.reason, "deaths": str(count), "dead_letter_exchange": by, **_names(death)}
        return [
            event_of(raw, properties, self._routes.identity, Seen(at, stage, delivery, came, reason), attributes)
            for at in self._routes.stored(death.exchange, death.routing_keys, death.queue)
        ]

    def sources(self) -> list[SourceRef]:
        """One per queue's hop and dead letter exchange."""
        stages = {name: "drop" if means == "dropped" else "dead_letter" for name, means in self._means.items()}
        places = {(source.flow, source.hop) for source in self._routes.sources() if source.stage == "persist"}
        return sorted(SourceRef(*place, stage, name) for place in places for name, stage in stages.items())


def _newest(headers: Mapping[str, Any]) -> Death:
    """The entry that tells of this death: the one that `x-last-death-*` (RabbitMQ 3.13 and later) names, else the
    first. Raises `Undecodable`."""
    try:
        deaths = msgspec.convert(headers.get("x-death"), list[Death])
    except msgspec.ValidationError:
        deaths = []
    if not deaths:
        raise Undecodable("no x-death: somebody published it to the dead letter exchange, no queue gave it up")
    last = (text(headers.get("x-last-death-queue")), text(headers.get("x-last-death-reason")))
    return next((each for each in deaths if (each.queue, each.reason) == last), deaths[0])


def _names(death: Death) -> dict[str, str]:
    return {"exchange": death.exchange, "routing_key": ",".join(death.routing_keys)}
