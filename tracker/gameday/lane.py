"""The lane of canaries: a flow of its own, beside the one whose path it watches. Pure.

Hops that keep messages get names of their own in the lane, because what is sent to a hop, by a replay too, goes where
all of that hop's consumers read ([ADR 40](docs/adr/0040-canaries.md)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tracker.model.errors import Invalid
from tracker.model.event import Stage
from tracker.model.spec import Checkpoint, FlowSpec
from tracker.model.units import SECOND, say

SUFFIX = ".canary"
PRODUCER = "canary"
"""The hop of the produce, where the flow itself begins at a log or queue."""
ARRIVES = 10 * SECOND
"""Within which a canary has to reach its first hop then."""
USUAL = {"delivery": {"target": "99.9%", "window": "7d"}}
"""The objectives of a lane whose flow has none."""
KEPT = (Stage.persist, Stage.replicate)


@dataclass(frozen=True, slots=True)
class Lane:
    """What canaries pass: made by the hop `producer`, sent to the hop `first`, taken by `consumers`, each from the hop
    that it is mapped to."""

    spec: FlowSpec
    producer: str
    first: str
    consumers: Mapping[str, str]

    @property
    def flow(self) -> str:
        """Its name."""
        return self.spec.flow

    @property
    def longest(self) -> float:
        """Seconds until the last deadline of a canary has passed."""
        return self.spec.paths.longest / SECOND

    def stages(self, hop: str) -> list[Stage]:
        """What a consumer at this hop has to tell."""
        return [c.stage for c in self.spec.checkpoints if hop in c.hop and c.stage in (Stage.deliver, Stage.ack)]


def lane_of(spec: FlowSpec, to: str = "") -> Lane:
    """The lane that a spec describes; `to`: the hop to send to, where it begins at several. Raises `Invalid` for a flow
    that is not marked, or has no way in."""
    if not spec.canary:
        raise Invalid(
            f"flow {spec.flow!r} is not marked as a flow of canaries (`canary: true`), so nothing is sent into it: "
            f"make one beside it with: tracker canary draft {spec.flow}"
        )
    producers = [c.hop[0] for c in spec.checkpoints if c.stage is Stage.produce and not c.after]
    firsts = [c.hop[0] for c in spec.checkpoints if c.stage in KEPT and set(_hops(c)) & set(producers)]
    if not producers or not firsts:
        raise Invalid(
            f"flow {spec.flow!r} does not begin with a produce and a log or queue after it: tracker canary draft"
        )
    if to and to not in firsts:
        raise Invalid(f"--to {to!r}: canaries of {spec.flow!r} are sent to {' or '.join(firsts)}")
    consumers = {hop: found[0] for c in spec.checkpoints if c.stage is Stage.ack
                 for hop in c.hop if (found := list(_keepers(spec, c)))}  # fmt: skip
    return Lane(spec, producers[0], to or firsts[0], consumers)


def _hops(point: Checkpoint) -> list[str]:
    return [name.partition(":")[0] for name in point.after]


def _keepers(spec: FlowSpec, point: Checkpoint) -> Iterator[str]:
    """The nearest hops before it that keep messages."""
    for name in point.after:
        hop, _, stage = name.partition(":")
        for before in (c for c in spec.checkpoints if hop in c.hop and stage in ("", c.stage)):
            if before.stage in KEPT:
                yield hop
            else:
                yield from _keepers(spec, before)


def draft(spec: FlowSpec) -> str:
    """The spec of the lane beside this flow, as YAML: the same checkpoints and deadlines, in a flow of its own."""
    text: dict[str, Any] = {"flow": spec.flow + SUFFIX, "owner": spec.owner, "canary": True}
    if spec.identity.header != FlowSpec.model_fields["identity"].default.header:
        text["identity"] = {"header": spec.identity.header}
    text["checkpoints"] = list(_checkpoints(spec))
    text["objectives"] = _objectives(spec) or USUAL
    if sources := [
        {kind: hop + SUFFIX}
        for source in spec.replay.sources
        for kind, hop in source.items()
        if kind in ("log", "peer") and hop in spec.keeping
    ]:
        text["replay"] = {"sources": sources, "mode": "auto", "rate": f"{spec.replay.rate:g}/s"}
    if spec.runbook:
        text["runbook"] = spec.runbook
    body = yaml.safe_dump(text, sort_keys=False, default_flow_style=None, width=120)
    told = f"# Canaries beside the flow {spec.flow}. Each hop that ends in {SUFFIX} is a topic or queue of their own.\n"
    return told + body


def _checkpoints(spec: FlowSpec) -> Iterator[dict[str, Any]]:
    produced = any(c.stage is Stage.produce for c in spec.checkpoints)
    if not produced:
        yield {"hop": PRODUCER, "stage": "produce"}
    for point in spec.checkpoints:
        after = [_renamed(spec, name) for name in point.after]
        within = point.within
        if not produced and not after:
            after, within = [PRODUCER], ARRIVES if within is None else within
        said: dict[str, Any] = {"hop": _short([_renamed(spec, hop) for hop in point.hop]), "stage": point.stage.value}
        said |= {"after": _short(after)} if after else {}
        said |= {"within": say(within)} if within is not None else {}
        for key in ("required", "quorum", "at_most", "same_payload", "coverage"):
            if (value := getattr(point, key)) != Checkpoint.model_fields[key].default:
                said[key] = value
        yield said


def _renamed(spec: FlowSpec, name: str) -> str:
    hop, colon, stage = name.partition(":")
    return f"{hop}{SUFFIX if hop in spec.keeping else ''}{colon}{stage}"


def _short(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _objectives(spec: FlowSpec) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, objective in spec.objectives:
        if objective is not None:
            values = {key: value for key, value in objective if value is not None}
            found[name] = {key: f"{value * 100:.10g}%" if key == "target" else say(value)
                           for key, value in values.items()}  # fmt: skip
    return found
