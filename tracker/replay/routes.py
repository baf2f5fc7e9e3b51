"""Where copies of a message may be, and where one that is missing is sent: pure, from the flow's spec.

A copy is kept by a `Keeper`. A `log` and a `peer` are both logs of a hop; they differ in where their copies go: a log's
back to where it came from, so that all who read it see it again, a peer's to the hop that lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from tracker.control.errors import Invalid
from tracker.model.carry import Locator
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec

LOG, PEER, SNAPSHOT, DEAD_LETTER = "log", "peer", "snapshot", "dead_letter"
KINDS = (LOG, PEER, SNAPSHOT, DEAD_LETTER)
KEPT = frozenset({Stage.persist, Stage.replicate})
"""What a checkpoint of a hop says that keeps messages where anybody reads them: a log, a queue, a replica."""


class Keeper(NamedTuple):
    """Who holds copies: `log`, `snapshot` or `dead_letter` of a hop. The log of a peer is a log."""

    kind: str
    hop: str

    def __str__(self) -> str:
        return f"{self.kind} {self.hop}"


class Missing(NamedTuple):
    """One thing that is missing of a message: the finding's hop, stage and kind."""

    hop: str
    stage: str
    kind: str


class Choice(NamedTuple):
    """One line of a flow's `sources`: where to look, as the spec says it. `kind:hop` where an operator chooses."""

    kind: str
    hop: str

    @property
    def keeper(self) -> Keeper:
        """Who answers."""
        return Keeper(LOG if self.kind == PEER else self.kind, self.hop)

    def __str__(self) -> str:
        return f"{self.kind} {self.hop}"


class Way(msgspec.Struct, frozen=True):
    """From where a message can be sent, and where to: `source` is the kind."""

    source: str
    locator: Locator
    target: str

    @property
    def keeper(self) -> Keeper:
        """Who holds the copy."""
        return Choice(self.source, self.locator.hop).keeper


def choices(spec: FlowSpec, only: str = "") -> list[Choice]:
    """The flow's sources in their order, or `only` (`kind:hop`), which need not be one of these. Raises `Invalid`."""
    if not only:
        return [Choice(kind, hop) for source in spec.replay.sources for kind, hop in source.items()]
    kind, _, hop = only.partition(":")
    if kind not in KINDS or hop not in spec.hops:
        raise Invalid(
            f"source {only!r}: write one of {', '.join(KINDS)}, a colon and a hop of the flow ({', '.join(spec.hops)})"
        )
    return [Choice(kind, hop)]


def target(spec: FlowSpec, choice: Choice, missing: Sequence[Missing], to: str = "") -> str:
    """The hop that a copy is sent to; empty when there is none. `to` is what an operator chose.

    Of several things that are missing, the one that comes first on the flow's path counts: what lies behind it follows.
    Raises `Invalid` for a `to` that the flow does not have.
    """
    if to:
        if to not in spec.hops:
            raise Invalid(f"target {to!r} is no hop of the flow; it has {', '.join(spec.hops)}")
        return to
    chosen = {spec.replay.targets.get(hop, "") for one in missing for hop in one.hop.split("|")}
    if len(chosen) == 1 and (said := chosen.pop()):
        return said
    first = _first(spec, missing)
    match choice.kind:
        case "peer":
            lacks = _kept_at(spec, first)
            return lacks if lacks != choice.hop else ""
        case "dead_letter":
            return _kept_before(spec, _place(spec, choice.hop))
        case _ if any(KEPT & {c.stage} for c in spec.checkpoints if choice.hop in c.hop):
            return choice.hop
        case _:  # an outbox: what it holds goes where it would have gone
            return _kept_at(spec, first)


def due(spec: FlowSpec, hop: str, missing: Iterable[Missing]) -> int:
    """How long after it was sent to `hop` a message may take to the last of what is missing, µs: by the deadlines of
    the flow from there on."""
    paths = spec.paths
    named = {(one, lack.stage) for lack in missing for one in lack.hop.split("|")}
    places = [i for i in paths.order if any((one, paths.stages[i]) in named for one in paths.hops[i])]
    begins = [paths.reach[i] for i in paths.order if hop in paths.hops[i] and paths.stages[i] in KEPT]
    return max(0, max((paths.reach[i] for i in places), default=paths.longest) - min(begins, default=0))


def readers(spec: FlowSpec, hop: str) -> list[str]:
    """The hops that take what is sent to `hop`: those that a message reaches only by it or behind it."""
    paths = spec.paths
    here = {i for i, hops in enumerate(paths.hops) if hop in hops}
    behind = frozenset[int]().union(*(paths.descendants[i] for i in here)) - here
    taking = [i for i in paths.order if i in behind and paths.stages[i] in (Stage.ack, Stage.deliver)]
    return list(dict.fromkeys("|".join(paths.hops[i]) for i in taking))


class Digests:
    """The digests that copies of a flow's messages may have. Made for many messages: what depends on the spec alone is
    looked up once."""

    def __init__(self, spec: FlowSpec) -> None:
        self._spec = spec
        self._same: dict[str, list[frozenset[tuple[str, Stage]]]] = {}

    def right(self, events: Iterable[Event], keeper: Keeper, place: tuple[str, int]) -> frozenset[str]:
        """Of a copy of this keeper; several: nobody knows which one is right; none: not known.

        Where the flow says that payloads stay the same up to there, it is what the checkpoint nearest to the producer
        saw. Else what was observed at this very place (`partition`, `offset`) of a log, or anywhere at another keeper's
        hop.
        """
        if keeper.hop not in self._same:
            self._same[keeper.hop] = _same(self._spec, keeper.hop)
        seen = [event for event in events if event.digest]
        for points in self._same[keeper.hop]:
            found = frozenset(event.digest for event in seen if (event.hop, event.stage) in points)
            if found:
                return found
        return frozenset(
            event.digest
            for event in seen
            if event.hop == keeper.hop
            and event.stage in (*KEPT, Stage.produce)
            and (keeper.kind != LOG or event.stage == Stage.produce or (event.partition, event.offset) == place)
        )


def _same(spec: FlowSpec, hop: str) -> list[frozenset[tuple[str, Stage]]]:
    """Checkpoints whose payload is that of `hop`'s, from the producer to `hop`; none where nothing is joined."""
    paths = spec.paths
    steps = [[i for i, hops in enumerate(paths.hops) if hop in hops and paths.stages[i] in (*KEPT, Stage.produce)]]
    while before := [q for i in steps[-1] if spec.checkpoints[i].same_payload for q in paths.before[i]]:
        steps.append(before)
    return [frozenset((one, paths.stages[i]) for i in step for one in paths.hops[i]) for step in steps[:0:-1]]


def _first(spec: FlowSpec, missing: Sequence[Missing]) -> int:
    """The checkpoint of these that comes first."""
    named = {(hop, one.stage) for one in missing for hop in one.hop.split("|")}
    paths = spec.paths
    found = [i for i in paths.order if any((hop, paths.stages[i]) in named for hop in paths.hops[i])]
    return found[0] if found else paths.order[0]


def _place(spec: FlowSpec, hop: str) -> int:
    paths = spec.paths
    return next(i for i in paths.order if hop in paths.hops[i])


def _kept_at(spec: FlowSpec, point: int) -> str:
    """The hop of this checkpoint if it keeps messages, else of the nearest before it that does."""
    return spec.paths.hops[point][0] if spec.paths.stages[point] in KEPT else _kept_before(spec, point)


def _kept_before(spec: FlowSpec, point: int) -> str:
    paths = spec.paths
    step: list[int] = [point]
    while step := [q for i in step for q in paths.before[i]]:
        for i in step:
            if paths.stages[i] in KEPT:
                return paths.hops[i][0]
    return ""
