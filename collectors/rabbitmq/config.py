"""What collectors of RabbitMQ are told: where the broker is, and which exchanges and queues carry which flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from collectors.errors import ConfigInvalid

CONFIG = TypeVar("CONFIG", bound=msgspec.Struct)
OWN = TypeVar("OWN", bound="OwnQueueConfig")

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


class OwnQueueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a collector is told that has the broker copy messages into a queue of its own.

    `identity`: flow -> header that carries the application's id, where it is not the `message_id` property.
    `prefetch`: records unacknowledged at once; `memory_mb`: payloads held before they are read.
    `canary_every`, `settle`, `hole_for`: seconds, see `collectors.watch`.
    `max_length`: records that its queue keeps; `expires`: seconds until one that nobody reads is deleted.
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
    tls: Tls | None = None

    @property
    def prompt(self) -> float:
        """Seconds since the last canary within which a record counts as read when it happened. With the defaults the
        error stays below the second from which on observed times count as contradicting each other."""
        return self.canary_every + self.settle


class FirehoseConfig(OwnQueueConfig, frozen=True):
    """The `config` of a `RabbitFirehose`; `docs/collectors/rabbitmq.md` explains each key.

    `only_listed_exchanges`: bind the trace queue to the publishes of `exchanges` alone, not to all.
    """

    only_listed_exchanges: bool = False

    def bindings(self, canaries: str) -> list[str]:
        """Keys under which the trace queue is bound to `amq.rabbitmq.trace`. Deliveries only of queues that name a
        consumer: each binding costs the broker a copy of every message it matches. `canaries`: the exchange that
        canaries are published to."""
        delivered = [f"deliver.{queue}" for queue in sorted({q.queue for q in self.queues if q.consumer})]
        if not self.only_listed_exchanges:
            return ["publish.#", *delivered]
        listed = sorted({e.exchange for e in self.exchanges} | {canaries})
        return [*(f"publish.{exchange}" for exchange in listed), *delivered]


class DeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dead letter exchange, and what it means to be there. `parked`: somebody keeps such messages; `retry`: they go
    back after a while; `dropped`: nobody but us reads them. `routing_keys`: what our queue is bound by; on a `direct`
    exchange, which has no patterns, every key that dead letters have."""

    exchange: str
    means: Literal["parked", "retry", "dropped"] = "parked"
    routing_keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("#",)


class DeadLetterConfig(OwnQueueConfig, frozen=True):
    """The `config` of a `RabbitDeadLetters`; `docs/collectors/rabbitmq-dead-letters.md` explains each key."""

    dead_letters: Annotated[list[DeadLetters], msgspec.Meta(min_length=1)]


class StreamRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stream` holds messages of `flow`: it is the hop `hop` (default: the stream's name)."""

    stream: Name
    flow: Name
    hop: str = ""

    @property
    def at(self) -> str:
        """The stream's hop."""
        return self.hop or self.stream


class StreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """The `config` of a `RabbitStreams`; `docs/collectors/rabbitmq-streams.md` explains each key.

    `from`: where reading begins at the first start. `prefetch`: messages of a stream given out and not read yet.
    `look_every`, `settle`, `hole_for`: seconds, see `collectors.rabbitmq.follow` and `collectors.watch`.
    `timeout` (s): how long the broker may refuse to keep a place (alarm).
    """

    url: str
    streams: Annotated[list[StreamRoute], msgspec.Meta(min_length=1)]
    identity: dict[str, str] = {}
    from_: Literal["first", "next"] = "first"
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1000
    look_every: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    settle: Annotated[float, msgspec.Meta(ge=0)] = 0.25
    hole_for: Annotated[float, msgspec.Meta(ge=0)] = 3.0
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    tls: Tls | None = None

    @property
    def prompt(self) -> float:
        """As of `OwnQueueConfig`, since the last look."""
        return self.look_every + self.settle


def stream_config(name: str, config: Mapping[str, Any]) -> StreamConfig:
    """The `config` of a collector of streams as read from YAML, checked. Raises `ConfigInvalid` that names the key."""
    found = _converted(name, config, StreamConfig)
    names = [each.stream for each in found.streams]
    if len(set(names)) < len(names):
        raise ConfigInvalid(f"collector {name}: `streams` names a stream twice")
    return found


def firehose_config(name: str, config: Mapping[str, Any]) -> FirehoseConfig:
    """The `config` of collector `name` as read from YAML, checked. Raises `ConfigInvalid` that names the key."""
    return _checked(name, config, FirehoseConfig)


def dead_letter_config(name: str, config: Mapping[str, Any]) -> DeadLetterConfig:
    """The same of a collector of dead letters."""
    found = _checked(name, config, DeadLetterConfig)
    if any(not each.exchange for each in found.dead_letters):
        raise ConfigInvalid(
            f"collector {name}: `dead_letters` names the default exchange, to which nothing can be bound. Give the "
            "queues a dead letter exchange with a name (x-dead-letter-exchange, or a policy), bind the dead letter "
            "queue to that, and name it here"
        )
    return found


def _checked(name: str, config: Mapping[str, Any], model: type[OWN]) -> OWN:
    found = _converted(name, config, model)
    if not found.exchanges and not found.queues:
        raise ConfigInvalid(f"collector {name}: neither `exchanges` nor `queues` names anything")
    return found


def _converted(name: str, config: Mapping[str, Any], model: type[CONFIG]) -> CONFIG:
    try:
        return msgspec.convert(dict(config), model)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"collector {name}: {error}") from None
