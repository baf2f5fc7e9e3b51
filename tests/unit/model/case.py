"""One message before the judge, told briefly. Times are seconds; all is vouched for unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Range, Stage
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.model.verdict import CheckpointState, Judgement

ORDERS = load_spec("""
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: log, stage: persist, after: shop, within: 5s}
  - {hop: mirror, stage: replicate, after: log, within: 30s, same_payload: true}
  - {hop: billing, stage: ack, after: log, within: 20s, at_most: 1}
""")
"""shop -> log -> (mirror, billing)"""


def flow(*checkpoints: str) -> FlowSpec:
    """A spec of checkpoints as they stand between the braces of YAML."""
    return load_spec("flow: orders\ncheckpoints:\n" + "".join(f"  - {{{point}}}\n" for point in checkpoints))


def event(place: str, at: float, received: float | None = None, **more: Any) -> Event:
    """An observation at `hop:stage`, `at` seconds, received at once unless said."""
    hop, _, stage = place.partition(":")
    for name in ("origin_at", "observed_from"):
        if more.get(name) is not None:
            more[name] = round(more[name] * SECOND)
    fixed: dict[str, Any] = {"flow": "orders", "message_id": "m", "hop": hop, "stage": Stage(stage)}
    times = {
        "observed_at": round(at * SECOND),
        "received_at": round((at if received is None else received) * SECOND),
    }
    return Event(**(fixed | times | more))


def moved(place: str, log: str, offset: int, offset_to: int, since: float, at: float, **more: Any) -> Range:
    """A commit past the offsets [offset, offset_to) of partition `p` of a log, some time in these seconds."""
    hop, _, stage = place.partition(":")
    more = {"received_at": at, **more}
    return Range(
        flow="orders", hop=hop, stage=Stage(stage), log=log, partition="p", offset=offset, offset_to=offset_to,
        observed_from=round(since * SECOND), observed_at=round(at * SECOND), evidence="range",
        received_at=round(more["received_at"] * SECOND),
    )  # fmt: skip


def source(*spans: tuple[float, float], closed: float | None = None, name: str = "s",
           evidence: str = "message") -> SourceCover:  # fmt: skip
    """A source that is vouched for in these seconds."""
    intervals = tuple((round(low * SECOND), round(high * SECOND)) for low, high in spans)
    return SourceCover(name, intervals, None if closed is None else round(closed * SECOND), evidence)


def vouched(spec: FlowSpec, until: float = 1e6, but: Mapping[str, Sequence[SourceCover]] | None = None) -> Coverage:
    """Every checkpoint vouched for until then; `but` gives the sources of some `hop:stage` instead."""
    but = but or {}
    places = {(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop}
    whole = [source((-1e6, until))]
    return Coverage({(hop, stage): list(but.get(f"{hop}:{stage}", whole)) for hop, stage in places})


def judged(
    spec: FlowSpec,
    events: Iterable[Event],
    now: float,
    coverage: Coverage | None = None,
    ranges: Sequence[Range] = (),
) -> Judgement:
    """The judgement at `now` seconds, all vouched for unless said."""
    return judge(spec, list(events), coverage or vouched(spec), round(now * SECOND), ranges)


def state(judgement: Judgement, name: str) -> CheckpointState:
    """The state of the checkpoint `hop:stage`."""
    return next(s for s in judgement.checkpoints if s.name == name)


def statuses(judgement: Judgement) -> dict[str, str]:
    """Status by checkpoint."""
    return {s.name: s.status.value for s in judgement.checkpoints}


def found(judgement: Judgement) -> dict[str, str]:
    """Kind of finding by checkpoint; several are joined by a comma."""
    kinds: dict[str, list[str]] = {}
    for finding in judgement.findings:
        kinds.setdefault(finding.name, []).append(str(finding.kind))
    return {name: ",".join(each) for name, each in kinds.items()}
