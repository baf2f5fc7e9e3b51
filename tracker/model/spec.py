"""The flow spec: which checkpoints a kind of message passes, in which order and how fast (YAML, one flow a file).

`load_spec` turns text into a `FlowSpec` or raises `SpecError` with the line at fault. Unknown keys are errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from tracker.model.errors import SpecError
from tracker.model.event import CHECKPOINT_STAGES, Stage
from tracker.model.match import Match, listed
from tracker.model.paths import GraphError, Paths
from tracker.model.schema import Needs, Place, SchemaError, SchemaRule, needs
from tracker.model.units import SECOND, duration, say

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_CHECKPOINTS = 64
MAX_TEXT = 64 * 1024
"""Characters of a spec: several times what 64 checkpoints need. Reading YAML takes seconds per megabyte."""
MAX_NODES = 10_000
"""Values in a spec, those that an alias repeats counted each time: ten lines of aliases can stand for billions."""
MAX_DEPTH = 40


def _name(value: object) -> object:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name; use letters, digits, '.', '_' and '-' (at most 100)")
    return value


def _ratio(value: object) -> float:
    text = str(value).strip()
    number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 < number <= 1:
        raise ValueError(f"{value!r} is no share; write 99.9% or 0.999")
    return number


def _fraction(value: object) -> float:
    return 0.0 if str(value).strip().rstrip("%") in ("0", "0.0") else _ratio(value)


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is no time zone that is known here; write one as Europe/Berlin") from None
    return value


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def _per_second(value: object) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", str(value).strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is no rate; write 500/s")
    return float(match[1])


class Budget(NamedTuple):
    """So many messages in any span of so many microseconds."""

    messages: int
    span: int

    def __str__(self) -> str:
        span = say(self.span)
        return f"{self.messages}/{span.removeprefix('1') if span[:-1] == '1' else span}"


def _per_span(value: object) -> Budget:
    match = re.fullmatch(r"(\d{1,9})\s*/\s*(\S+)", str(value).strip(), re.ASCII)
    with suppress(ValueError):  # of the span; it is said below how both are written
        if match and int(match[1]):
            span = duration(match[2] if match[2][0].isdigit() else f"1{match[2]}")
            if span >= SECOND:
                return Budget(int(match[1]), span)
    raise ValueError(f"{value!r} is no budget; write 1000/h, or 50/30m: messages in any span of this length")


Name = Annotated[str, BeforeValidator(_name)]
Duration = Annotated[int, BeforeValidator(duration)]
Ratio = Annotated[float, BeforeValidator(_ratio)]
Fraction = Annotated[float, BeforeValidator(_fraction)]
Zone = Annotated[str, BeforeValidator(_zone)]
Rate = Annotated[float, BeforeValidator(_per_second)]
Allowance = Annotated[Budget, BeforeValidator(_per_span)]
FindingKind = Literal["unacknowledged", "under_replicated", "divergent", "lost", "dead_lettered"]


AUTO_KINDS: tuple[FindingKind, ...] = ("unacknowledged", "lost")
"""What may be sent again without a person, unless the flow says otherwise (docs/adr/0037)."""
AUTO_BUDGET = Budget(1000, 3600 * SECOND)
AUTO_AFTER = 30 * SECOND


_later = Field(None, exclude_if=lambda objective: objective is None)
"""A key that came later: specs put earlier stay the same."""


class Part(BaseModel):
    """Every part of a spec is strict and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(Part):
    """A (hop, stage) to be reached. Several hops mean any of them; several in `after` mean all of them."""

    hop: tuple[Name, ...] = Field(min_length=1)
    stage: Stage
    after: tuple[str, ...] = ()
    within: Duration | None = None
    required: bool = True
    quorum: int = Field(1, ge=1, le=100)
    at_most: int | None = Field(None, ge=1)
    order: Literal["key", "partition"] | None = None
    same_payload: bool = False
    coverage: Literal["watermark", "assumed"] | None = None
    outbox: bool = False
    match: Match | None = None

    @field_validator("hop", "after", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _sensible(self) -> Checkpoint:
        if self.stage not in CHECKPOINT_STAGES:
            known = ", ".join(sorted(CHECKPOINT_STAGES))
            raise ValueError(f"stage {self.stage!r} cannot be a checkpoint; use one of {known}")
        if self.after and self.within is None:
            raise ValueError("a checkpoint with `after` needs `within`: how long it may take")
        if self.quorum > 1 and self.within is None:
            raise ValueError("a checkpoint with `quorum` needs `within`: how long the other copies may take")
        if self.same_payload and not self.after:
            raise ValueError("`same_payload` compares with what comes before: add `after`")
        if self.match and len(self.hop) > 1:
            raise ValueError("`match` tells what happens at one hop, and this checkpoint has several: which one is it?")
        return self

    @property
    def name(self) -> str:
        """`hop:stage`, alternatives joined by `|`."""
        return f"{'|'.join(self.hop)}:{self.stage}"


class Delivery(Part):
    """Share of messages delivered in time, over a window; of `coverage`, of the time that is vouched for."""

    target: Ratio
    window: Duration


class Latency(Part):
    """End-to-end latency percentiles, over a window; of `replication`, from what is copied to the slowest copy."""

    window: Duration
    p50: Duration | None = None
    p95: Duration | None = None
    p99: Duration | None = None


class Recovery(Part):
    """How soon what was missing is back."""

    p50: Duration | None = None
    p90: Duration | None = None


class AtMost(Part):
    """Share of messages of which this may be true, over a window."""

    at_most: Fraction
    window: Duration


class Freshness(Part):
    """How old the newest message that arrived may be, at any moment."""

    within: Duration


class Throughput(Part):
    """New messages per second, at least, at any moment."""

    at_least: Rate


class Objectives(Part):
    """What the owner promised."""

    delivery: Delivery | None = None
    latency: Latency | None = None
    recovery: Recovery | None = None
    replication: Latency | None = _later
    freshness: Freshness | None = _later
    throughput: Throughput | None = _later
    duplication: AtMost | None = _later
    divergence: AtMost | None = _later
    coverage: Delivery | None = _later


IN_FLIGHT = 5000
"""Of a target, unless a flow says otherwise: half a minute of a consumer that takes some 150 messages a second."""


class Replay(Part):
    """How missing messages may be sent again. `sources` are tried in order, each `{kind: hop}`. `targets`: what is
    missing at this hop is sent to that one, so that others are not disturbed. `kinds`, `budget` and `after` bound what
    is sent under `mode: auto` without a person: which kinds of findings, how many messages, and how long, in
    microseconds, a finding was open before. `in_flight`: so many messages at most are sent to one target and neither
    recovered nor given up, so that consumers are not flooded."""

    sources: tuple[dict[Literal["log", "peer", "snapshot", "dead_letter"], Name], ...] = ()
    targets: dict[Name, Name] = Field(default_factory=dict, exclude_if=lambda targets: not targets)
    mode: Annotated[Literal["auto", "approve", "off"], BeforeValidator(_off)] = "approve"
    kinds: Annotated[tuple[FindingKind, ...], BeforeValidator(listed)] = Field(
        AUTO_KINDS, min_length=1, exclude_if=lambda kinds: kinds == AUTO_KINDS
    )
    budget: Allowance = Field(AUTO_BUDGET, exclude_if=lambda budget: budget == AUTO_BUDGET)
    after: Duration = Field(AUTO_AFTER, exclude_if=lambda span: span == AUTO_AFTER)
    rate: Rate = 100.0
    max_attempts: int = Field(3, ge=1, le=100)
    in_flight: int = Field(IN_FLIGHT, ge=1, le=10_000_000, exclude_if=lambda most: most == IN_FLIGHT)


class Identity(Part):
    """Where the application's own message id is found: a header of the message; in spans an attribute, and where none
    is named, `messaging.message.id`."""

    header: str = "x-message-id"
    attribute: str = Field("", max_length=256, exclude_if=lambda name: not name)  # specs put earlier stay the same


class FlowSpec(Part):
    """One flow. `paths` is its checkpoints as a graph; `rules`, `schema` in the text, say what its events have to
    bring. `canary`: its messages are canaries, in a lane of their own; nobody's business depends on one.
    `severity`: the most that an alert about it may be; with `ticket` nobody is woken. `time_zone`: by whose clock its
    hours and weeks are."""

    model_config = ConfigDict(serialize_by_alias=True)

    flow: Name
    owner: str = ""
    canary: bool = Field(False, exclude_if=lambda canary: not canary)
    identity: Identity = Identity()
    key: Literal["hashed", "plain"] = "hashed"
    checkpoints: tuple[Checkpoint, ...] = Field(min_length=1, max_length=MAX_CHECKPOINTS)
    rules: Annotated[tuple[SchemaRule, ...], BeforeValidator(listed)] = Field(
        (), alias="schema", max_length=16, exclude_if=lambda rules: not rules
    )
    objectives: Objectives = Objectives()
    replay: Replay = Replay()
    runbook: str = ""
    severity: Literal["page", "ticket"] = Field("page", exclude_if=lambda severity: severity == "page")
    time_zone: Zone = Field("UTC", exclude_if=lambda zone: zone == "UTC")

    @cached_property
    def paths(self) -> Paths:
        """The checkpoints as a graph; made once."""
        return Paths.of([(c.hop, c.stage, c.after, c.required, c.within) for c in self.checkpoints])

    @cached_property
    def needs(self) -> Mapping[Place, Needs]:
        """What events have to bring, by hop and stage."""
        return needs(self.rules, self.checkpoints)

    @model_validator(mode="after")
    def _graph(self) -> FlowSpec:
        _ = self.paths, self.needs
        hops = set(self.hops)
        for source in self.replay.sources:
            for kind, hop in source.items():
                if hop not in hops:
                    raise ValueError(f"replay source `{kind}: {hop}` names no hop of this flow")
        for hop, where in self.replay.targets.items():
            if unknown := {hop, where} - hops:
                raise ValueError(f"replay target `{hop}: {where}`: {unknown.pop()} is no hop of this flow")
        return self

    @property
    def hops(self) -> tuple[str, ...]:
        """Every hop named, in the order of first mention."""
        return tuple(dict.fromkeys(hop for c in self.checkpoints for hop in c.hop))

    @property
    def keeping(self) -> frozenset[str]:
        """The hops that keep messages where anybody reads them, and that a replay may be sent to."""
        return frozenset(hop for c in self.checkpoints if c.stage in (Stage.persist, Stage.replicate) for hop in c.hop)


def load_spec(text: str) -> FlowSpec:
    """The spec that `text` (YAML or JSON) describes. Raises SpecError naming the line."""
    node, raw = _read(text)
    if not isinstance(raw, dict) or node is None:
        raise SpecError("a flow spec is a mapping that begins with `flow: NAME`", 1)
    try:
        return FlowSpec.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        place = cause.place if isinstance(cause, GraphError | SchemaError) else first["loc"]
        raise SpecError(_reason(first), _line(node, place)) from None


def _read(text: str) -> tuple[yaml.Node | None, object]:
    """The YAML as nodes, which know their lines, and as values. SpecError for whatever is not readable or no spec."""
    if len(text) > MAX_TEXT:
        raise SpecError(f"{len(text)} characters are too many for a flow spec; at most {MAX_TEXT}")
    try:
        loader = yaml.SafeLoader(text)  # the one written in C is quicker, and dies of deep nesting
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, {})
        return node, loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SpecError(f"not readable as YAML: {getattr(error, 'problem', error)}", mark and mark.line + 1) from None
    except RecursionError:
        raise SpecError(f"nested too deeply; a flow spec has at most {MAX_DEPTH} levels") from None
    except ValueError as error:  # what YAML takes for a date or a number and Python does not, as 2026-13-45
        raise SpecError(f"not readable as YAML: {error}; quote what is meant as text") from None


def _measure(node: yaml.Node, known: dict[int, int], depth: int = 1) -> int:
    """How many values `node` stands for. SpecError for too many, for a circle of aliases, for a key given twice."""
    line = int(node.start_mark.line) + 1
    if depth > MAX_DEPTH:
        raise SpecError(f"nested too deeply, or an alias of itself; at most {MAX_DEPTH} levels", line)
    if id(node) in known:
        return known[id(node)]
    count = 1
    if isinstance(node, yaml.MappingNode):
        _once(node)
        count += sum(_measure(child, known, depth + 1) for pair in node.value for child in pair)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_measure(child, known, depth + 1) for child in node.value)
    if count > MAX_NODES:
        raise SpecError(f"more than {MAX_NODES} values, repeated ones counted; is an alias used too often?", line)
    known[id(node)] = count
    return count


def _once(node: yaml.MappingNode) -> None:
    """SpecError when a key is given twice: YAML would silently keep the last."""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise SpecError(f"key `{key.value}` is given twice", int(key.start_mark.line) + 1)
            seen.add(key.value)


def _reason(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key `{place}`"
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """The line of the deepest node of the YAML that the error's location reaches."""
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is None:
                if isinstance(part, int):
                    continue  # one in the place of a list
                break
            key, value = match
            node = key if part == location[-1] else value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return int(node.start_mark.line) + 1
