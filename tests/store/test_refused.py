"""A line that quarantine got is an observation that we lost: nobody is found missing for it, and of everybody else as
much is known as before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ingest.lines import body
from tests.unit.ingest.spans import body as body_of
from tests.unit.ingest.spans import span
from tests.world.installation import T0, Installation
from tracker.ingest.asked import KnownFlow
from tracker.ingest.lines.decode import decode
from tracker.ingest.otlp.read import Reader
from tracker.ingest.prepare import Context, prepare
from tracker.model.coverage import Coverage, SourceRef
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile
from tracker.reconcile.cover import columns
from tracker.reconcile.refusals import Refusals
from tracker.store.vouched import Run

SPEC = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: billing, stage: ack, after: shop, within: 5s}}
  - {{hop: mail, stage: ack, after: shop, within: 5s, required: false}}
"""
FLOWS = {flow: KnownFlow.of(load_spec(SPEC.format(flow=flow))) for flow in ("orders", "returns")}
PLACES = [(flow, hop, stage) for flow in FLOWS for hop, stage in (("shop", "produce"), ("billing", "ack"))]
Line = dict[str, Any] | bytes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    """With two flows."""
    installation = Installation(tmp_path)
    for flow in FLOWS:
        installation.put(SPEC.format(flow=flow))
    yield installation
    installation.close()


def line(place: str, seconds: float, ident: str, flow: str | None = "orders", **more: Any) -> dict[str, Any]:
    """One as a sender writes it."""
    hop, stage = place.split(":")
    named = {"flow": flow, "message_id": ident, "hop": hop, "stage": stage, "observed_at": _at(seconds)}
    return {name: value for name, value in (named | more).items() if value is not None}


def sent(world: Installation, seconds: float, *lines: Line, report: dict[str, Any] | None = None) -> int:
    """One request, received then; how many of its lines were refused."""
    header = json.dumps(report) if report else ""
    got = prepare(decode(body(*lines)), header, Context(FLOWS, 7, "c", _at(seconds)))
    if got.events.num_rows:
        world.store.insert_events(got.events)
    if got.reports.num_rows:
        world.store.insert_reports(got.reports)
    return got.answer.quarantined


def reported(number: int, lag_ms: int = 100, **more: Any) -> dict[str, Any]:
    """The report of a collector that watches both flows."""
    sources = [dict(zip(("flow", "hop", "stage"), place, strict=True), source="s") for place in PLACES]
    return {"collector": "c", "epoch": 1, "sequence": number, "lag_ms": lag_ms, "sources": sources} | more


def passed(world: Installation, seconds: float) -> None:
    """A pass at that time."""
    world.now = _at(seconds)
    world.run_pass()


def verdicts(world: Installation, flow: str = "orders") -> dict[str, str]:
    """By message."""
    return {state["message_id"]: state["verdict"] for state in world.store.message_states(flow)}


def spots(world: Installation, flow: str = "orders") -> set[tuple[str, str]]:
    """(hop, cause) of the flow's blind spots between seconds 8 and 12."""
    books = reconcile(world.store, world.control, load_spec(SPEC.format(flow=flow)), _at(8), _at(12))
    return {(spot.hop, spot.cause) for spot in books.blind_spots if spot.hop != "mail"}


def _at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def test_whose_line_was_refused_is_blind(world: Installation) -> None:
    """Its batch came a tenth of a second after what it held, as batches do. Who is missing a moment later is found."""
    lines = [
        *(line("shop:produce", at, ident) for at, ident in ((5.5, "paid"), (5.92, "refused"), (7.5, "lost"))),
        line("billing:ack", 5.6, "paid"),
        line("billing:ack", 5.95, "refused", digest="none"),
    ]
    for second in range(1, 21):
        mine = [one for one in lines if _at(second - 1) <= one["observed_at"] < _at(second)]
        assert sent(world, second, *mine, report=reported(second)) == (second == 6)
    passed(world, 20)
    assert verdicts(world) == {"paid": "delivered", "refused": "blind", "lost": "unacknowledged"}


def assumed(world: Installation, refused: Line, ident: str = "refused") -> None:
    """Nobody reports. Of three messages in each flow none has an ack; a line is refused in the time of the second."""
    for flow in FLOWS:
        sent(world, 1, line("shop:produce", 1, "paid", flow), line("billing:ack", 1, "paid", flow))
        sent(world, 2, line("shop:produce", 2, "before", flow))
        sent(world, 10, line("shop:produce", 10, ident, flow))
        sent(world, 12, line("shop:produce", 12, "after", flow))
    assert sent(world, 10.5, refused) == 1


KNOWN = {"paid": "delivered", "before": "unacknowledged", "refused": "unacknowledged", "after": "unacknowledged"}
BLIND = KNOWN | {"refused": "blind"}


def test_where_coverage_is_assumed_it_is_blind_too(world: Installation) -> None:
    """Nobody reports from there, and what came last vouches for nothing around a refused line: before it and after it
    it does, and so it does for other flows; a restart, and a pass that is done again, change nothing."""
    assumed(world, line("billing:ack", 10.4, "refused", digest="none"))
    passed(world, 11)
    passed(world, 30)
    for _ in range(2):
        assert (verdicts(world), verdicts(world, "returns")) == (BLIND, KNOWN)
        assert (spots(world), spots(world, "returns")) == ({("billing", "refused")}, set())
        world.cut_short()
        passed(world, 30)
    sent(world, 40, line("shop:persist", 40, "refused"))
    passed(world, 41)
    assert verdicts(world) == BLIND
    assert {f.message_id for f in world.store.findings("orders")} == {"before", "after"}


@pytest.mark.parametrize(
    ("refused", "orders", "returns"),
    [
        (line("billing:sent", 10.4, "refused"), BLIND, KNOWN),
        (line("billing:ack", 10.4, "refused", hop=None), BLIND, KNOWN),
        (line("billing:ack", 10.4, "refused", stage=None, hop="mail"), KNOWN, KNOWN),
        (line("mail:ack", 10.4, "refused", digest="none"), KNOWN, KNOWN),
        (line("biling:ack", 10.4, "refused", digest="none"), BLIND, KNOWN),
        (line("shop:drop", 10.4, "refused"), BLIND, KNOWN),
        (line("mail:dead_letter", 10.4, "refused", reason="no such word", digest="none"), BLIND, KNOWN),
        (line("billing:ack", 10.4, "refused", flow=None), BLIND, BLIND),
        (line("billing:ack", 10.4, "refused", flow="unheard-of"), KNOWN, KNOWN),
        (b'{"flow": "orders", "hop": "bil', BLIND, BLIND),
    ],
    ids=[
        "no stage",
        "no hop",
        "another hop",
        "another place",
        "a hop that is none",
        "drop",
        "dead letter",
        "no flow",
        "unknown flow",
        "no line",
    ],
)
def test_blindness_reaches_where_the_line_may_belong(
    world: Installation, refused: Line, orders: dict[str, str], returns: dict[str, str]
) -> None:
    """What can be told of it narrows that down; what cannot may be any."""
    assumed(world, refused)
    passed(world, 30)
    assert (verdicts(world), verdicts(world, "returns")) == (orders, returns)


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize("field", ["tracker.digest", "messaging.kafka.offset", "tracker.origin_at"])
def test_a_span_that_cannot_be_read_blinds_its_place(world: Installation, field: str, reported: bool) -> None:
    """Where it belongs its service tells, whatever else it says: nobody else is blind, and whoever it told of is."""
    here = [SourceRef("orders", "billing", "ack", "s")]
    for flow in FLOWS:
        sent(world, 1, line("shop:produce", 1, "paid", flow), line("billing:ack", 1, "paid", flow))
        sent(world, 10, line("shop:produce", 10, "refused", flow))
    for second in (8, 9, 10, 11, 12, 40):
        world.now = _at(second)
        if second == 11:
            assert span_sent(world, 10.4, {field: "abc"}) == 1
        if reported:
            world.vouch(here)
    passed(world, 60)
    assert (verdicts(world)["refused"], verdicts(world, "returns")["refused"]) == ("blind", "unacknowledged")


def span_sent(world: Installation, seconds: float, more: dict[str, str]) -> int:
    """A span of billing's, received now; how many were refused."""
    own = {
        "tracker.flow": "orders",
        "tracker.hop": "billing",
        "tracker.stage": "ack",
        "messaging.message.id": "refused",
    }
    decoded, _ = Reader([]).read(body_of([span(own | more, "consumer", end=_at(seconds) * 1000)], "billing"))
    got = prepare([decoded], "", Context(FLOWS, 7, "c", world.now))
    world.store.insert_reports(got.reports)
    return got.answer.quarantined


def test_a_source_that_is_gone_blinds_but_its_own_place(world: Installation) -> None:
    """It vouched last 50 minutes ago. A line that does not tell its place may be from there, and then is as old; from
    where others report it is no older than their last report."""
    here = [SourceRef(*place, "s") for place in PLACES]
    world.now = _at(1)
    world.vouch([SourceRef("orders", "mail", "ack", "gone")], collector="gone")
    for second in (1, 1000, 2000, 2600, 2602, 2604, 2994):
        world.now = _at(second)
        world.vouch(here)
    sent(world, 2600, line("shop:produce", 2600, "lost"))
    assert sent(world, 2995, {"flow": "orders"}) == 1
    world.now = _at(3000)
    world.vouch(here)
    for second in (3001, 3002):
        passed(world, second)
        assert verdicts(world) == {"lost": "unacknowledged"}
        assert {(run.hop, (run.start - T0) // SECOND) for run in world.store.refusals()} == {("", 2993), ("mail", 1)}
        world.cut_short()


def test_what_an_older_version_made_of_it_is_no_source(world: Installation) -> None:
    """It took a report of ours for that of a source without a name, which never reports again: nobody waits for it."""
    older = Run(
        flow="orders", hop="billing", stage="ack", source="", evidence="message", collector="", epoch=0,
        first_sequence=T0, last_sequence=T0, start=T0, end=T0, signed_off=False, broken=True,
    )  # fmt: skip
    world.store.keep("coverage", columns([older], 1))
    assumed(world, line("mail:ack", 10.4, "refused", digest="none"))
    passed(world, 30)
    assert (world.store.runs(), verdicts(world)) == ([], KNOWN)


def test_old_refusals_are_few(world: Installation) -> None:
    """Of the last day the store gives every span, of the time before one an hour, however many there are; and so do
    passes, which look after it every hour."""
    place = {"flow": "orders", "hop": "billing", "stage": "ack", "source": ""}
    kept = Refusals([])
    for n in range(48 * 60):
        kept.take({"received": T0 + n * 60 * SECOND, "lag_ms": 0, "sources": [place]}, {})
    world.store.keep("coverage", columns([*kept.changed.values()], 1))
    found = sorted(world.store.refusals("orders"), key=lambda run: run.start)
    assert 24 * 60 <= len(found) <= 24 * 60 + 26
    assert (found[0].start, found[0].last_sequence) == (T0 - 2 * SECOND, T0 + 59 * 60 * SECOND)
    assert (found[-2].end, found[-1].end) == (
        T0 + (48 * 60 - 2) * 60 * SECOND + 1,
        T0 + (48 * 60 - 1) * 60 * SECOND + 1,
    )
    assert len(found) <= len(kept.of("orders")) <= 25 * 60 + 26
    assert Refusals(kept.of("orders")).of("orders") == found
    assert world.store.refusals("returns") == []


def test_a_report_still_vouches_for_other_places(world: Installation) -> None:
    """The header of the batch with the refused line speaks of two flows; the other one goes on as if nothing were."""
    for second in range(1, 21):
        lines: list[Line] = []
        if second == 10:
            lines = [line("shop:produce", 9.5, "one"), line("shop:produce", 9.5, "one", "returns"),
                     line("billing:ack", 9.6, "one", digest="none")]  # fmt: skip
        sent(world, second, *lines, report=reported(second))
    passed(world, 20)
    assert (verdicts(world), verdicts(world, "returns")) == ({"one": "blind"}, {"one": "unacknowledged"})
    assert spots(world, "returns") == set()


def test_a_report_that_is_sent_apart_does_not_vouch_for_it(world: Installation) -> None:
    """Lines come in requests of their own, some seconds late; then the report, which says nothing of a refused one.
    From the last report before it until its receipt nobody knows; from then on everybody does."""
    for second in range(1, 31):
        lines = {
            12: [line("shop:produce", 7, "refused"), line("shop:produce", 7, "lost", "returns")],
            13: [line("billing:ack", 7.5, "refused", digest="none")],
            19: [line("shop:produce", 14, "after")],
        }
        for one in lines.get(second, []):
            sent(world, second - 0.5, one)
        sent(world, second, report=reported(second, lag_ms=5000))
        if second % 10 == 0:
            world.restarted()
            passed(world, second)
    assert verdicts(world) == {"refused": "blind", "after": "unacknowledged"}
    assert verdicts(world, "returns") == {"lost": "unacknowledged"}


def test_a_last_word_with_a_refused_line_counts(world: Installation) -> None:
    """A job signs off in the batch that had one: it is over all the same, and nothing is missed from then on."""
    for second in range(1, 11):
        last = second == 10
        lines = [line("billing:ack", 9.6, "one", digest="none")] if last else []
        off = {"sources": [], "signed_off": reported(1)["sources"]} if last else {}
        sent(world, second, *lines, report=reported(second, **off))
    passed(world, 40)
    found: Coverage = world.store.coverage(load_spec(SPEC.format(flow="orders")))
    assert found.hole("billing", "ack", _at(9.5), _at(10), _at(40)) is not None
    assert found.hole("billing", "ack", _at(10.1), _at(30), _at(40)) is None
