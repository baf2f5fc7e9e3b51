"""Columns of the events table back into events, for the few messages that are looked at one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import structs

from tracker.model.event import Event, Range, Stage, natural_key

EVENT_FIELDS = """flow, message_id, hop, toString(stage) AS stage, toUnixTimestamp64Micro(observed_at) AS observed,
    observed_span, toUnixTimestamp64Micro(origin_at) AS origin, reason, delivery, node, region, digest, size, key,
    key_hash, partition, offset, consumer_group, attempt, trace_id, span_id, correlation_id, causation_id, replay_id,
    toJSONString(attributes) AS said, backfill, toUnixTimestamp64Micro(received_at) AS received, clock_offset,
    clock_error"""
"""What `event` needs of a row. (A map as text: one by one, pyarrow makes objects of an empty map in 8 µs.)"""
_NONE = "{}"
_attributes = msgspec.json.Decoder(dict[str, str]).decode


def event(row: Mapping[str, Any]) -> Event:
    """One row as an event."""
    span = row["observed_span"]
    return Event(
        flow=row["flow"],
        message_id=row["message_id"],
        hop=row["hop"],
        stage=Stage(row["stage"]),
        observed_at=row["observed"],
        observed_from=row["observed"] - span if span else None,
        origin_at=row["origin"] or None,
        reason=row["reason"],
        delivery=row["delivery"],
        node=row["node"],
        region=row["region"],
        digest=f"{row['digest']:016x}" if row["digest"] else "",
        size=row["size"] or None,
        key=row["key"] or (f"{row['key_hash']:016x}" if row["key_hash"] else ""),
        partition=row["partition"],
        offset=None if row["offset"] < 0 else row["offset"],
        group=row["consumer_group"],
        attempt=row["attempt"] or None,
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        replay_id=row["replay_id"],
        attributes={} if row["said"] == _NONE else _attributes(row["said"]),
        backfill=row["backfill"],
        received_at=row["received"],
        clock_offset=row["clock_offset"],
        clock_error=None if row["clock_error"] < 0 else row["clock_error"],
    )


def distinct(events: Iterable[Event]) -> list[Event]:
    """Copies of one event as one, at the earliest of their times, in the order of observation."""
    known: dict[tuple[str, ...], Event] = {}
    for item in events:
        key = natural_key(item)
        other = known.get(key)
        known[key] = item if other is None else _earlier(other, item)
    return sorted(known.values(), key=lambda e: (e.observed_at, e.received_at or 0, e.hop, e.stage))


def _earlier(one: Event, two: Event) -> Event:
    first, second = sorted((one, two), key=lambda e: e.observed_at)
    receipts = [e.received_at for e in (one, two) if e.received_at is not None]
    origins = [e.origin_at for e in (one, two) if e.origin_at is not None]
    return structs.replace(
        first,
        received_at=min(receipts, default=None),
        origin_at=min(origins, default=None),
        replay_id=first.replay_id or second.replay_id,
        attributes={**second.attributes, **first.attributes},
    )


RANGE_FIELDS = """flow, hop, stage, log, partition, offset, offset_to, reason, consumer_group, node,
    toUnixTimestamp64Micro(observed_from) AS since, toUnixTimestamp64Micro(observed_at) AS observed,
    toUnixTimestamp64Micro(received_at) AS received"""


def moved(row: Mapping[str, Any]) -> Range:
    """One row as a range."""
    return Range(
        flow=row["flow"],
        hop=row["hop"],
        stage=Stage(row["stage"]),
        log=row["log"],
        partition=row["partition"],
        offset=row["offset"],
        offset_to=row["offset_to"],
        observed_from=row["since"],
        observed_at=row["observed"],
        evidence="range",
        reason=row["reason"],
        group=row["consumer_group"],
        node=row["node"],
        received_at=row["received"],
    )
