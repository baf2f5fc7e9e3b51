"""What the events of one message say, before anybody judges: the fold that the store does in SQL, in Python.

Everything here is a set, a minimum or a maximum, so order, repetition and batching of events cannot matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tracker.model.event import DESIGNED_DROPS, RETRY, Event, Stage, delivery_of
from tracker.model.spec import Checkpoint, FlowSpec

HOLDING = (Stage.persist, Stage.replicate)


@dataclass(frozen=True, slots=True)
class Passage:
    """A checkpoint was seen: earliest observation (`since` where only an interval is known), earliest receipt."""

    observed_at: int
    since: int
    received_at: int

    @property
    def at(self) -> int:
        """When it was passed, on the tracker's clock: no hop's clock can move it past its receipt."""
        return min(self.since, self.received_at)


@dataclass(frozen=True, slots=True)
class Facts:
    """The events of one message, sorted by what they say. Index `i` is the checkpoint's place in the spec.

    `dead` and `designed` are the hops at which it ended, by a dead letter or by design: one that has processed another
    delivery has not ended it, nor has a log that still holds another copy.
    """

    events: tuple[Event, ...]
    seen: dict[int, Passage]
    nodes: dict[int, frozenset[str]]
    hops: frozenset[str]
    dead: frozenset[str]
    designed: frozenset[str]
    lossy: frozenset[str]
    holding: frozenset[str]
    emptied: frozenset[str]

    @classmethod
    def of(cls, spec: FlowSpec, events: Sequence[Event]) -> Facts:
        """Events at hops that the spec does not know are left out: they judge nothing."""
        known = set(spec.hops)
        mine = tuple(e for e in events if e.hop in known)
        dead_events = [e for e in mine if parks(e)]
        seen, nodes = {}, {}
        for i, point in enumerate(spec.checkpoints):
            evidence = evidence_of(point, mine)
            if evidence:
                seen[i] = passage(evidence)
                nodes[i] = frozenset(e.node for e in evidence)
        drops = [e for e in mine if e.stage == Stage.drop]
        outboxes = {h for c in spec.checkpoints if c.outbox for h in c.hop}
        copies = {h: _copies(h, mine, h in outboxes) for h in {e.hop for e in mine}}
        held = frozenset(h for h, (had, left) in copies.items() if left)
        designed = [e for e in drops if e.reason in DESIGNED_DROPS]
        ended = {(e.hop, delivery_of(e)) for e in (*dead_events, *designed)}
        done = {e.hop for e in mine if e.stage == Stage.ack and (e.hop, delivery_of(e)) not in ended}
        return cls(
            events=mine,
            seen=seen,
            nodes=nodes,
            hops=frozenset(e.hop for e in mine),
            dead=frozenset(e.hop for e in dead_events) - done,
            designed=frozenset(e.hop for e in designed) - done - held,
            lossy=frozenset(e.hop for e in drops if e.reason not in DESIGNED_DROPS),
            holding=held,
            emptied=frozenset(e.hop for e in drops if e.reason not in DESIGNED_DROPS and e.hop not in held),
        )


def parks(event: Event) -> bool:
    """It says that the hop gave up; a dead letter to be tried again is a nack."""
    return event.stage == Stage.dead_letter and event.reason != RETRY


def evidence_of(point: Checkpoint, events: Sequence[Event]) -> list[Event]:
    """The events that make a checkpoint seen. The ack of a dead-lettered delivery is none."""
    parked = {(e.hop, delivery_of(e)) for e in events if parks(e)} if point.stage == Stage.ack else set()
    return [e for e in events if e.hop in point.hop and e.stage == point.stage
            and (e.hop, delivery_of(e)) not in parked]  # fmt: skip


def passage(evidence: Iterable[Event]) -> Passage:
    """The earliest times of these events; what the tracker did not date counts as received when observed."""
    known = list(evidence)
    return Passage(
        observed_at=min(e.observed_at for e in known),
        since=min(e.observed_at if e.observed_from is None else e.observed_from for e in known),
        received_at=min(received(e) for e in known),
    )


def received(event: Event) -> int:
    """When the tracker got it; a backfilled one counts as received when observed."""
    return event.observed_at if event.backfill or event.received_at is None else event.received_at


def _copies(hop: str, events: Sequence[Event], outbox: bool) -> tuple[bool, bool]:
    """(did `hop` ever hold a copy, does it still): every delivery kept there and not dropped, acked or parked since.

    A queue's consumer names another delivery than its producer did: each such end took one copy, whichever. What is
    parked tells the hop that gave it up: a queue has it no more; a log's consumer tells it of itself, not of the log.
    """
    stages = (*HOLDING, Stage.produce) if outbox else HOLDING
    kept = {delivery_of(e) for e in events if e.hop == hop and e.stage in stages}
    gone = {delivery_of(e) for e in events if e.hop == hop and (e.stage in (Stage.drop, Stage.ack) or parks(e))}
    left = 0 if "" in gone else len(kept - gone) - len(gone - kept)
    return bool(kept), left > 0
