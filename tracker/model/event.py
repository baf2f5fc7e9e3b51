"""One observation of one message at one hop, and the ranges that brokers commit.

Times are integers: microseconds since 1970-01-01 UTC. That is what the wire may carry, what the store keeps
(`DateTime64(6)`) and what `judge` compares; only faces turn them into RFC 3339.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class Stage(StrEnum):
    """What the hop did with the message."""

    produce = "produce"
    persist = "persist"
    replicate = "replicate"
    deliver = "deliver"
    ack = "ack"
    nack = "nack"
    dead_letter = "dead_letter"
    drop = "drop"


CHECKPOINT_STAGES = frozenset({Stage.produce, Stage.persist, Stage.replicate, Stage.deliver, Stage.ack})

DESIGNED_DROPS = frozenset({"filtered", "aborted", "compacted", "merged"})
"""Reasons of a drop by design: they explain an absence."""

LOSSY_DROPS = frozenset({"unroutable", "expired", "purged", "truncated", "discarded", "skipped", "abandoned"})
"""Reasons of a drop that nobody asked for."""

DROP_REASONS = DESIGNED_DROPS | LOSSY_DROPS

TRUNCATED = "truncated"
"""The log was cut off before a message that it had held: what lies at its offset now is another. As a range, at a
consumer's hop: what its group had moved past there was cut off, and says nothing of what lies there since."""

LEADER_EPOCH = "leader_epoch"
"""The attribute of an event whose place in a log was given twice: the epoch in which it was given to this message."""

RETRY = "retry"
"""A `dead_letter` with this reason is a retry topic or queue: it counts as a nack."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One observation. Two events with an equal `natural_key` are the same event sent twice.

    `delivery` tells two real hand-overs of one message apart; where the caller leaves it out it is derived from
    partition, offset, group and attempt (`delivery_of`). `digest` is xxh3-64 of the payload, 16 hex digits.
    `received_at` is the tracker's own clock at first receipt: emitters leave it out. So do they with `clock_offset`
    (µs that the tracker added to the observed times, 0: none) and `clock_error` (µs, by how much the node's clock is
    wrong at most after that; None: nobody measured it).
    """

    flow: str
    message_id: str
    hop: str
    stage: Stage
    observed_at: int
    observed_from: int | None = None
    origin_at: int | None = None
    reason: str = ""
    delivery: str = ""
    node: str = ""
    region: str = ""
    digest: str = ""
    size: int | None = None
    key: str = ""
    partition: str = ""
    offset: int | None = None
    group: str = ""
    attempt: int | None = None
    trace_id: str = ""
    span_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    replay_id: str = ""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    backfill: bool = False
    received_at: int | None = None
    clock_offset: int = 0
    clock_error: int | None = None


class Range(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Range evidence: everything in `partition` of the log at hop `log` from `offset` up to, not including,
    `offset_to` was moved past by (`hop`, `stage`), some time between `observed_from` and `observed_at`.

    With stage `drop` it says that nobody can name what was lost there, only where it lay, and why (`reason`, with no
    other stage): at the log's own hop that the log no longer holds it, at a consumer's that it was passed over unread,
    or (`truncated`) that what had been moved past there is no longer in the log.

    On the wire it is a line of the same NDJSON stream as events, told apart by `evidence: "range"`.
    """

    flow: str
    hop: str
    stage: Stage
    log: str
    partition: str
    offset: int
    offset_to: int
    observed_from: int
    observed_at: int
    evidence: Literal["range"]
    reason: str = ""
    group: str = ""
    node: str = ""
    received_at: int | None = None


def delivery_of(event: Event) -> str:
    """The delivery an event belongs to: its own word, else partition, offset, group and attempt joined by `:`."""
    if event.delivery:
        return event.delivery
    offset = "" if event.offset is None else str(event.offset)
    attempt = "" if event.attempt is None else str(event.attempt)
    parts = (event.partition, offset, event.group, attempt)
    return ":".join(parts) if any(parts) else ""


def natural_key(event: Event) -> tuple[str, ...]:
    """What makes two events the same: flow, message id, hop, stage, node, delivery, digest."""
    return (event.flow, event.message_id, event.hop, event.stage, event.node, delivery_of(event), event.digest)
