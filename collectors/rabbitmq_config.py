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
    """The `config` of a `RabbitFirehose`; `docs/collectors/rabbitmq.md` explains each key.

    `identity`: flow -> header that carries the application's id, where it is not the `message_id` property.
    `prefetch`: records unacknowledged at once; `memory_mb`: payloads held before they are read.
    `canary_every`, `settle`, `hole_for`: seconds, see `collectors.rabbitmq_watch`.
    `max_length`: records that the trace queue keeps; `expires`: seconds until one that nobody reads is deleted.
    `only_listed_exchanges`: bind the trace queue to the publishes of `exchanges` alone, not to all.
    """

    url: str
    exchanges: list[ExchangeRoute] = []
    queues: list[QueueRoute] = []
    identity: dict[str, str] = {}
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 5000
    memory_mb: Annotated[int, msgspec.Meta(ge=1)] = 64
    canary_every: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    settle: Annotated[float, msgspec.Meta(ge=0)] = 0.25
    hole_for: Annotated[float, msgspec.Meta(ge=0)] = 3.0
    max_length: Annotated[int, msgspec.Meta(ge=1000)] = 1_000_000
    expires: Annotated[int, msgspec.Meta(ge=1)] = 7 * 24 * 3600
    only_listed_exchanges: bool = False
    tls: Tls | None = None

    @property
    def prompt(self) -> float:
        """Seconds since the last canary within which a trace counts as read when it happened. With the defaults the
        error stays below the second from which on observed times count as contradicting each other."""
        return self.canary_every + self.settle

    def bindings(self, canaries: str) -> list[str]:
        """Keys under which the trace queue is bound to `amq.rabbitmq.trace`. Deliveries only of queues that name a
        consumer: each binding costs the broker a copy of every message it matches. `canaries`: the exchange that
        canaries are published to."""
        delivered = [f"deliver.{queue}" for queue in sorted({q.queue for q in self.queues if q.consumer})]
        if not self.only_listed_exchanges:
            return ["publish.#", *delivered]
        listed = sorted({e.exchange for e in self.exchanges} | {canaries})
        return [*(f"publish.{exchange}" for exchange in listed), *delivered]


def firehose_config(name: str, config: Mapping[str, Any]) -> FirehoseConfig:
    """The `config` of collector `name` as read from YAML, checked. Raises `ConfigInvalid` that names the key."""
    try:
        found = msgspec.convert(dict(config), FirehoseConfig)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"collector {name}: {error}") from None
    if not found.exchanges and not found.queues:
        raise ConfigInvalid(f"collector {name}: neither `exchanges` nor `queues` names anything")
    return found
