"""Coverage reports become runs: contiguous stretches that a collector vouches for, and holes between them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.case import ORDERS
from tracker.model.coverage import SOURCE_TTL, Coverage
from tracker.model.units import SECOND
from tracker.reconcile.cover import Cover, columns

PLACE = ("billing", "ack")
NOW = 10_000 * SECOND


def report(sequence: int, at: float, *, source: str = "pod-1", signed_off: bool = False, **more: Any) -> dict[str, Any]:
    """A report on one source of billing, received at `at` seconds."""
    named = {"flow": "orders", "hop": "billing", "stage": "ack", "source": source,
             "evidence": more.pop("evidence", "message")}  # fmt: skip
    fixed = {"collector": "c", "epoch": 1, "lag_ms": 0, "dropped": 0}
    lists = {"sources": [] if signed_off else [named], "signed_off": [named] if signed_off else []}
    return {**fixed, **lists, "sequence": sequence, "received": round(at * SECOND), **more}


def folded(*reports: dict[str, Any]) -> Cover:
    """A cover that took these in one pass."""
    cover = Cover([])
    cover.fold(reports)
    return cover


def coverage(cover: Cover) -> Coverage:
    """What it vouches for in `orders`."""
    return cover.coverage(ORDERS, {})


def spans(cover: Cover) -> list[tuple[float, float]]:
    """The stretches of the one source, in seconds."""
    (there,) = coverage(cover).of(*PLACE)
    return [(low / SECOND, high / SECOND) for low, high in there.intervals]


def stored(cover: Cover, changed: dict[Any, Any]) -> Cover:
    """A cover that knows only what was stored of it, as after a restart."""
    changed |= {(r.collector, r.epoch, r.source, r.first_sequence): r for r in cover.take_changed()}
    return Cover(changed.values())


def test_a_report_is_dated_by_its_receipt_and_lag() -> None:
    """Its collector had seen everything up to then."""
    assert spans(folded(report(1, 10, lag_ms=2000))) == [(8, 8)]


def test_neighbours_vouch_for_all_between_them() -> None:
    """A contiguous sequence is one stretch, however the reports come and how often."""
    one, two, three = report(1, 10), report(2, 20), report(3, 30)
    assert spans(folded(one, two, three)) == [(10, 30)]
    assert spans(folded(one, two, two, one, three)) == [(10, 30)]
    assert spans(folded(one, three)) == [(10, 10), (30, 30)]
    assert spans(folded(one, three, report(2, 31))) == [(10, 30)]


def test_a_later_report_with_more_lag_moves_nothing_back() -> None:
    """Neither the start nor the end: what was vouched for stays so."""
    assert spans(folded(report(1, 10), report(2, 20, lag_ms=15_000))) == [(10, 10)]
    assert spans(folded(report(1, 10), report(2, 20), report(3, 30, lag_ms=15_000))) == [(10, 20)]


def test_dropped_events_break_the_stretch() -> None:
    """From the report before until the one that says so nothing is vouched for."""
    cover = folded(report(1, 10), report(2, 20), report(3, 30, dropped=4), report(4, 40))
    assert spans(cover) == [(10, 20), (30, 40)]


def test_a_new_epoch_begins_anew() -> None:
    """A collector that lost its spool may have lost anything since its last report."""
    assert spans(folded(report(1, 10), report(2, 20), report(1, 30, epoch=2), report(2, 40, epoch=2))) == [
        (10, 20), (30, 40)]  # fmt: skip


def test_a_source_that_a_report_leaves_out_has_a_hole() -> None:
    """Sequence numbers are the collector's; contiguity is the source's."""
    other = report(2, 20, source="pod-2")
    cover = folded(report(1, 10), other, report(3, 30))
    assert {s.source: s.intervals for s in coverage(cover).of(*PLACE)} == {
        "pod-1": ((10 * SECOND, 10 * SECOND), (30 * SECOND, 30 * SECOND)),
        "pod-2": ((20 * SECOND, 20 * SECOND),),
    }


def test_a_report_that_was_overtaken_vouches_for_no_more_than_its_followers() -> None:
    """It was sent before them: its receipt, a minute later, says nothing of that minute."""
    assert spans(folded(report(1, 10), report(3, 30), report(2, 90))) == [(10, 30)]
    assert spans(folded(report(1, 10), report(3, 30), report(4, 40), report(2, 90, dropped=1))) == [(10, 10), (30, 40)]


def test_redundant_collectors_join() -> None:
    """Two collectors of one source: together they have no hole."""
    cover = folded(report(1, 10), report(2, 20), report(1, 15, collector="d"), report(2, 50, collector="d"))
    assert spans(cover) == [(10, 50)]


def test_evidence_is_kept_apart() -> None:
    """Of one source somebody may see messages and somebody else only ranges."""
    cover = folded(report(1, 10), report(1, 11, evidence="range", collector="g"), report(2, 12, evidence=""))
    assert spans(cover) == [(10, 12)]
    assert len(coverage(cover).sources[PLACE]) == 2


@pytest.mark.parametrize("both", [False, True])
def test_a_sign_off_closes_the_source(both: bool) -> None:
    """It was vouched for until then, also by a report that names it as watched and as ended."""
    last = report(3, 30, signed_off=True)
    if both:
        last["sources"] = last["signed_off"]
    (there,) = coverage(folded(report(1, 10), report(2, 20), last)).of(*PLACE)
    assert there.intervals == ((10 * SECOND, 30 * SECOND),)
    assert (there.closed, there.vanished) == (30 * SECOND, False)


def test_a_source_that_comes_back_is_open_again() -> None:
    """By the same collector or another."""
    signed = [report(1, 10), report(2, 20, signed_off=True)]
    for back in (report(3, 30), report(1, 30, collector="d")):
        (there,) = coverage(folded(*signed, back)).of(*PLACE)
        assert there.closed is None
        assert there.intervals[-1][1] == 30 * SECOND


def test_a_source_that_vanished_ends_after_its_time_to_live() -> None:
    """Reckoned from its last report, once others have reported for so long."""
    after = 20 + SOURCE_TTL / SECOND
    early = folded(report(1, 10), report(2, 20), report(1, after, source="pod-2", collector="d"))
    assert all(s.closed is None for s in coverage(early).of(*PLACE))
    late = folded(report(1, 10), report(2, 20), report(1, after + 1, source="pod-2", collector="d"))
    closed = {s.source: s.closed for s in coverage(late).of(*PLACE)}
    assert closed == {"pod-1": 20 * SECOND + SOURCE_TTL, "pod-2": None}
    gone = next(s for s in coverage(late).of(*PLACE) if s.source == "pod-1")
    assert gone.vanished


def test_a_flow_that_all_have_left_ends_by_the_reports_of_others() -> None:
    """Its own reports no longer tell that time goes by."""
    elsewhere = report(1, 21 + SOURCE_TTL / SECOND, collector="d")
    elsewhere["sources"][0]["flow"] = "payments"
    (gone,) = coverage(folded(report(1, 10), report(2, 20), elsewhere)).of(*PLACE)
    assert gone.closed == 20 * SECOND + SOURCE_TTL
    assert gone.vanished


def test_the_time_to_live_stands_still_while_nobody_listens() -> None:
    """After two hours without a tracker, the first collector that reports does not end all the others."""
    there = {"flow": "", "hop": "", "stage": "", "source": "deaf", "evidence": ""}
    back = 30 + 7200
    deaf = report(1, back, collector="", lag_ms=7_200_000, sources=[there])
    other = report(1, back + 3000, source="pod-2", collector="d")
    early = coverage(folded(report(1, 10), report(2, 20), deaf, other))
    assert all(s.closed is None for s in early.of(*PLACE))
    again = report(2, back + 3700, source="pod-2", collector="d")
    late = coverage(folded(report(1, 10), report(2, 20), deaf, other, again))
    assert [s.vanished for s in late.of(*PLACE)] == [True, False]


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (1, 3, 5, 2, 4), (5, 4, 3, 2, 1), (2, 2, 5, 1, 1, 4, 3)])
@pytest.mark.parametrize("dropped", [None, 3])
def test_restarts_in_between_change_nothing(order: tuple[int, ...], dropped: int | None) -> None:
    """What was stored after each report is what is known, rows of joined runs included."""
    cover, whole = Cover([]), Cover([])
    kept: dict[Any, Any] = {}
    for place, sequence in enumerate(order):
        one = report(sequence, 10 * (place + 1), dropped=int(sequence == dropped))
        whole.fold([one])
        cover.fold([one])
        cover = stored(cover, kept)
        assert spans(cover) == spans(whole)


def test_take_changed_gives_each_change_once() -> None:
    """As rows of the coverage table, under the number of their pass."""
    cover = folded(report(1, 10), report(2, 20))
    table = columns(cover.take_changed(), 7)
    assert table.num_rows == 1
    row = {"first_sequence": 1, "last_sequence": 2, "start_at": 10 * SECOND, "end_at": 20 * SECOND, "pass": 7}
    assert table.select(list(row)).to_pylist() == [row]
    assert columns(cover.take_changed(), 8).num_rows == 0
    cover.fold([report(2, 20)])
    assert cover.take_changed() == []


def test_a_flow_leaps_when_a_source_vouches_for_much_at_once() -> None:
    """The first word, one after a silence, and a gap that is filled; not the steady step of a heartbeat. It says from
    when on more is known than at the last leap."""
    cover = folded(report(1, 10))
    assert cover.take_leapt() == {"orders": 10 * SECOND}
    assert cover.take_leapt() == {}
    cover.fold([report(2, 11)])
    assert cover.take_leapt() == {}
    cover.fold([report(3, 60)])
    assert cover.take_leapt() == {"orders": 10 * SECOND}
    cover.fold([report(5, 61)])
    cover.take_leapt()
    cover.fold([report(4, 61)])
    assert cover.take_leapt() == {"orders": 60 * SECOND}


def test_a_flow_leaps_when_a_source_catches_up_in_small_steps() -> None:
    """It is two seconds less behind than it was, however many reports that took; one that lags steadily is not."""
    cover = folded(report(1, 600))
    cover.take_leapt()
    leaps = []
    for n in range(60):  # ten a second, each of which vouches for half a second more
        cover.fold([report(2 + n, 1200 + n / 10, lag_ms=599_000 - 400 * n)])
        leaps += [n] if cover.take_leapt() else []
    assert leaps == [3, 8, 13, 18, 23, 28, 33, 38, 43, 48, 53, 58]
    steady = folded(report(1, 600, lag_ms=600_000))
    steady.take_leapt()
    steady.fold([report(1 + n, 600 + n, lag_ms=600_000) for n in range(1, 60)])
    assert steady.take_leapt() == {}


def test_a_flow_leaps_when_one_that_lags_signs_off() -> None:
    """It ended then, so nothing has been missed since."""
    cover = folded(report(1, 600))
    cover.take_leapt()
    cover.fold([report(2, 660, lag_ms=59_500, signed_off=True)])
    assert cover.take_leapt() == {"orders": 600 * SECOND}
