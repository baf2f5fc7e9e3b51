"""Random flows, messages and coverage for the laws of `judge`. Small numbers, so that coincidences are common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tracker.model.coverage import Coverage, SourceCover, join
from tracker.model.event import Event, Range, Stage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND

HOPS = ["h0", "h1", "h2", "h3"]
POINTS = ["produce", "persist", "replicate", "deliver", "ack"]
REASONS = ["filtered", "compacted", "expired", "skipped", "poison", "retry"]


@st.composite
def specs(draw: st.DrawFn) -> FlowSpec:
    """A graph of up to six checkpoints: all-of and any-of, optional, quorums, payloads, outboxes, more beginnings."""
    places = draw(
        st.lists(st.tuples(st.sampled_from(HOPS), st.sampled_from(POINTS)), min_size=1, max_size=6, unique=True)
    )
    points: list[dict[str, Any]] = []
    for n, (hop, stage) in enumerate(places):
        after = draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True)) if n else []
        point: dict[str, Any] = {
            "hop": [hop],
            "stage": stage,
            "after": [f"{places[i][0]}:{places[i][1]}" for i in after],
        }
        other = f"{hop}x"
        if draw(st.integers(0, 5)) == 0:
            point["hop"].append(other)
        if n:
            point["within"] = draw(st.integers(0, 20))
            point["required"] = draw(st.integers(0, 3)) > 0
            point["quorum"] = draw(st.sampled_from([1, 1, 1, 2]))
            point["same_payload"] = bool(after) and draw(st.booleans())
            point["at_most"] = draw(st.sampled_from([None, None, 1, 2]))
        point["outbox"] = draw(st.integers(0, 5)) == 0
        points.append(point)
    return FlowSpec.model_validate({"flow": "f", "checkpoints": points})


@st.composite
def events(draw: st.DrawFn, spec: FlowSpec, size: int = 8, stages: tuple[Stage, ...] = tuple(Stage)) -> Event:
    """One observation at a hop of the spec, or nearly."""
    at = draw(st.integers(-5, 40))
    stage = draw(st.sampled_from(stages))
    return Event(
        flow="f",
        message_id="m",
        hop=draw(st.sampled_from([*spec.hops, *spec.hops, "elsewhere"])),
        stage=stage,
        observed_at=at * SECOND,
        observed_from=draw(st.sampled_from([None, None, None, (at - 9) * SECOND])),
        received_at=(at + draw(st.sampled_from([0, 0, 1, 9, -9]))) * SECOND,
        reason=draw(st.sampled_from(REASONS)) if stage in (Stage.drop, Stage.dead_letter) else "",
        delivery=draw(st.sampled_from(["", "", "d1", "d2"])),
        node=draw(st.sampled_from(["", "n1", "n2"])),
        digest=draw(st.sampled_from(["", "aa", "bb"])),
        replay_id=draw(st.sampled_from(["", "", "", "r1"])),
        partition=draw(st.sampled_from(["", "p"])),
        offset=draw(st.sampled_from([None, 5, 6])),
        backfill=draw(st.integers(0, 9)) == 0,
    )


def histories(spec: FlowSpec, least: int = 1) -> st.SearchStrategy[list[Event]]:
    """What was observed of one message; something at a hop of the spec."""
    known = lambda history: any(e.hop in spec.hops for e in history)  # noqa: E731
    return st.lists(events(spec), min_size=least, max_size=9).filter(known)


@st.composite
def ranges(
    draw: st.DrawFn, spec: FlowSpec, stages: tuple[Stage, ...] = (Stage.ack, Stage.deliver, Stage.drop)
) -> Range:
    """A commit of somebody past some offsets of some log, or a drop of what lay there."""
    low, since, took = draw(st.integers(3, 7)), draw(st.integers(-5, 40)), draw(st.sampled_from([0, 5]))
    stage = draw(st.sampled_from(stages))
    return Range(
        flow="f", hop=draw(st.sampled_from(spec.hops)), stage=stage, group=draw(st.sampled_from(["", "", "g"])),
        reason=draw(st.sampled_from(["skipped", "expired", "compacted", "truncated"])) if stage == Stage.drop else "",
        log=draw(st.sampled_from(spec.hops)), partition=draw(st.sampled_from(["", "p"])), offset=low,
        offset_to=low + draw(st.integers(0, 3)), observed_from=since * SECOND, observed_at=(since + took) * SECOND,
        received_at=(since + took + draw(st.integers(0, 3))) * SECOND, evidence="range",
    )  # fmt: skip


@st.composite
def sources(draw: st.DrawFn) -> SourceCover:
    """What one collector vouches for."""
    span = st.tuples(st.integers(-10, 50), st.integers(0, 60)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    spans = draw(st.lists(st.one_of(span, st.just((-10, 90))), min_size=1, max_size=3))
    intervals = join([(low * SECOND, high * SECOND) for low, high in spans])
    closed = draw(st.sampled_from([None, None, 0, 30]))
    return SourceCover(
        draw(st.sampled_from(["s1", "s2"])),
        intervals,
        None if closed is None else intervals[-1][1] + closed * SECOND,
        draw(st.sampled_from(["message", "message", "message", "range"])),
    )


refusals = st.sampled_from([None, None, None, 1, 12, 40])
"""When a line of a place was refused, seconds."""


@st.composite
def coverages(draw: st.DrawFn, spec: FlowSpec) -> Coverage:
    """Sources announced at every checkpoint, so that nothing is only assumed but what was before."""
    places = sorted({(hop, c.stage.value) for c in spec.checkpoints for hop in c.hop})
    before = {place: draw(st.sampled_from([0, 0, 1, 20])) * SECOND for place in places}
    covers = {place: draw(st.lists(sources(), min_size=1, max_size=3)) for place in places}
    lost = {place: [(at * SECOND, (at + 2) * SECOND)] for place in places if (at := draw(refusals)) is not None}
    return Coverage(covers, assume_for=15 * SECOND, unannounced=before, refused=lost)


@st.composite
def grown(draw: st.DrawFn, coverage: Coverage) -> Coverage:
    """The same sources vouching for more: holes filled, watermarks further on."""
    more: dict[tuple[str, str], list[SourceCover]] = {}
    for place, there in coverage.sources.items():
        more[place] = []
        for cover in there:
            spans = list(cover.intervals)
            if draw(st.booleans()):
                spans.append((spans[0][0], spans[-1][1]))
            if draw(st.booleans()) and cover.closed is None:
                spans.append((spans[-1][1], spans[-1][1] + 30 * SECOND))
            more[place].append(SourceCover(cover.source, join(spans), cover.closed, cover.evidence))
    return replace(coverage, sources=more)


instants = st.integers(-5, 120).map(lambda seconds: seconds * SECOND)
