"""Which attribute says what: the messaging conventions of OpenTelemetry, old and new, as one versioned map.

Sources: semantic-conventions/docs/registry/attributes/messaging.md (1.37, with its table of deprecated names) and the
messaging pages of 1.9 to 1.24, which instrumentations still send. Within a field a later name is the newer one and wins
where a span has both (`OTEL_SEMCONV_STABILITY_OPT_IN=messaging/dup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tracker.ingest.cells import Bytes, Int64s
from tracker.ingest.otlp.walk import FIRST, NAMED, RELATED, place_of

VERSION = "1.37"
"""Of the semantic conventions: the newest that this map knows."""

FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "service": ("service.name",),
        "system": ("messaging.system",),
        "destination": ("messaging.source.name", "messaging.destination", "messaging.destination.name"),
        "operation": ("messaging.operation", "messaging.operation.type"),
        "name": ("messaging.operation.name",),
        "disposition": ("celery.state", "messaging.servicebus.disposition_status"),
        "error": ("exception.type", "error.type"),
        "message_id": ("messaging.message_id", "messaging.message.id"),
        "conversation": ("messaging.conversation_id", "messaging.message.conversation_id"),
        "partition": (
            "messaging.kafka.partition",
            "messaging.kafka.source.partition",
            "messaging.kafka.destination.partition",
            "messaging.destination.partition.id",
        ),
        "offset": ("messaging.kafka.message.offset", "messaging.kafka.offset"),
        "group": (
            "messaging.kafka.consumer_group",
            "messaging.kafka.consumer.group",
            "messaging.rocketmq.client_group",
            "messaging.eventhubs.consumer.group",
            "messaging.servicebus.destination.subscription_name",
            "messaging.destination.subscription.name",
            "messaging.consumer.group.name",
        ),
        "key": ("messaging.kafka.message_key", "messaging.kafka.message.key"),
        "size": (
            "messaging.message_payload_size_bytes",
            "messaging.message.payload_size_bytes",
            "messaging.message.body.size",
        ),
        "attempt": ("messaging.servicebus.message.delivery_count", "messaging.gcp_pubsub.message.delivery_attempt"),
        "host": ("host.name",),
        "instance": ("service.instance.id",),
        "region": ("cloud.region",),
        "own_flow": ("tracker.flow",),
        "own_hop": ("tracker.hop",),
        "own_stage": ("tracker.stage",),
        "own_id": ("tracker.message_id",),
        "own_reason": ("tracker.reason",),
        "own_delivery": ("tracker.delivery",),
        "origin_at": ("tracker.origin_at",),
        "causation": ("tracker.causation_id",),
        "replay": ("tracker.replay_id",),
        "digest": ("tracker.digest",),
    }
)
"""Field -> names, oldest first."""

SLOT: Mapping[str, int] = MappingProxyType({field: slot for slot, field in enumerate(FIELDS)})
"""Which cell of a row belongs to a field."""
_NAMING = frozenset({"message_id", "own_id"})
_SAYS_NOTHING = frozenset({"service", "error", "host", "instance", "region"})
"""Fields that other spans have, too."""


@dataclass(frozen=True)
class Table:
    """Names to look for. `extra` are those that flow specs ask for, by name: the slot of each, behind the fields."""

    lines: Int64s
    """A hash table, see `walk.look_up`."""
    letters: Bytes
    extra: Mapping[str, int]
    naming: Int64s
    """Slots of what names a message."""
    slots: int


def table(ids: Iterable[str] = (), others: Iterable[str] = ()) -> Table:
    """The map, and the names of attributes that specs ask for: `ids` name messages, `others` tell flows apart."""
    known = {
        name: (slot, rank, _marks(field)) for field, slot in SLOT.items() for rank, name in enumerate(FIELDS[field])
    }
    extra: dict[str, int] = {}
    naming = {SLOT[field] for field in _NAMING}
    for mark, wanted in ((RELATED | NAMED, sorted(set(ids))), (0, sorted(set(others)))):
        for name in wanted:
            if name not in known:
                extra[name] = len(SLOT) + len(extra)
                known[name] = (extra[name], 0, mark)
            slot, rank, marks = known[name]
            known[name] = (slot, rank, marks | mark)
            extra[name] = slot
            if mark:
                naming.add(slot)
    slots = 1 + max(slot for slot, _, _ in known.values())
    letters = np.frombuffer("".join(known).encode(), np.uint8)
    return Table(_lines(known, letters), letters, extra, np.array(sorted(naming), np.int64), slots)


def _marks(field: str) -> int:
    return 0 if field in _SAYS_NOTHING else RELATED | NAMED if field in _NAMING else RELATED


def _lines(known: Mapping[str, tuple[int, int, int]], letters: Bytes) -> Int64s:
    """Four times as many as names, so that most that are not known meet an empty one at once."""
    lines = np.full((1 << (4 * len(known)).bit_length(), 5), -1, np.int64)
    first = 0
    for name, told in known.items():
        size = len(name.encode())
        at = place_of(letters.astype(np.int64), first, size, len(lines) - 1)
        while lines[at, FIRST] >= 0:
            at = (at + 1) % len(lines)
        lines[at] = (first, size, *told)
        first += size
    return lines
