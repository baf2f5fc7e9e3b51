"""What a flow spec's `schema` says: what events have to bring. Those that do not go to quarantine.

A rule is asked of events at the flow's checkpoints, or where its `at` says: a hop stands for its checkpoints, and
`hop:stage` for any stage of it. Without `at`, checkpoints that take spans are left out: spans that others made bring
neither attributes nor, as a rule, a digest. Ranges are asked nothing, for they tell of no single message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tracker.model.event import Stage
from tracker.model.match import Match, listed
from tracker.model.units import say_size, size

Place = tuple[str, str]
"""(hop, stage)."""


class SchemaError(ValueError):
    """A rule that cannot be asked; `place` is where in the spec."""

    def __init__(self, reason: str, rule: int, key: str = "at") -> None:
        super().__init__(reason)
        self.place = ("schema", rule, key)


Text = Annotated[str, Field(min_length=1, max_length=256)]


class SchemaRule(BaseModel):
    """`attributes` that have to be there and not be empty; whether a `digest` has to; the `max_size` of the payload,
    bytes, which is asked of events that tell their size. `at`: of which events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: Annotated[tuple[Text, ...], BeforeValidator(listed), Field(max_length=64)] = ()
    digest: bool = False
    max_size: Annotated[int, BeforeValidator(size)] | None = None
    at: Annotated[tuple[Text, ...], BeforeValidator(listed), Field(max_length=512)] = ()

    @model_validator(mode="after")
    def _something(self) -> SchemaRule:
        if not (self.attributes or self.digest or self.max_size is not None):
            raise ValueError("this asks for nothing; name `attributes`, `digest: true` or `max_size`")
        return self


@dataclass(frozen=True, slots=True)
class Needs:
    """What all rules together ask of an event."""

    attributes: tuple[str, ...] = ()
    digest: bool = False
    max_size: int | None = None

    def told(self) -> list[str]:
        """As people say it."""
        said = [f"attribute {name}" for name in self.attributes]
        said += ["a digest"] if self.digest else []
        return said + ([f"at most {say_size(self.max_size)}"] if self.max_size is not None else [])

    def and_(self, rule: SchemaRule) -> Needs:
        """These, and what the rule asks; of two limits the lower one."""
        limits = [limit for limit in (self.max_size, rule.max_size) if limit is not None]
        return Needs(
            tuple(dict.fromkeys((*self.attributes, *rule.attributes))),
            self.digest or rule.digest,
            min(limits, default=None),
        )


class Point(Protocol):
    """What is asked of a checkpoint."""

    @property
    def hop(self) -> Sequence[str]:
        """Any of these."""

    @property
    def stage(self) -> Stage:
        """What the hop did."""

    @property
    def match(self) -> Match | None:
        """By what its traffic is known."""


def needs(rules: Sequence[SchemaRule], points: Sequence[Point]) -> Mapping[Place, Needs]:
    """What is asked of events, by hop and stage; nothing where there is none. Raises SchemaError."""
    found: dict[Place, Needs] = {}
    for number, rule in enumerate(rules):
        places = [place for name in rule.at for place in _named(name, number, points)]
        for place in dict.fromkeys(places or _usual(number, points)):
            found[place] = found.get(place, Needs()).and_(rule)
    return found


def _usual(rule: int, points: Sequence[Point]) -> list[Place]:
    places = [(hop, str(point.stage)) for point in points if not _takes_spans(point) for hop in point.hop]
    if not places:
        reason = "every checkpoint of this flow takes spans, which bring little: name in `at` those that are asked this"
        raise SchemaError(reason, rule)
    return places


def _takes_spans(point: Point) -> bool:
    return point.match is not None and bool(point.match.spans)


def _named(name: str, rule: int, points: Sequence[Point]) -> Iterator[Place]:
    hop, _, stage = name.partition(":")
    stages = [str(point.stage) for point in points if hop in point.hop]
    if not stages:
        known = ", ".join(sorted({hop for point in points for hop in point.hop}))
        raise SchemaError(f"`at: {name}` names no hop of this flow; its hops are {known}", rule)
    if stage and stage not in {*Stage}:
        raise SchemaError(f"`at: {name}` names no stage; the stages are {', '.join(Stage)}", rule)
    yield from ((hop, chosen) for chosen in ([stage] if stage else stages))
