"""Which minutes nobody watched, as far as reports told when the minute was looked at. Pure.

What is told later does not change it: passes count messages when they hear of them, so a collector that comes back
makes its minutes complete, and the counts of the minutes after it too large.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tracker.model.coverage import SOURCE_TTL, Interval, join
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store.vouched import Run

MINUTE = 60
Place = tuple[str, str, str]
"""flow, hop, stage; hop and stage are empty for the whole flow."""
Unwatched = tuple[str, str, str, int, int]
"""Flow, hop, stage, minute in epoch s, seconds of it."""


def places(spec: FlowSpec) -> list[Place]:
    """The flow as a whole, then its checkpoints; alternative hops are one, named as in `store.latencies`."""
    return [(spec.flow, "", ""), *((spec.flow, "|".join(c.hop), c.stage.value) for c in spec.checkpoints)]


def unwatched(
    specs: Iterable[FlowSpec], runs: Iterable[Run], refusals: Iterable[Run], minutes: Sequence[int]
) -> list[Unwatched]:
    """Seconds that no report vouched for, of every place with a source and each of `minutes`, where there are any; of a
    flow as a whole those of the checkpoints that messages begin at. Where nobody ever announced himself coverage is
    assumed, and nothing is said."""
    if not minutes:
        return []
    start, end = minutes[0] * SECOND, (minutes[-1] + MINUTE) * SECOND
    vouched = _vouched(runs, start, end)
    told = [(run.flow, run.hop, run.stage, (run.start, run.end)) for run in refusals
            if run.start < end and run.end > start]  # fmt: skip
    found: list[Unwatched] = []
    for spec in specs:
        for (flow, hop, stage), spans in _missing(spec, vouched, told, (start, end)).items():
            for minute in minutes:
                low = minute * SECOND
                seconds = round(_within(spans, low, low + MINUTE * SECOND) / SECOND)
                if seconds:
                    found.append((flow, hop, stage, minute, seconds))
    return found


Gaps = dict[Place, list[Interval]]


def _missing(spec: FlowSpec, vouched: Gaps, told: Sequence[tuple[str, str, str, Interval]], span: Interval) -> Gaps:
    found: Gaps = {}
    for n, point in enumerate(spec.checkpoints):
        stage = point.stage.value
        spans = [gap for hop in point.hop for gap in vouched.get((spec.flow, hop, stage), ())]
        spans += [lost for flow, hop, of, lost in told
                  if flow in (spec.flow, "") and hop in (*point.hop, "") and of in (stage, "")]  # fmt: skip
        if spans:
            found[spec.flow, "|".join(point.hop), stage] = list(join(spans))
            if not spec.paths.before[n]:
                found[spec.flow, "", ""] = list(join([*found.get((spec.flow, "", ""), ()), *spans]))
    return found


def _vouched(runs: Iterable[Run], start: int, end: int) -> Gaps:
    """By place: the parts of [start, end) that one of its sources was open for, and nobody vouched for."""
    sources: dict[Place, dict[str, list[Run]]] = {}
    for run in runs:
        sources.setdefault((run.flow, run.hop, run.stage), {}).setdefault(run.source, []).append(run)
    found: Gaps = {}
    for place, named in sources.items():
        gaps: list[Interval] = []
        opened = [_open_span(some, start, end) for some in named.values()]
        for some, (low, high) in zip(named.values(), opened, strict=True):
            gaps += _gaps([(run.start, run.end) for run in some], low, high)
        if not any(high > low for low, high in opened) and not _signed_off(named):
            gaps.append((start, end))
        if gaps:
            found[place] = gaps
    return found


def _open_span(runs: Sequence[Run], start: int, end: int) -> Interval:
    """The part of [start, end) in which a source was open: from its first word, until it signed off or was given up."""
    last = max(runs, key=lambda run: run.end)
    closed = last.end if last.signed_off else last.end + SOURCE_TTL
    return max(start, min(run.start for run in runs)), min(end, closed)


def _signed_off(named: Mapping[str, Sequence[Run]]) -> bool:
    last = max((run for some in named.values() for run in some), key=lambda run: run.end)
    return last.signed_off


def _gaps(intervals: Iterable[Interval], low: int, high: int) -> list[Interval]:
    gaps = []
    for start, end in join([i for i in intervals if i[1] > low and i[0] < high]):
        if start > low:
            gaps.append((low, start))
        low = max(low, end)
    return gaps + ([(low, high)] if low < high else [])


def _within(spans: Iterable[Interval], low: int, high: int) -> int:
    return sum(max(0, min(high, end) - max(low, start)) for start, end in spans)
