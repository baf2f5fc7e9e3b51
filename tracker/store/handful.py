"""Several flows as SQL at once: what `tracker.store.shape` says of one flow, told by the flow of each event.

A question costs as much for a thousand events as for none, so flows with little to do are asked about together. Names
go as query parameters, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from tracker.store.shape import NO_BIT, KeptOf, Shape, folded, keeps

SPOT = "concat(toString(flow), ' ', toString(hop), ' ', toString(stage))"
"""SQL that names the checkpoint of an event. No name has a space in it."""
PLACE = "concat(toString(flow), ' ', toString(hop))"
"""SQL that names its hop."""


def _by_flow(values: str, kind: str) -> str:
    """SQL: what is given of a flow in an array beside that of all flows."""
    return f"transform(toString(flow), {{flows:Array(String)}}, {{{values}:Array({kind})}}, to{kind}(0))"


MANY = {
    "of": "flow",
    "mine": "flow IN {flows:Array(String)}",
    "key": "flow, message_id",
    "width": _by_flow("sizes", "UInt8"),
    "longest": _by_flow("longests", "Int64"),
    "grown": _by_flow("growns", "Int64"),
}
"""What stands for the flow, and what belongs to it, in questions about messages of several."""
LIMITS = ("once", "several", "counted", "joined")
MOST = 50_000
"""Bytes of names in one question; a server takes twice as many in one parameter (`tracker.store.bundles`)."""


@dataclass(frozen=True)
class Handful:
    """Some flows by their shapes."""

    shapes: Sequence[Shape]

    @property
    def size(self) -> int:
        """How many bits the time arrays of new rows must hold."""
        return max(shape.size for shape in self.shapes)

    @property
    def kept_of(self) -> KeptOf:
        """By bit, of any of them."""
        return reduce(or_, (shape.kept_of for shape in self.shapes))

    @property
    def parameters(self) -> dict[str, Any]:
        """Names of checkpoints and hops with their bits, and in which checkpoints more than a time is kept."""
        spots = {spot: bit for shape in self.shapes for spot, bit in _spots(shape)}
        places = {f"{s.spec.flow} {hop}": bit for s in self.shapes for hop, bit in s.hop_bits.items()}
        some = {
            name: [spot for s in self.shapes for spot, bit in _spots(s) if bit in getattr(s.kept_of, name)]
            for name in LIMITS
        }
        return some | {
            "flows": [shape.spec.flow for shape in self.shapes],
            "sizes": [shape.size for shape in self.shapes],
            "spots": list(spots),
            "spot_bits": list(spots.values()),
            "places": list(places),
            "place_bits": list(places.values()),
            "outboxes": [f"{s.spec.flow} {hop}" for s in self.shapes for hop in s.outboxes],
        }

    def fold_pieces(self) -> dict[str, str]:
        """Expressions for `queries/fold_new.sql`."""
        traits = [f"has({{{name}:Array(String)}}, {SPOT}) AS is_{name}," for name in LIMITS]
        return {
            "traits": " ".join(traits),
            "known_hops": f"has({{places:Array(String)}}, {PLACE})",
            "bit": _coded(SPOT, "spots", "spot_bits"),
            "place": _coded(PLACE, "places", "place_bits"),
            "keeps": keeps(f"has({{outboxes:Array(String)}}, {PLACE})"),
            "limited": "is_once OR is_several",
            **folded(self.size, self.kept_of, **{name: f"is_{name}" for name in LIMITS}),
        }


def bytes_named(shape: Shape) -> int:
    """How much the names of a flow's checkpoints add to a question."""
    return sum(len(spot.encode()) + 3 for spot, _ in _spots(shape))


def _spots(shape: Shape) -> list[tuple[str, int]]:
    return [(f"{shape.spec.flow} {hop} {stage}", bit) for (hop, stage), bit in shape.checkpoint_bits.items()]


def _coded(value: str, names: str, codes: str) -> str:
    return f"transform({value}, {{{names}:Array(String)}}, {{{codes}:Array(UInt8)}}, toUInt8({NO_BIT}))"
