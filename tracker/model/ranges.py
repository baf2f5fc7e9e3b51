"""What ranges say of one message: which checkpoint they moved past it at, and where they dropped it.

A range tells of places in a log. Of a message it tells only where a `persist` or `replicate` puts the message in one of
these places; until then, and without it, nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracker.model.event import LEADER_EPOCH, TRUNCATED, Event, Range, Stage, delivery_of
from tracker.model.facts import HOLDING, Passage, received
from tracker.model.spec import FlowSpec

_BY_RANGE = {"evidence": "range"}


def told_by_range(event: Event) -> bool:
    """A drop that a range tells of: that the message was passed over there, and so never came to that hop."""
    return event.stage == Stage.drop and event.attributes.get("evidence") == _BY_RANGE["evidence"]


def range_over(events: Sequence[Event], hops: Sequence[str], stage: Stage, ranges: Sequence[Range]) -> Passage | None:
    """That a range at one of `hops` and `stage` moved past the place of one of these events in the log; of several,
    which may lie over one another, the earliest of their times. One that only says over again what was skipped there
    is no evidence. Nor is one of another time of a log that was cut off: of later than the end of a message that was,
    of earlier than the cut of one that got its offset since."""
    drops = [r for r in ranges if r.stage == Stage.drop and r.hop in hops]
    ends = _cut_off(events)
    hits = [
        r
        for r in ranges
        if r.hop in hops and r.stage == stage
        for e in events
        if _over(r, e)
        and r.observed_at <= ends.get((e.hop, delivery_of(e)), r.observed_at)
        and not any(_void(drop, r) and _over(drop, e) and _since(drop, e, ends) for drop in drops)
    ]
    if not hits:
        return None
    return Passage(
        observed_at=min(r.observed_at for r in hits),
        since=min(r.observed_from for r in hits),
        received_at=min(_received(r) for r in hits),
    )


def range_drops(spec: FlowSpec, events: Sequence[Event], ranges: Sequence[Range]) -> list[Event]:
    """A `drop` for each place in a dropped range at which one of these events, of one message, puts it. At the log's
    own hop it takes that copy; at a consumer's the log goes on holding it.

    It was known, and had happened, not before the message lay there: so it changes neither when the message was first
    seen nor its origin.
    """
    return [drop for r in ranges if r.stage == Stage.drop for drop in _drops(r, spec, events)]


def _drops(told: Range, spec: FlowSpec, events: Sequence[Event]) -> Iterator[Event]:
    for event in events:
        if event.hop in spec.hops and _over(told, event) and not _cut(told):
            yield Event(
                flow=event.flow,
                message_id=event.message_id,
                hop=told.hop,
                stage=Stage.drop,
                reason=told.reason,
                observed_at=max(told.observed_at, event.observed_at),
                received_at=max(_received(told), received(event)),
                delivery=delivery_of(event) if told.hop == told.log else "",
                node=told.node,
                partition=event.partition,
                offset=event.offset,
                group=told.group,
                attributes=dict(_BY_RANGE),
            )


def _over(told: Range, event: Event) -> bool:
    """The event puts its message in a place that the range tells of."""
    return (
        event.offset is not None
        and event.stage in HOLDING
        and event.hop == told.log
        and event.partition == told.partition
        and told.offset <= event.offset < told.offset_to
    )


def _cut_off(events: Sequence[Event]) -> dict[tuple[str, str], int]:
    """When the logs of some deliveries were cut off before them, by hop and delivery."""
    ends: dict[tuple[str, str], int] = {}
    for event in events:
        if event.stage == Stage.drop and event.reason == TRUNCATED:
            place = event.hop, delivery_of(event)
            ends[place] = min(event.observed_at, ends.get(place, event.observed_at))
    return ends


def _void(drop: Range, moved: Range) -> bool:
    """What the group moved past is, where they lie over one another, what it skipped, or what was cut off: it had not
    been set back and come there once more since."""
    return (drop.hop, drop.group) == (moved.hop, moved.group) and moved.observed_from <= drop.observed_at


def _cut(told: Range) -> bool:
    """It tells that what a group had moved past was cut off the log. That took nothing from the group."""
    return told.reason == TRUNCATED and told.hop != told.log


def _since(drop: Range, event: Event, ends: Mapping[tuple[str, str], int]) -> bool:
    """Of a log that was cut off: the message got its place since then. What was known of before, and is not told to
    have got a place that was given twice, lay there before, though nobody may have been able to name it."""
    if not _cut(drop):
        return True
    known_since = LEADER_EPOCH in event.attributes or received(event) > drop.observed_at
    return known_since and (event.hop, delivery_of(event)) not in ends


def _received(told: Range) -> int:
    """When the tracker got it; what it did not date counts as received when observed."""
    return told.observed_at if told.received_at is None else told.received_at
