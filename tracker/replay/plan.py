"""What would be sent again: pure, from what is missing, where copies are, and the flow's replay policy.

    wanted messages + policy + copies + what is connected + what was sent before ──make──> Plan

Nothing here asks a store, a broker or a clock; `service` gathers the arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from tracker.model.carry import Locator
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND

EXAMPLES = 10
"""How many messages of each reason a summary names."""
PATIENCE = 30 * SECOND
"""Added to the flow's longest deadline before a message that was sent again counts as not recovered."""
USABLE = ("log",)
"""Kinds of source that this version can read."""


class Missing(NamedTuple):
    """One thing that is missing of a message: the finding's hop, stage and kind."""

    hop: str
    stage: str
    kind: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which open findings: of one flow, narrowed by what is given. `message_ids` empty means all."""

    flow: str
    hop: str | None = None
    kind: str | None = None
    incident: str | None = None
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A message and what is missing of it; nothing missing: it was asked for by id and has no open finding."""

    message_id: str
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """What other replays did with a message: attempts so far, and the id of the one that is at it now, if any."""

    attempts: int = 0
    busy: str = ""


@dataclass(frozen=True, slots=True)
class Connected:
    """The hops that this tracker can read copies from (`sources`) and send to (`publishers`)."""

    sources: Collection[str]
    publishers: Collection[str]


@dataclass(frozen=True, slots=True)
class Item:
    """A message that can be sent: `source` is the kind, `locator` the copy, `attempt` how often it was sent before."""

    message_id: str
    source: str
    locator: Locator
    target: str
    attempt: int
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that cannot be sent: `reason` is a word to count by, `detail` says what to do."""

    message_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A sample of copies that was fetched and compared with what was observed: `sizes` in bytes, of the right ones."""

    asked: int
    sizes: tuple[int, ...] = ()
    wrong: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a dry run shows and a replay keeps. `follow_up` in microseconds; `checked` None: no copy was looked at."""

    flow: str
    items: tuple[Item, ...]
    refused: tuple[Refused, ...]
    mode: str
    rate: float
    max_attempts: int
    follow_up: int
    identity: str
    order_risk: str
    checked: Checked | None = None

    @property
    def seconds(self) -> float:
        """How long sending takes at the rate."""
        return len(self.items) / self.rate

    @property
    def size(self) -> int | None:
        """About how many bytes of payload, by the mean of the sample; None when no copy was looked at."""
        if self.checked is None or not self.checked.sizes:
            return None
        return round(sum(self.checked.sizes) / len(self.checked.sizes) * len(self.items))

    @property
    def needs_approval(self) -> bool:
        """True when a second person must say yes."""
        return self.mode == "approve"

    @property
    def targets(self) -> tuple[str, ...]:
        """The hops that it would send to."""
        return tuple(sorted({item.target for item in self.items}))

    def summary(self) -> dict[str, Any]:
        """The plan as JSON, without the messages themselves."""
        sources = Counter(f"{item.source}: {item.locator.hop}" for item in self.items)
        reasons = Counter(one.reason for one in self.refused)
        return {
            "flow": self.flow,
            "messages": len(self.items),
            "bytes": self.size,
            "sources": dict(sources),
            "targets": list(self.targets),
            "refused": {reason: _refusals(reason, count, self.refused) for reason, count in reasons.items()},
            "integrity": _integrity(self.checked),
            "order_risk": self.order_risk,
            "mode": self.mode,
            "needs_approval": self.needs_approval,
            "rate": self.rate,
            "estimated_seconds": round(self.seconds, 3),
            "max_attempts": self.max_attempts,
            "follow_up_seconds": self.follow_up / SECOND,
            "identity": self.identity,
            "examples": [item.message_id for item in self.items[:EXAMPLES]],
        }


def make(
    spec: FlowSpec,
    wanted: Sequence[Wanted],
    copies: Mapping[str, Mapping[str, Locator]],
    connected: Connected,
    past: Mapping[str, Past],
    rate: float | None = None,
) -> Plan:
    """The plan for `wanted`. `copies` by hop, then by message id, is where each log holds what it was seen to persist.

    Items come in the order of the log (partition, offset), so that order within a partition is kept among them. `rate`
    in messages per second; without it, or above the flow's own, the flow's own counts.
    """
    policy = spec.replay
    judged = [_judge(spec, one, copies, connected, past.get(one.message_id, Past())) for one in wanted]
    items = [one for one in judged if isinstance(one, Item)]
    items.sort(key=lambda item: (item.target, item.locator.partition, item.locator.offset, item.message_id))
    return Plan(
        flow=spec.flow,
        items=tuple(items),
        refused=tuple(one for one in judged if isinstance(one, Refused)),
        mode=policy.mode,
        rate=min(rate or policy.rate, policy.rate),
        max_attempts=policy.max_attempts,
        follow_up=spec.paths.longest + PATIENCE,
        identity=spec.identity.header,
        order_risk=_order_risk(spec, len(items)),
    )


def with_sample(plan: Plan, checked: Checked) -> Plan:
    """The same plan, with what a look at some of its copies showed."""
    return replace(plan, checked=checked)


def _judge(
    spec: FlowSpec,
    one: Wanted,
    copies: Mapping[str, Mapping[str, Locator]],
    connected: Connected,
    past: Past,
) -> Item | Refused:
    if not one.missing:
        return Refused(one.message_id, "nothing_missing", "no finding of it is open in this selection")
    if past.busy:
        return Refused(one.message_id, "busy", f"replay {past.busy} is sending it: wait for that one, or cancel it")
    if past.attempts >= spec.replay.max_attempts:
        allowed = spec.replay.max_attempts
        detail = (
            f"sent again {past.attempts} times already and `max_attempts` is {allowed}: find out why it did not help"
        )
        return Refused(one.message_id, "exhausted", detail)
    reasons: list[tuple[str, str]] = []
    for kind, hop in [pair for source in spec.replay.sources for pair in source.items()]:
        refusal = _unusable(kind, hop, one.message_id, copies, connected)
        if refusal is None:
            locator = copies[hop][one.message_id]
            return Item(one.message_id, kind, locator, hop, past.attempts, one.missing)
        reasons.append(refusal)
    if not reasons:
        detail = "the flow names no source: add `replay: {sources: [log: HOP]}` to its spec"
        return Refused(one.message_id, "no_source", detail)
    return Refused(one.message_id, reasons[0][0], "; ".join(detail for _, detail in reasons))


def _unusable(
    kind: str,
    hop: str,
    message_id: str,
    copies: Mapping[str, Mapping[str, Locator]],
    connected: Connected,
) -> tuple[str, str] | None:
    """Why this source cannot give the message (a word, a sentence); None when it can."""
    if kind not in USABLE:
        return "unsupported", f"{kind} {hop}: this version reads copies from {', '.join(USABLE)} only"
    if hop not in connected.sources or hop not in connected.publishers:
        return "not_connected", f"{kind} {hop}: this tracker has no connection to it, add it to the `replay` settings"
    if message_id not in copies.get(hop, {}):
        return "no_copy", f"{kind} {hop}: it was never seen to persist this message"
    return None


def _order_risk(spec: FlowSpec, count: int) -> str:
    asked = sorted({f"{c.order} at {c.name}" for c in spec.checkpoints if c.order})
    if not asked or not count:
        return ""
    return f"the flow asks for order by {', '.join(asked)}: what is sent again arrives behind what came after it"


def _refusals(reason: str, count: int, refused: Sequence[Refused]) -> dict[str, Any]:
    same = [one for one in refused if one.reason == reason][:EXAMPLES]
    return {"messages": count, "detail": same[0].detail, "examples": [one.message_id for one in same]}


def _integrity(checked: Checked | None) -> dict[str, Any] | None:
    if checked is None:
        return None
    return {"checked": checked.asked, "right": len(checked.sizes), "wrong": dict(checked.wrong)}
