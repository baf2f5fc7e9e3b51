"""What would be sent again: pure, from what is missing, where copies are, and the flow's replay policy.

    wanted messages + spec + copies + what is connected + what was sent before ──make──> Plan

Nothing here asks a store, a broker or a clock; `service` gathers the arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tracker.model.carry import Locator
from tracker.model.spec import IN_FLIGHT, FlowSpec
from tracker.model.units import SECOND
from tracker.replay.policy import objection
from tracker.replay.routes import LOG, Choice, Keeper, Missing, Way, choices, readers, target

EXAMPLES = 10
"""How many messages of each reason a summary names."""
NO_KEYS: Mapping[str, str] = {}
PATIENCE = 30 * SECOND
"""Added to the flow's longest deadline before a message that was sent again counts as not recovered."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which open findings: of one flow, narrowed by what is given, and how they are to be sent.

    `message_ids` empty means all. `since` and `until` bound the origin time (µs, until not included). `key`,
    `dropped_as` (the reason of a drop or dead letter) and `attributes` are what some event of the message carries.
    `source` (`kind:hop`) and `to` (a hop) are an operator's choice instead of the flow's.
    """

    flow: str
    hop: str | None = None
    kind: str | None = None
    incident: str | None = None
    message_ids: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    key: str | None = None
    dropped_as: str | None = None
    attributes: dict[str, str] = {}
    source: str = ""
    to: str = ""

    @property
    def asks_events(self) -> bool:
        """Whether findings alone cannot answer it."""
        return self.key is not None or self.dropped_as is not None or bool(self.attributes)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A message and what is missing of it; nothing missing: it was asked for by id and has no open finding. `origin_at`
    (µs) 0: not known."""

    message_id: str
    missing: tuple[Missing, ...]
    kinds: frozenset[str] = frozenset()
    """Of what is missing and not explained by something before it that is missing, too."""
    origin_at: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """What other replays did with a message: attempts so far, and the id of the one that is at it now, if any; `over`:
    that one has ended, and what became of the message is not known."""

    attempts: int = 0
    busy: str = ""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """Whom this tracker can ask for copies (`sources`), and the hops that it can send to (`publishers`). `away`: why
    some of the sources do not answer now."""

    sources: Collection[Keeper]
    publishers: Collection[str]
    away: Mapping[Keeper, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """A message that can be sent: `ways` in the order in which they are tried, `attempt` how often it was sent before.
    `passed_over`: why the sources before these cannot give it. `line`: its key or partition, where the flow asks for
    order; those of a line are sent one after the other."""

    message_id: str
    ways: tuple[Way, ...]
    attempt: int
    missing: tuple[Missing, ...]
    passed_over: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    line: str = ""
    origin_at: int = 0

    @property
    def way(self) -> Way:
        """The one that is tried first."""
        return self.ways[0]


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
    """What a dry run shows and a replay keeps. `follow_up` in microseconds; `checked` None: no copy was looked at.
    `objection`: why a second person must say yes, in words; `budget` and what is `left` of it: of `auto` only."""

    flow: str
    items: tuple[Item, ...]
    refused: tuple[Refused, ...]
    mode: str
    rate: float
    max_attempts: int
    follow_up: int
    identity: str
    order_risk: str
    in_flight: int = IN_FLIGHT
    seen_by: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checked: Checked | None = None
    objection: str = ""
    budget: str = ""
    left: int | None = None

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
        return bool(self.objection)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of findings that it is for."""
        return frozenset(kind for item in self.items for kind in item.kinds)

    @property
    def targets(self) -> tuple[str, ...]:
        """The hops that it may send to."""
        return tuple(sorted({way.target for item in self.items for way in item.ways}))

    def summary(self) -> dict[str, Any]:
        """The plan as JSON, without the messages themselves."""
        sources = Counter(f"{item.way.source}: {item.way.locator.hop}" for item in self.items)
        reasons = Counter(one.reason for one in self.refused)
        return {
            "flow": self.flow,
            "messages": len(self.items),
            "bytes": self.size,
            "sources": dict(sources),
            "targets": list(self.targets),
            "why_these_sources": _passed_over(self.items),
            "consumers": _consumers(self.items, self.seen_by),
            "refused": {reason: _refusals(reason, count, self.refused) for reason, count in reasons.items()},
            "integrity": _integrity(self.checked),
            "order_risk": self.order_risk,
            "mode": self.mode,
            "needs_approval": self.needs_approval,
            "why_approval": self.objection,
            "budget": self.budget,
            "budget_left": self.left,
            "rate": self.rate,
            "estimated_seconds": round(self.seconds, 3),
            "max_attempts": self.max_attempts,
            "in_flight": self.in_flight,
            "lines": len({item.line for item in self.items if item.line}),
            "follow_up_seconds": self.follow_up / SECOND,
            "identity": self.identity,
            "examples": [item.message_id for item in self.items[:EXAMPLES]],
        }


def make(
    spec: FlowSpec,
    wanted: Sequence[Wanted],
    copies: Mapping[Keeper, Mapping[str, Locator]],
    connected: Connected,
    past: Mapping[str, Past],
    rate: float | None = None,
    *,
    source: str = "",
    to: str = "",
    left: int = 0,
    keys: Mapping[str, str] = NO_KEYS,
) -> Plan:
    """The plan for `wanted`. `copies` by keeper, then by message id, is where each of them holds what.

    Items come in the order of the log (partition, offset), so that order within a partition is kept among them; where
    the flow asks for order, as `_in_lines` has them, by the `keys` of messages. `rate` in messages per second; without
    it, or above the flow's own, the flow's own counts. `source` and `to` as in `Selection`. `left`: messages that the
    budget of `auto` still has.
    """
    policy = spec.replay
    routing = _Routing(spec, choices(spec, source), to, copies, connected)
    judged = [_judge(routing, one, past.get(one.message_id, Past())) for one in wanted]
    items = [one for one in judged if isinstance(one, Item)]
    items = _in_lines(items, order_of(spec), keys)
    auto = policy.mode == "auto"
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
        in_flight=policy.in_flight,
        seen_by={hop: readers(spec, hop) for hop in {item.way.target for item in items}},
        objection=objection(policy, {kind for item in items for kind in item.kinds}, len(items), left),
        budget=str(policy.budget) if auto else "",
        left=left if auto else None,
    )


def with_sample(plan: Plan, checked: Checked) -> Plan:
    """The same plan, with what a look at some of its copies showed."""
    return replace(plan, checked=checked)


@dataclass(frozen=True, slots=True)
class _Routing:
    """What is the same for every message of a plan."""

    spec: FlowSpec
    choices: Sequence[Choice]
    to: str
    copies: Mapping[Keeper, Mapping[str, Locator]]
    connected: Connected


def _judge(routing: _Routing, one: Wanted, past: Past) -> Item | Refused:
    if not one.missing:
        return Refused(one.message_id, "nothing_missing", "no finding of it is open in this selection")
    if past.busy:
        return Refused(one.message_id, "busy", _BUSY[past.over].format(past.busy))
    allowed = routing.spec.replay.max_attempts
    if past.attempts >= allowed:
        detail = (
            f"sent again {past.attempts} times already and `max_attempts` is {allowed}: find out why it did not help"
        )
        return Refused(one.message_id, "exhausted", detail)
    ways: list[Way] = []
    reasons: list[tuple[str, str]] = []
    for choice in routing.choices:
        where = target(routing.spec, choice, one.missing, routing.to)
        refusal = _unusable(routing, choice, where, one.message_id)
        if refusal is None:
            ways.append(Way(choice.kind, routing.copies[choice.keeper][one.message_id], where))
        elif not ways:
            reasons.append(refusal)
    if ways:
        kinds = one.kinds or frozenset(missing.kind for missing in one.missing)
        whys = tuple(why for _, why in reasons)
        return Item(one.message_id, tuple(ways), past.attempts, one.missing, whys, kinds, origin_at=one.origin_at)
    if not reasons:
        detail = "the flow names no source: add `replay: {sources: [log: HOP]}` to its spec"
        return Refused(one.message_id, "no_source", detail)
    return Refused(one.message_id, reasons[0][0], "; ".join(detail for _, detail in reasons))


_BUSY = {
    False: "replay {} is sending it: wait for that one, or cancel it",
    True: "replay {} has ended and may have sent it, which nobody has seen yet: bring the collectors of its target and "
    "of where it is missing back; if they never come, `tracker incidents park`, and `reopen` once it is parked",
}


def _unusable(routing: _Routing, choice: Choice, where: str, message_id: str) -> tuple[str, str] | None:
    """Why this source cannot give the message (a word, a sentence); None when it can."""
    connected = routing.connected
    if choice.keeper not in connected.sources:
        return "not_connected", f"{choice}: this tracker cannot read it, add it to the file that TRACKER_HOPS names"
    if not where:
        return "no_target", f"{choice}: no hop that keeps messages lacks it; say where to send it with `to`"
    if where not in connected.publishers:
        missing = f"this tracker cannot send to {where}, add it to the file that TRACKER_HOPS names"
        return "not_connected", f"{choice}: {missing}"
    if choice.keeper in connected.away:
        return "away", f"{choice}: it does not answer now: {connected.away[choice.keeper]}"
    if message_id not in routing.copies.get(choice.keeper, {}):
        never = {LOG: "it was never seen to keep this message, or dropped it"}
        return "no_copy", f"{choice}: {never.get(choice.keeper.kind, 'it does not hold it')}"
    return None


def order_of(spec: FlowSpec) -> str:
    """What the flow asks order by: `partition`, `key`, or nothing. A partition holds whole keys."""
    asked = {checkpoint.order for checkpoint in spec.checkpoints}
    return next((by for by in ("partition", "key") if by in asked), "")


def _in_lines(items: list[Item], by: str, keys: Mapping[str, str]) -> list[Item]:
    """In the order of sending, each with its line: first the first of every line, then the second of every line, and so
    on, so that a batch holds as few of one line as can be: those wait for each other.

    Within a line as their log has them; where not all copies are in one log, as they were produced.
    """
    items = sorted(items, key=_in_order)
    if not by:
        return items
    lines: dict[str, list[Item]] = {}
    for item in items:
        line = item.way.locator.partition if by == "partition" else keys.get(item.message_id, "")
        lines.setdefault(line, []).append(replace(item, line=line))
    for line, several in lines.items():
        if line and {item.way.keeper for item in several} != {Keeper(LOG, several[0].way.locator.hop)}:
            several.sort(key=lambda item: (item.origin_at, *_in_order(item)))
    free = lines.pop("", [])
    ranked = [(rank, *_in_order(item), item) for several in lines.values() for rank, item in enumerate(several)]
    return free + [one[-1] for one in sorted(ranked, key=lambda one: one[:-1])]


def _in_order(item: Item) -> tuple[str, str, int, str]:
    place = item.way.locator
    return item.way.target, place.partition, place.offset, item.message_id


def _passed_over(items: Sequence[Item]) -> dict[str, int]:
    """Why not the sources before: reasons with how many messages."""
    return dict(Counter(reason for item in items for reason in item.passed_over))


def _consumers(items: Sequence[Item], seen_by: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """What those behind the targets will see: how many that they lack, and how many once more."""
    counts: dict[str, Counter[str]] = {}
    for item in items:
        lacking = {missing.hop for missing in item.missing}
        for hop in seen_by.get(item.way.target, ()):
            counts.setdefault(hop, Counter())["missing" if hop in lacking else "again"] += 1
    return {hop: dict(found) for hop, found in sorted(counts.items())}


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
