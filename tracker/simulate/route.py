"""The route that messages take, read from a flow's checkpoints in the simulator's own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracker.model.errors import Invalid
from tracker.simulate.scenario import microseconds


@dataclass(frozen=True)
class Place:
    """A checkpoint. `before`: the nearest required ones before it; `ancestors`, `descendants`: all of them."""

    index: int
    hops: tuple[str, ...]
    stage: str
    after: tuple[int, ...]
    before: tuple[int, ...]
    ancestors: frozenset[int]
    within: int | None
    required: bool
    quorum: int
    at_most: int | None
    same_payload: bool
    order: str | None
    outbox: bool


@dataclass(frozen=True)
class Route:
    """Places in the order in which messages pass them."""

    places: tuple[Place, ...]

    @property
    def hops(self) -> list[str]:
        """Every hop once."""
        return list(dict.fromkeys(hop for place in self.places for hop in place.hops))

    @property
    def longest(self) -> int:
        """The longest sum of deadlines from a root, µs."""
        reach: dict[int, int] = {}
        for p in self.places:
            reach[p.index] = max((reach[a] for a in p.after), default=0) + (p.within or 0)
        return max(reach.values())

    def descendants(self, index: int) -> list[Place]:
        """All places behind one."""
        return [p for p in self.places if index in p.ancestors]

    def only_behind(self, index: int) -> set[str]:
        """Hops that a message reaches only when it passed this place."""
        behind = self.descendants(index)
        elsewhere = {hop for p in self.places if p not in behind for hop in p.hops}
        return {hop for p in behind for hop in p.hops} - elsewhere

    def named(self, name: str) -> Place:
        """The place called `hop` or `hop:stage`; of several at one hop the first. Raises Invalid."""
        hop, _, stage = name.partition(":")
        for place in self.places:
            if hop in place.hops and (not stage or stage == place.stage):
                return place
        every = ", ".join(f"{p.hops[0]}:{p.stage}" for p in self.places)
        raise Invalid(f"a fault names the place {name!r}, which the flow does not have; it has {every}")


def route_of(flow: Mapping[str, Any]) -> Route:
    """The route of a flow spec. Checkpoints must come after those they name."""
    places: list[Place] = []
    for n, point in enumerate(flow["checkpoints"]):
        hops = tuple([point["hop"]] if isinstance(point["hop"], str) else point["hop"])
        after = tuple(_find(places, name) for name in _listed(point.get("after", [])))
        nearest = [q for a in after for q in ((a,) if places[a].required else places[a].before)]
        ancestors = frozenset(after).union(*(places[a].ancestors for a in after))
        within = point.get("within")
        places.append(Place(
            n, hops, point["stage"], after, tuple(dict.fromkeys(nearest)), ancestors,
            None if within is None else microseconds(within), point.get("required", True), point.get("quorum", 1),
            point.get("at_most"), point.get("same_payload", False), point.get("order"),
            point.get("outbox", False),
        ))  # fmt: skip
    return Route(tuple(places))


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _find(places: Sequence[Place], name: str) -> int:
    hop, _, stage = name.partition(":")
    for place in places:
        if hop in place.hops and (not stage or place.stage == stage):
            return place.index
    raise Invalid(f"`after: {name}` names no checkpoint before it; in a scenario they stand in order")
