"""Verdicts on columns: for plain messages what the reference says, and every other one left to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from tests.unit.model.case import ORDERS, event, flow, moved, source, vouched
from tests.unit.reconcile.folding import shape_of, states
from tracker.model.counted import BAD, BLIND, COMPLETE, DUPLICATED, GOOD
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Stage
from tracker.model.judge import patience
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Flag
from tracker.reconcile.plain import FLAGS, VERDICTS, Court, Plain, _patience, judge_plain
from tracker.reconcile.rows import of_plain, timers
from tracker.store.shape import MAX_DELIVERIES

MADE = event("shop:produce", 0)
KEPT = event("log:persist", 1)
COPY = event("mirror:replicate", 2)
DONE = event("billing:ack", 3, delivery="d1")
ALL = [MADE, KEPT, COPY, DONE]


def court(spec: FlowSpec, now: float, coverage: Coverage | None = None, **more: Any) -> Court:
    """The court of a pass at `now` seconds."""
    at = round(now * SECOND)
    return Court.of(shape_of(spec), at, coverage or vouched(spec), **more)


def plainly(events: list[Event], now: float, spec: FlowSpec = ORDERS, **known: Any) -> tuple[str, set[str], float]:
    """(verdict or empty, flags, when to look again) of one message."""
    judged = judge_plain(court(spec, now), states(shape_of(spec), {"m": events}, **known))
    return VERDICTS[judged.codes[0]], _flags(judged, 0), int(judged.look_again[0]) / SECOND


def _flags(judged: Plain, row: int) -> set[str]:
    return {flag for n, flag in enumerate(FLAGS) if judged.flags[row] >> n & 1}


def test_the_three_plain_verdicts() -> None:
    """In flight until the next deadline; delivered or late when nothing is missing."""
    assert plainly([MADE, KEPT], 3) == ("in_flight", set(), 21)
    assert plainly(ALL, 4) == ("delivered", set(), 0)
    assert plainly([MADE, KEPT, COPY, event("billing:ack", 22)], 30) == ("late", set(), 0)


def test_a_passed_deadline() -> None:
    """Overdue where coverage reaches, unknown where it does not, and then looked at again a second later."""
    assert plainly([MADE, KEPT], 20.9)[0] == "in_flight"
    assert plainly([MADE, KEPT], 21)[0] == "unacknowledged"
    assert plainly([MADE], 21)[0] == "lost"
    assert plainly([MADE, KEPT, DONE], 32)[0] == "under_replicated"
    behind = vouched(ORDERS, but={"billing:ack": [source((-9, 20))]})
    judged = judge_plain(court(ORDERS, 21, behind), states(shape_of(ORDERS), {"m": [MADE, KEPT]}))
    assert (VERDICTS[judged.codes[0]], judged.look_again[0]) == ("blind", 22 * SECOND)


def test_whose_copy_is_left_is_unclear() -> None:
    """A hop that kept deliveries and gave some away: how many of which, states do not know."""
    assert plainly([MADE, KEPT, event("log:ack", 2)], 4)[0] == "in_flight"
    assert plainly([MADE, KEPT, event("log:ack", 2)], 21)[0] == ""


@pytest.mark.parametrize(
    "odd",
    [
        event("billing:drop", 3, reason="filtered"),
        event("billing:dead_letter", 3, reason="poison"),
        event("billing:ack", 3, observed_from=1),
        event("billing:ack", 3, backfill=True),
        event("mirror:replicate", 3, digest="bb"),
    ],
)
def test_what_columns_cannot_say_goes_to_the_reference(odd: Event) -> None:
    """Drops, dead letters, intervals, backfills, and payloads that differ."""
    made = [structs.replace(e, digest="aa") if e.stage == Stage.persist else e for e in (MADE, KEPT)]
    assert plainly([*made, odd], 4)[0] == ""


def test_a_retry_is_plain() -> None:
    """A dead letter to be tried again is a nack, and a nack is nothing."""
    assert plainly([MADE, KEPT, event("billing:dead_letter", 3, reason="retry")], 4)[0] == "in_flight"


def test_skew_begins_beyond_a_second() -> None:
    """An ack may be dated up to a second before what it follows; by a microsecond more, a clock is wrong."""
    for early, flags in ((1, set()), (1 + 1e-6, {"skewed"}), (30, {"skewed"})):
        events = [event("shop:produce", 99), event("log:persist", 100), event("mirror:replicate", 101),
                  event("billing:ack", 100 - early)]  # fmt: skip
        assert plainly(events, 109)[:2] == ("delivered", flags)


def test_patience_is_the_references() -> None:
    """For whoever is a little, much or not behind, due just now or long ago."""
    spans = [-SECOND, -1, 0, 1, 19, 20, 21, SECOND, 7 * SECOND + 13, 39 * SECOND, 400 * SECOND, 1 << 60]
    cases = [(behind, since) for behind in spans for since in (*spans, 15 * SECOND + 1, 17 * 16 * SECOND + 5)]
    columns = np.array(cases, dtype=np.int64)
    found = _patience(columns[:, 0], columns[:, 1])
    assert found.dtype == np.int64
    assert found.tolist() == [patience(*case) for case in cases]


def test_what_was_found_once_stays_with_the_reference() -> None:
    """Its findings have to be resolved."""
    assert plainly(ALL, 4, found=True)[0] == ""


def test_older_origins_belong_to_an_older_spec() -> None:
    """From the moment on at which the newest version is in force it judges here."""
    table = states(shape_of(ORDERS), {"m": ALL})
    assert judge_plain(court(ORDERS, 4, in_force_from=0), table).codes[0] > 0
    assert judge_plain(court(ORDERS, 4, in_force_from=1), table).codes[0] == 0


def test_a_quorum_counts_nodes() -> None:
    """On one node it is short: waited for, and then under-replicated; nothing behind it waits."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2")
    other = structs.replace(KEPT, node="n2")
    assert plainly([MADE, KEPT], 2, spec)[0] == "in_flight"
    assert plainly([MADE, KEPT], 5, spec)[0] == "under_replicated"
    assert plainly([MADE, KEPT, other], 5, spec)[0] == "delivered"


def test_too_many_deliveries_go_to_the_reference() -> None:
    """States keep them only up to a bound."""
    many = [event("billing:ack", 3, delivery=f"d{n}") for n in range(MAX_DELIVERIES)]
    assert plainly([MADE, KEPT, COPY, *many[1:]], 4)[0] == "delivered"
    assert plainly([MADE, KEPT, COPY, *many], 4)[0] == ""


def test_a_range_behind_which_more_comes_goes_to_the_reference() -> None:
    """Its start is kept, its end is what the next deadline counts from; alone at the end of a path it is plain."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: billing, stage: ack, after: log, within: 20s",
        "hop: mail, stage: ack, after: billing, within: 5s",
    )
    stored = event("log:persist", 1, partition="p", offset=7)
    passed = [moved("billing:ack", "log", 0, 9, 2, 12)]
    folded: dict[str, Any] = {"ranges": passed, "targets": [("billing", "ack")]}
    assert judge_plain(court(spec, 30), states(shape_of(spec), {"m": [stored]}, **folded)).codes[0] == 0
    alone = flow("hop: log, stage: persist", "hop: billing, stage: ack, after: log, within: 20s")
    assert judge_plain(court(alone, 30), states(shape_of(alone), {"m": [stored]}, **folded)).codes[0] == 3
    beside = [stored, event("billing:ack", 25)]
    assert judge_plain(court(alone, 30), states(shape_of(alone), {"m": beside}, **folded)).codes[0] == 0


def test_a_gap_is_left_to_the_reference_when_its_collector_got_there() -> None:
    """Until then it is looked at again."""
    gone = [MADE, COPY, DONE]
    table = states(shape_of(ORDERS), {"m": gone})
    behind = vouched(ORDERS, but={"log:persist": [source((-9, 1))]})
    judged = judge_plain(court(ORDERS, 10, behind), table)
    assert (VERDICTS[judged.codes[0]], judged.look_again[0]) == ("delivered", 10 * SECOND + (10 * SECOND) // 4)
    assert judge_plain(court(ORDERS, 10), table).codes[0] == 0


def test_many_messages_at_once() -> None:
    """Each row on its own, whatever stands beside it."""
    again = event("billing:ack", 3, delivery="d2")
    messages = {"a": ALL, "b": [MADE, KEPT], "c": [*ALL, again], "d": [KEPT, COPY, DONE], "e": [MADE]}
    judged = judge_plain(court(ORDERS, 6), states(shape_of(ORDERS), messages))
    assert [VERDICTS[code] for code in judged.codes] == ["delivered", "in_flight", "delivered", "", "lost"]
    assert [_flags(judged, row) for row in range(3)] == [set(), set(), {Flag.duplicated}]


def test_rows_and_timers() -> None:
    """The rows judged here, with verdict, flags and one timer each where a look is due; a timer already set, and
    not later, is kept."""
    messages = {"a": ALL, "b": [MADE, KEPT], "e": [MADE]}
    for timer, set_now in ((0, ["b", "e"]), (7, []), (23, ["b"]), (30, ["b", "e"])):
        known: dict[str, Any] = {"timer_at": timer * SECOND, "tenant": "", "flow": "orders", "pass": 1}
        table = states(shape_of(ORDERS), messages, **known)
        kept = of_plain(table, judge_plain(court(ORDERS, 6), table), 6 * SECOND)
        assert kept["message_id"].to_pylist() == ["a", "b", "e"]
        assert kept["verdict"].to_pylist() == ["delivered", "in_flight", "lost"]
        assert kept["found"].to_pylist() == [False, False, True]
        assert kept["look_again"].to_pylist() == [0, 21 * SECOND, 25 * SECOND]
        assert timers(kept, 6 * SECOND)["message_id"].to_pylist() == set_now
        assert kept["counted"].to_pylist() == [GOOD | COMPLETE, 0, BAD]


def test_what_messages_are_counted_as() -> None:
    """What they were counted as before stays, whatever they are now; a duplicate is noticed."""
    twice = [*ALL, event("billing:ack", 3, delivery="again")]
    for before in (0, BAD, BLIND):
        table = states(shape_of(ORDERS), {"a": ALL, "b": [MADE, KEPT], "d": twice}, counted_was=before, tenant="")
        kept = of_plain(table, judge_plain(court(ORDERS, 6), table), 6 * SECOND)
        good = before | GOOD | COMPLETE
        assert kept["counted"].to_pylist() == [good, before, good | DUPLICATED]
        assert kept["counted_was"].to_pylist() == [before] * 3
