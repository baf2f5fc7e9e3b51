"""What a firehose collector is told: where the broker is, and which exchanges and queues carry which flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from collectors.errors import ConfigInvalid

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files for an `amqps://` URL, as paths. `ca_file` empty: the system's authorities."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class ExchangeRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages published to `exchange` with one of `routing_keys` (topic patterns, `*` one word, `#` any number;
    none: every key) are of `flow`. What is routed nowhere is a drop at `unroutable_hop` (default: the hop of the
    first queue of that flow)."""

    exchange: str
    flow: Name
    routing_keys: list[str] = []
    unroutable_hop: str = ""


class QueueRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`queue` holds messages of `flow`: it is the hop `hop` (default: the queue's name), and what is taken from it is
    delivered to the hop `consumer` (none: deliveries are not watched)."""

    queue: Name
    flow: Name
    hop: str = ""
    consumer: str = ""

    @property
    def at(self) -> str:
        """The queue's hop."""
        return self.hop or self.queue


class FirehoseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of one `RabbitFirehose`. `name` makes the trace queue `tracker.trace.<name>` its own.

    `identity`: flow -> header that carries the application's id, where it is not the `message_id` property.
    `prefetch`: records held unacknowledged. `canary_every`, `settle`: seconds. `max_length`: records that the trace
    queue keeps; `expires`: seconds after which a trace queue that nobody reads is deleted.
    `only_listed_exchanges`: bind the trace queue to the publishes of `exchanges` alone, not to all.
    """

    name: Name
    url: str
    exchanges: list[ExchangeRoute] = []
    queues: list[QueueRoute] = []
    identity: dict[str, str] = {}
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 2000
    canary_every: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    settle: Annotated[float, msgspec.Meta(ge=0)] = 0.25
    max_length: Annotated[int, msgspec.Meta(ge=1000)] = 1_000_000
    expires: Annotated[int, msgspec.Meta(ge=1)] = 7 * 24 * 3600
    only_listed_exchanges: bool = False
    tls: Tls | None = None

    @property
    def trace_queue(self) -> str:
        """The queue of our own that the broker copies traces into."""
        return f"tracker.trace.{self.name}"

    @property
    def canary_exchange(self) -> str:
        """The exchange of our own that canaries are published to."""
        return f"tracker.canary.{self.name}"

    def bindings(self) -> list[str]:
        """Keys under which the trace queue is bound to `amq.rabbitmq.trace`. Deliveries only of queues that name a
        consumer: each binding costs the broker a copy of every message it matches."""
        delivered = [f"deliver.{queue}" for queue in sorted({q.queue for q in self.queues if q.consumer})]
        if not self.only_listed_exchanges:
            return ["publish.#", *delivered]
        listed = sorted({e.exchange for e in self.exchanges} | {self.canary_exchange})
        return [*(f"publish.{exchange}" for exchange in listed), *delivered]


def firehose_config(settings: Mapping[str, Any]) -> FirehoseConfig:
    """Settings as read from YAML, checked. Raises `ConfigInvalid` that names the key."""
    try:
        config = msgspec.convert(dict(settings), FirehoseConfig)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"rabbitmq collector {settings.get('name', '')!r}: {error}") from None
    if not config.exchanges and not config.queues:
        raise ConfigInvalid(f"rabbitmq collector {config.name!r}: neither `exchanges` nor `queues` names anything")
    return config
