"""`why`: one sentence that somebody on call understands, with the hops, reasons and times of this message."""

from __future__ import annotations

import pytest

from tests.unit.model.case import ORDERS, event, flow, judged, source, vouched
from tracker.model.coverage import Coverage
from tracker.model.event import Event

MADE = event("shop:produce", 0, digest="aa")
KEPT = event("log:persist", 1, digest="aa")
COPY = event("mirror:replicate", 2, digest="aa")
DONE = event("billing:ack", 3)


@pytest.mark.parametrize(
    ("events", "now", "why"),
    [
        ([MADE, KEPT, COPY, DONE], 9, "Every checkpoint was reached in time."),
        (
            [MADE, KEPT, COPY, event("billing:ack", 30)],
            40,
            "Every checkpoint was reached, but billing:ack after its deadline.",
        ),
        ([MADE, KEPT], 9, "Still on its way, in time: waiting for mirror:replicate, billing:ack."),
        (
            [MADE, KEPT, COPY],
            141,
            "It passed log:persist and then never reached billing:ack, 2m past its deadline; "
            "log, mirror still hold a copy.",
        ),
        (
            [MADE],
            6,
            "It passed shop:produce and then never reached log:persist, 1s past its deadline; no hop holds a copy.",
        ),
        (
            [MADE, event("log:drop", 1, reason="unroutable")],
            2,
            "log dropped it (unroutable), so log:persist cannot happen; no hop holds a copy.",
        ),
        (
            [MADE, KEPT, COPY, event("billing:drop", 2, reason="skipped"),
             event("billing:dead_letter", 2, reason="retry")],
            3,
            "billing dropped it (skipped), so billing:ack cannot happen; log, mirror still hold a copy.",
        ),
        (
            [MADE, KEPT, COPY, event("billing:drop", 2, reason="filtered")],
            3,
            "It ended by design at billing (filtered).",
        ),
        (
            [MADE, KEPT, COPY, event("billing:dead_letter", 2, reason="retry"),
             event("billing:dead_letter", 5, delivery="2", reason="poison")],
            9,
            "billing gave up and dead-lettered it (poison).",
        ),
        (
            [MADE, KEPT, COPY, event("billing:dead_letter", 2)],
            3,
            "billing gave up and dead-lettered it (no reason given).",
        ),
        (
            [MADE, KEPT, event("mirror:replicate", 2, digest="bb"), DONE],
            9,
            "The payload at mirror:replicate differs from the payload before it.",
        ),
    ],
)  # fmt: skip
def test_why(events: list[Event], now: float, why: str) -> None:
    """Where it stopped, since when, who dropped it and why, who still holds it."""
    assert judged(ORDERS, events, now).why == why


@pytest.mark.parametrize(
    ("coverage", "why"),
    [
        (vouched(ORDERS, but={"billing:ack": [source((-9, 5))]}), "its collector has not reported that far"),
        (vouched(ORDERS, but={"billing:ack": [source((-9, 5), (9, 99))]}), "its collector missed a span"),
        (vouched(ORDERS, but={"billing:ack": [source((50, 99))]}), "nobody vouched for it yet at that time"),
        (vouched(ORDERS, but={"billing:ack": []}), "nothing ever came from there"),
        (
            Coverage(vouched(ORDERS, but={"billing:ack": []}).sources, {("billing", "ack"): -900_000_000}),
            "it has been silent too long to vouch",
        ),
    ],
)
def test_why_blind(coverage: Coverage, why: str) -> None:
    """What we do not know, and why we do not."""
    blind = judged(ORDERS, [MADE, KEPT, COPY], 60, coverage)
    assert blind.why == f"Unknown: billing:ack was not seen by its deadline, but {why}, so it may have happened."


def test_why_a_quorum() -> None:
    """Short of nodes is not the same as never reached."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2")
    assert judged(spec, [MADE, KEPT], 6).why == (
        "It passed shop:produce and then reached fewer nodes at log:persist than its quorum, 1s past its deadline; "
        "log still holds a copy."
    )
    dark = vouched(spec, until=2)
    assert judged(spec, [MADE, KEPT], 6, dark).why.startswith("Unknown: log:persist was not seen on enough nodes")
