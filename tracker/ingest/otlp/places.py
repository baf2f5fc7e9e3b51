"""Which flow, hop and stage a span belongs to, by the `match` of checkpoints. Asked once per combination of what tells
spans apart, never per span. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tracker.ingest.otlp.meaning import kind_of, stage_of
from tracker.model.event import Stage
from tracker.model.match import Match
from tracker.model.spec import FlowSpec

_CONSUMERS = frozenset({Stage.deliver, Stage.ack})
_CONSUMED = frozenset({Stage.deliver, Stage.ack, Stage.nack, Stage.dead_letter})


@dataclass(frozen=True, slots=True)
class Sort:
    """What tells spans apart; an empty text is what a span does not say. `attributes` are those that specs ask for."""

    service: str = ""
    system: str = ""
    destination: str = ""
    operation: str = ""
    name: str = ""
    disposition: str = ""
    group: str = ""
    own_flow: str = ""
    own_hop: str = ""
    own_stage: str = ""
    kind: int = 0
    failed: bool = False
    attributes: Mapping[str, str] | None = None

    @property
    def stage(self) -> Stage | None:
        """What happened to the message, by the conventions or by the application's own word."""
        if self.own_stage in Stage.__members__:
            return Stage(self.own_stage)
        return stage_of(self.operation, self.name, self.disposition, self.kind, self.failed)

    @property
    def told(self) -> str:
        """The operation as people know it: its type, else its name, else what its kind stands for."""
        return self.operation or self.name or kind_of("", "", self.kind)


@dataclass(frozen=True, slots=True)
class Place:
    """Where events of a sort of spans belong. `identity` is the attribute that names their messages, if the flow says
    which; empty: whatever the conventions say."""

    flow: str
    hop: str
    stage: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class _Point:
    flow: str
    hop: str
    stage: Stage
    match: Match


class Places:
    """The checkpoints of all flows that match spans. Of several that fit a span, the one that asks most wins, then the
    first by name of the flow and place in it."""

    def __init__(self, specs: Sequence[FlowSpec]) -> None:
        self._identity = {spec.flow: spec.identity.attribute for spec in specs}
        points = [
            _Point(spec.flow, c.hop[0], c.stage, c.match)
            for spec in sorted(specs, key=lambda spec: spec.flow)
            for c in spec.checkpoints
            if c.match and c.match.spans
        ]
        self._points = sorted(points, key=lambda point: -len(point.match.spans))

    @cached_property
    def identities(self) -> frozenset[str]:
        """Every attribute that names messages of a flow."""
        return frozenset(filter(None, self._identity.values()))

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Every attribute that tells flows apart."""
        return frozenset(name for point in self._points for name in point.match.attributes)

    def of(self, sort: Sort) -> Place | None:
        """Where a sort of spans belongs; None when no flow says that it does, or nothing happened to a message."""
        said = sort.stage
        points = (point for point in self._points if not sort.own_flow or point.flow == sort.own_flow)
        found = next((p for p in points if _stage(p, sort, said) and _fits(p.match, sort)), None)
        flow = sort.own_flow or (found.flow if found else "")
        hop = sort.own_hop or (found.hop if found else "")
        stage = _stage(found, sort, said) if found else said
        return Place(flow, hop, stage, self._identity.get(flow, "")) if flow and hop and stage else None


def _stage(point: _Point, sort: Sort, said: Stage | None) -> Stage | None:
    """The stage at a checkpoint of a sort of spans that tells of the stage `said`. What brokers do is not seen in
    clients' spans: `persist` and `replicate` want to be told which operation is evidence of them."""
    if sort.own_stage or not point.match.operation:
        family = _CONSUMED if point.stage in _CONSUMERS else {point.stage}
        return said if said in family else None
    if not sort.failed:
        return said if said in (Stage.nack, Stage.dead_letter) else point.stage
    return Stage.nack if point.stage is Stage.ack else None


def _fits(match: Match, sort: Sort) -> bool:
    for key, pattern in match.spans.items():
        if key.startswith("attributes."):
            said = [(sort.attributes or {}).get(key.removeprefix("attributes."), "")]
        elif key == "operation":
            said = [sort.operation, sort.name] if sort.operation or sort.name else [sort.told]
        else:
            said = [getattr(sort, key)]
        if not any(word and pattern.fullmatch(word) for word in said):
            return False
    return True
