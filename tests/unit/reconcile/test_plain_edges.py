"""Verdicts on columns where the reference draws its lines: kinds, causes and timers of one message, at the edges."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.case import ORDERS, event, flow, moved, source, vouched
from tests.unit.reconcile.folding import shape_of, states
from tracker.model.coverage import Coverage
from tracker.model.event import Event
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Flag
from tracker.reconcile.plain import FLAGS, NOBODY, VERDICTS, Court, Plain, judge_plain

MADE = event("shop:produce", 0)
KEPT = event("log:persist", 1)
COPY = event("mirror:replicate", 2)
DONE = event("billing:ack", 3)

TWO_LOGS = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s",
    "hop: vault, stage: persist, after: log, within: 5s",
    "hop: desk, stage: ack, after: vault, within: 5s",
)
CHAIN = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s",
    "hop: east, stage: replicate, after: log, within: 5s",
    "hop: west, stage: replicate, after: east, within: 5s",
    "hop: desk, stage: ack, after: west, within: 5s",
)
QUORUM = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s, quorum: 2",
    "hop: desk, stage: ack, after: log, within: 5s",
)


def columns(spec: FlowSpec, events: list[Event], now: float, coverage: Coverage, **folded: Any) -> Plain:
    """One message, judged on columns at `now` seconds."""
    ranges = frozenset((r.hop, r.stage.value) for r in folded.get("ranges", ()))
    court = Court.of(shape_of(spec), round(now * SECOND), coverage, 0, ranges)
    return judge_plain(court, states(shape_of(spec), {"m": events}, **folded))


def same(spec: FlowSpec, events: list[Event], now: float, coverage: Coverage | None = None, **folded: Any) -> str:
    """The verdict, once kinds, causes and the next look were found to be the reference's. It is not left to it."""
    coverage = coverage or vouched(spec)
    plain = columns(spec, events, now, coverage, **folded)
    reference = judge(spec, events, coverage, round(now * SECOND), folded.get("ranges", ()))
    kinds = {s.index: str(s.kind or "") for s in reference.checkpoints}
    causes = {s.index: NOBODY if s.cause is None else s.cause for s in reference.checkpoints}
    assert {i: VERDICTS[code[0]] for i, code in plain.kinds.items()} == kinds
    assert {i: cause[0] for i, cause in plain.causes.items()} == causes
    assert plain.look_again[0] == (reference.look_again or 0)
    assert VERDICTS[plain.codes[0]] == reference.verdict
    return str(reference.verdict)


def left_to_the_reference(spec: FlowSpec, events: list[Event], now: float, coverage: Coverage, **folded: Any) -> bool:
    """It is not judged on columns."""
    return bool(columns(spec, events, now, coverage, **folded).codes[0] == 0)


@pytest.mark.parametrize(
    ("spec", "events", "verdict"),
    [
        (ORDERS, [MADE], "lost"),
        (CHAIN, [MADE, KEPT], "unacknowledged"),
        (CHAIN, [MADE], "lost"),
        (CHAIN, [MADE, KEPT, event("east:replicate", 2)], "unacknowledged"),
        (CHAIN, [MADE, KEPT, event("east:replicate", 2), event("west:replicate", 3)], "unacknowledged"),
        (TWO_LOGS, [MADE, KEPT], "unacknowledged"),
        (TWO_LOGS, [MADE], "lost"),
        (TWO_LOGS, [MADE, KEPT, event("vault:persist", 2)], "unacknowledged"),
        (QUORUM, [MADE, KEPT], "unacknowledged"),
        (QUORUM, [MADE], "lost"),
        (QUORUM, [MADE, KEPT, DONE, event("desk:ack", 4)], "under_replicated"),
    ],
)
def test_what_follows_from_what(spec: FlowSpec, events: list[Event], verdict: str) -> None:
    """A checkpoint behind a missing one takes its kind and names it, but a consumer behind a late copy lacks the
    message itself; what a log before it holds is not lost; a short copy explains nothing behind it."""
    assert same(spec, events, 60) == verdict


def test_whether_a_hole_matters_counts_from_the_last_passage() -> None:
    """Nobody vouched for the consumer before the message was in the log: that is over, and no reason to be blind."""
    before = vouched(ORDERS, but={"billing:ack": [source((-9, 0.2), (0.8, 100))]})
    assert same(ORDERS, [MADE, KEPT, COPY], 40, before) == "unacknowledged"
    after = vouched(ORDERS, but={"billing:ack": [source((-9, 1.2), (1.8, 100))]})
    assert same(ORDERS, [MADE, KEPT, COPY], 40, after) == "blind"


def test_who_lags_is_waited_for_as_long_as_it_lags() -> None:
    """The next look is the reference's, to the microsecond, by how far whoever watches that stage has come."""
    but = {"billing:ack": [source((-9, 20))], "mirror:replicate": [source((-9, 3))]}
    for now in (21, 25.5, 39, 400):
        assert same(ORDERS, [MADE, KEPT, COPY], now, vouched(ORDERS, but=but)) == "blind"


def test_assumed_coverage_ends_before_now() -> None:
    """Where no source ever announced itself, what came from there is vouched for up to a moment ago."""
    heard = {(hop, point.stage.value): 22 * SECOND for point in ORDERS.checkpoints for hop in point.hop}
    assumed = Coverage({}, last_heard=heard)
    assert same(ORDERS, [MADE, KEPT, COPY], 22.5, assumed) == "blind"
    assert same(ORDERS, [MADE, KEPT, COPY], 23.5, assumed) == "unacknowledged"


def test_late_begins_after_the_deadline() -> None:
    """At the deadline itself it is in time."""
    assert same(ORDERS, [MADE, KEPT, COPY, event("billing:ack", 21)], 40) == "delivered"
    assert same(ORDERS, [MADE, KEPT, COPY, event("billing:ack", 21 + 1e-6)], 40) == "late"


def test_one_payload_is_plain() -> None:
    """Only two that differ are for the reference."""
    events = [event("log:persist", 1, digest="aa"), event("mirror:replicate", 2, digest="aa")]
    assert same(ORDERS, [MADE, *events, DONE], 9) == "delivered"


def test_a_gap_is_known_when_its_collector_got_to_the_moment_that_implies_it() -> None:
    """To that very moment; a microsecond less, and it may still come. One that signed off is through with all."""
    events = [MADE, COPY, DONE]
    told = vouched(ORDERS, but={"log:persist": [source((-9, 2))]})
    assert left_to_the_reference(ORDERS, events, 30, told)
    not_yet = vouched(ORDERS, but={"log:persist": [source((-9, 2 - 1e-6))]})
    assert same(ORDERS, events, 30, not_yet) == "delivered"
    later = [event("shop:produce", 10), event("mirror:replicate", 12), event("billing:ack", 13)]
    assert same(ORDERS, later, 30, vouched(ORDERS, but={"log:persist": [source((-9, 11))]})) == "delivered"
    left = vouched(ORDERS, but={"log:persist": [source((-9, 1), closed=1)]})
    assert left_to_the_reference(ORDERS, events, 30, left)


def test_ranges_and_single_messages_together_are_for_the_reference() -> None:
    """Once it is due: which of the two counts, columns do not know."""
    ranges: dict[str, Any] = {"ranges": [moved("billing:ack", "log", 50, 60, 2, 3)]}
    assert same(ORDERS, [MADE, KEPT, COPY], 9, **ranges) == "in_flight"
    assert left_to_the_reference(ORDERS, [MADE, KEPT, COPY], 40, vouched(ORDERS), **ranges)


@pytest.mark.parametrize(
    ("origin", "received", "older"), [(5, 5, False), (4, 5, True), (5, 4, True), (9, 5, False), (5, 9, False)]
)
def test_older_by_its_origin_or_by_its_receipt(origin: float, received: float, older: bool) -> None:
    """Either was before the newest version was in force."""
    made = event("shop:produce", 5, received, origin_at=origin)
    court = Court.of(shape_of(ORDERS), 6 * SECOND, vouched(ORDERS), 5 * SECOND)
    assert (judge_plain(court, states(shape_of(ORDERS), {"m": [made]})).codes[0] == 0) == older


def test_an_id_is_reused_beyond_the_longest_deadline() -> None:
    """Two produces whose origins lie that far apart are still one message; a microsecond more, and they are two."""
    longest = ORDERS.paths.longest / SECOND
    for apart, reused in ((longest, set()), (longest + 1e-6, {Flag.reused_id})):
        events = [MADE, event("shop:produce", 2, origin_at=apart), KEPT, COPY, DONE]
        assert _flags(columns(ORDERS, events, 9, vouched(ORDERS))) == reused


def test_a_range_contradicts_no_clock() -> None:
    """It began before the message was there, and says nothing of when it passed this one."""
    spec = flow("hop: log, stage: persist", "hop: billing, stage: ack, after: log, within: 20s")
    but = {"billing:ack": [source((-9, 100), evidence="range")]}
    stored = event("log:persist", 50, partition="p", offset=7)
    plain = columns(
        spec, [stored], 60, vouched(spec, but=but),
        ranges=[moved("billing:ack", "log", 0, 9, 2, 52)], targets=[("billing", "ack")],
    )  # fmt: skip
    assert VERDICTS[plain.codes[0]] == "delivered"
    assert _flags(plain) == set()


def _flags(plain: Plain) -> set[str]:
    return {flag for n, flag in enumerate(FLAGS) if plain.flags[0] >> n & 1}
