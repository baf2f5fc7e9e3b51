"""What a pass takes of a flow, as SQL: which events and states, of one flow or of several, all of them or a portion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tracker.model.event import Stage
from tracker.model.verdict import WRONG
from tracker.store.bounds import Bounds
from tracker.store.handful import MOST, bytes_named
from tracker.store.shape import DROPPED, NEVER, Shape

FEW = 20_000
"""So many rows are sooner read out and judged by their columns than asked about once more."""
ONE = {
    "of": "{flow:String}",
    "mine": "flow = {flow:String}",
    "key": "message_id",
    "width": "{size:UInt8}",
    "longest": "{longest:Int64}",
    "grown": "{grown:Int64}",
}
"""What stands for the flow, and what belongs to it, in questions about messages of one flow."""
UNCLEAR = "verdict = 'blind' OR (look_again > 0 AND verdict IN ({missing}))".format(
    missing=", ".join(f"'{kind.value}'" for kind in WRONG)
)
"""SQL over states: coverage that grows may show what is unknown here."""

DUE_SINCE = (
    f"greatest(first_received, arrayMax(arrayPushFront(arrayMap(t -> if(t = {NEVER}, 0, t), received), 0))) "
    "+ LONGEST >= GROWN"
)
"""SQL over states: the last deadline may lie behind the moment from which on coverage has grown."""


class Reach(msgspec.Struct, frozen=True):
    """What a pass takes of one flow.

    `number`, `now` (µs): the pass's. `rows`: how many new events, due and unclear messages it may have. `events`:
    there are new ones. `ranges`: the (hop, stage) that range evidence may speak for; `drops`: the hops at which ranges
    were dropped; `moved`: there is new evidence of one of these.
    `grown`: what is unclear, too, and due after this moment (µs). `again`: all events and all that waits, as if nothing
    had been folded. `in_force_from`: older origins (µs) belong to an older version of the spec. `added`: hops that a
    version adds; who was seen nowhere else before is folded now. `longest`: the longest deadline, µs.
    """

    shape: Shape
    bounds: Bounds
    number: int
    now: int
    rows: int
    events: bool
    ranges: Sequence[tuple[str, str]] = ()
    drops: Sequence[str] = ()
    moved: bool = False
    grown: int | None = None
    again: bool = False
    in_force_from: int = 0
    added: Sequence[str] = ()
    longest: int = 0

    @property
    def new(self) -> str:
        """SQL: this event, or range, is to be folded."""
        return self.bounds.known() if self.again else self.bounds.new()

    @property
    def new_or_added(self) -> str:
        """SQL: this event may be folded."""
        return f"({self.new} OR (hop IN {{added:Array(String)}} AND {self.bounds.known()}))" if self.added else self.new

    @property
    def waiting(self) -> str:
        """SQL: this state may be one that is taken for another reason than a timer."""
        unclear = [f"(({UNCLEAR}) AND {due_since(ONE)})"] if self.grown is not None else []
        return " OR ".join(["false", *unclear, *["look_again > 0"] * self.again])

    @property
    def small(self) -> bool:
        """All it takes is sooner read out."""
        return self.at_most(FEW)

    @property
    def ranged(self) -> bool:
        """Range evidence may speak of its messages."""
        return bool(self.ranges or self.drops)

    @property
    def few(self) -> bool:
        """It can be taken together with other flows."""
        return self.small and not self.ranged

    @property
    def proofs(self) -> Iterator[dict[str, Any]]:
        """Values of `fold_ranges` for each (hop, stage) that ranges speak of: which checkpoint they make seen, or from
        which hop they took what lay there, which the reference then judges."""
        for hop, stage in self.ranges:
            seen = 1 << self.shape.checkpoint_bits[hop, stage]
            yield {"hop": hop, "stage": stage, "seen": seen, "dropped": 0, "marks": 0}
        for hop in self.drops:
            dropped = 1 << self.shape.hop_bits[hop]
            yield {"hop": hop, "stage": Stage.drop.value, "seen": 0, "dropped": dropped, "marks": DROPPED}

    def at_most(self, rows: int) -> bool:
        """It takes so many rows at most; not counted is who is looked at for what `rows` does not count."""
        return self.rows <= rows and not (self.again or self.moved or self.added)

    @property
    def parameters(self) -> dict[str, Any]:
        """Values of the queries."""
        base = {"flow": self.shape.spec.flow, "size": self.shape.size, "in_force_from": self.in_force_from}
        base |= {"added": list(self.added), "grown": self.grown or 0, "longest": self.longest}
        base |= {"named": list(self.shape.hop_bits)}
        return base | self.of_pass | self.shape.parameters

    @property
    def of_pass(self) -> dict[str, Any]:
        """Those that all flows of the pass share."""
        base = {"now": self.now, "pass": self.number, "due_after": self.bounds.due_after}
        return base | self.bounds.parameters


class Portion(msgspec.Struct, frozen=True):
    """The messages whose ids lie in [low, high); None is an open end."""

    low: str | None = None
    high: str | None = None

    @property
    def sql(self) -> str:
        """The condition on `message_id`."""
        bounds = ["message_id >= {low:String}"] * (self.low is not None)
        bounds += ["message_id < {high:String}"] * (self.high is not None)
        return " AND ".join(bounds) or "true"

    @property
    def parameters(self) -> dict[str, str]:
        """Its values."""
        return {name: end for name, end in (("low", self.low), ("high", self.high)) if end is not None}


def due_since(pieces: Mapping[str, str]) -> str:
    """`DUE_SINCE` of one flow, or of several."""
    return DUE_SINCE.replace("LONGEST", pieces["longest"]).replace("GROWN", pieces["grown"])


def together(reaches: Iterable[Reach]) -> Iterator[list[Reach]]:
    """In groups of `FEW` rows at most, each of which one question can name."""
    group: list[Reach] = []
    rows = names = 0
    for reach in reaches:
        rows, names = rows + reach.rows, names + bytes_named(reach.shape)
        if group and (rows > FEW or names > MOST):
            yield group
            group, rows, names = [], reach.rows, bytes_named(reach.shape)
        group.append(reach)
    if group:
        yield group
