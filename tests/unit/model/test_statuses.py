"""One test and more per row of the status table: what each required checkpoint is, and why."""

from __future__ import annotations

import pytest

from tests.unit.model.case import ORDERS, event, flow, judged, moved, source, state, statuses, vouched
from tracker.model.coverage import Coverage
from tracker.model.judge import judge
from tracker.model.units import SECOND

MADE = event("shop:produce", 0)
KEPT = event("log:persist", 1)
CHAIN = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s",
    "hop: audit, stage: deliver, after: log, within: 5s, required: false",
    "hop: billing, stage: ack, after: audit, within: 20s",
)


# --- seen -------------------------------------------------------------------------------------------------------------


def test_seen_by_any_event_of_the_checkpoint() -> None:
    """The earliest observation counts, however many there are."""
    judgement = judged(ORDERS, [MADE, KEPT, event("billing:ack", 9), event("billing:ack", 4)], 10)
    assert state(judgement, "billing:ack").status == "seen"
    assert state(judgement, "billing:ack").observed_at == 4 * SECOND


def test_any_of_the_alternatives_will_do() -> None:
    """`hop: [east, west]` is seen at either."""
    spec = flow("hop: shop, stage: produce", "hop: [east, west], stage: persist, after: shop, within: 5s")
    assert statuses(judged(spec, [MADE, event("west:persist", 1)], 2)) == {
        "shop:produce": "seen", "east|west:persist": "seen"}  # fmt: skip


def test_an_ack_of_a_dead_lettered_delivery_is_no_evidence() -> None:
    """A consumer that parks a record commits past it; the ack of another delivery is evidence."""
    parked = [event("billing:dead_letter", 5, delivery="d1", reason="poison"), event("billing:ack", 6, delivery="d1")]
    assert state(judged(ORDERS, [MADE, KEPT, *parked], 7), "billing:ack").status == "closed"
    again = event("billing:ack", 9, delivery="d2")
    assert state(judged(ORDERS, [MADE, KEPT, *parked, again], 10), "billing:ack").status == "seen"


def test_the_ack_of_a_retried_delivery_is_evidence() -> None:
    """A dead letter with reason `retry` is a nack."""
    events = [event("billing:dead_letter", 5, delivery="d1", reason="retry"), event("billing:ack", 6, delivery="d1")]
    assert state(judged(ORDERS, [MADE, KEPT, *events], 7), "billing:ack").status == "seen"


def test_events_at_unknown_hops_judge_nothing() -> None:
    """They are kept and shown elsewhere; alone they make no case."""
    stray = event("warehouse:ack", 3)
    assert judged(ORDERS, [MADE, KEPT, stray], 10) == judged(ORDERS, [MADE, KEPT], 10)
    with pytest.raises(ValueError, match=r"^no event at a hop of this flow$"):
        judged(ORDERS, [stray], 10)


# --- short ------------------------------------------------------------------------------------------------------------

THREE = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s, quorum: 3",
    "hop: billing, stage: ack, after: log, within: 20s",
)
NODES = [event("log:persist", 1, node=f"n{n}") for n in range(3)]


def test_short_until_enough_nodes_have_it() -> None:
    """Two of three nodes: pending until the deadline, then overdue, and it holds nothing up."""
    some = [MADE, *NODES[:2], event("log:persist", 2, node="n1", delivery="again")]
    early = state(judged(THREE, some, 4), "log:persist")
    assert (early.status, early.due, early.observed_at) == ("short", "pending", SECOND)
    assert state(judged(THREE, some, 6), "log:persist").due == "overdue"
    assert state(judged(THREE, [MADE, *NODES], 6), "log:persist").status == "seen"
    assert statuses(judged(THREE, [*some, event("billing:ack", 3)], 6))["billing:ack"] == "seen"


def test_short_under_a_hole_is_not_known_to_be_overdue() -> None:
    """The third copy may lie where nobody looked."""
    blind = vouched(THREE, but={"log:persist": [source((-10, 2))]})
    assert state(judged(THREE, [MADE, *NODES[:2]], 6, blind), "log:persist").due == "unknown"


def test_implied_counts_as_one_node() -> None:
    """An ack behind it proves one copy, not three."""
    log = state(judged(THREE, [MADE, event("billing:ack", 3)], 6), "log:persist")
    assert (log.status, log.due, log.observed_at) == ("short", "overdue", None)


# --- implied ----------------------------------------------------------------------------------------------------------


def test_implied_by_a_checkpoint_behind_it() -> None:
    """It has no time and is never late."""
    log = state(judged(ORDERS, [MADE, event("billing:ack", 600)], 601), "log:persist")
    assert (log.status, log.observed_at, log.late) == ("implied", None, False)


@pytest.mark.parametrize("stage", ["nack", "deliver", "drop", "dead_letter"])
def test_implied_by_any_stage_at_a_hop_behind_it(stage: str) -> None:
    """A message that billing refuses must have been in the log."""
    assert (
        statuses(judged(ORDERS, [MADE, event(f"billing:{stage}", 3, reason="poison")], 99))["log:persist"] == "implied"
    )


def test_implied_by_what_an_optional_checkpoint_saw() -> None:
    """Optional is not to be required; seen is seen."""
    assert statuses(judged(CHAIN, [MADE, event("audit:deliver", 3)], 99))["log:persist"] == "implied"


def test_implied_by_what_a_range_proves() -> None:
    """A commit behind it is evidence like an ack behind it."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: billing, stage: deliver, after: log, within: 9s",
        "hop: billing, stage: ack, after: 'billing:deliver', within: 9s",
    )
    group = vouched(spec, but={"billing:ack": [source((-10, 99), evidence="range")]})
    stored = event("log:persist", 1, partition="p", offset=7)
    judgement = judged(spec, [stored], 50, group, [moved("billing:ack", "log", 0, 10, 2, 3)])
    assert statuses(judgement) == {"log:persist": "seen", "billing:deliver": "implied", "billing:ack": "seen"}


def test_not_implied_by_a_hop_that_also_lies_beside_it() -> None:
    """`billing` delivers beside `fraud` and acks behind it: a delivery says nothing of `fraud`."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: fraud, stage: ack, after: shop, within: 9s",
        "hop: billing, stage: deliver, after: shop, within: 9s",
        "hop: billing, stage: ack, after: ['billing:deliver', fraud], within: 9s",
    )
    assert statuses(judged(spec, [MADE, event("billing:deliver", 1)], 30))["fraud:ack"] == "overdue"
    assert statuses(judged(spec, [MADE, event("billing:ack", 1)], 30))["fraud:ack"] == "implied"


# --- closed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "by"),
    [
        (event("billing:dead_letter", 3, reason="poison"), "dead_letter"),
        (event("log:dead_letter", 3, reason="expired"), "dead_letter"),
        (event("billing:drop", 3, reason="filtered"), "design"),
        (event("log:drop", 3, reason="compacted"), "design"),
        (event("log:drop", 3, reason="aborted"), "design"),
        (event("billing:drop", 3, reason="merged"), "design"),
    ],
)
def test_closed_by_its_own_hop_or_one_before(what: object, by: str) -> None:
    """A dead letter and a drop by design both say that it will not come; the clock does not matter then."""
    for now in (4, 400):
        billing = state(judged(ORDERS, [MADE, KEPT, what], now), "billing:ack")  # type: ignore[list-item]
        assert (billing.status, billing.by) == ("closed", by)


def test_not_closed_by_a_hop_beside_it() -> None:
    """What billing filtered, the mirror still has to have."""
    judgement = judged(ORDERS, [MADE, KEPT, event("billing:drop", 3, reason="filtered")], 99)
    assert statuses(judgement)["mirror:replicate"] == "overdue"


@pytest.mark.parametrize("what", [event("billing:dead_letter", 3, reason="retry"), event("billing:nack", 3)])
def test_not_closed_by_a_retry(what: object) -> None:
    """A nack, by whichever name, promises another delivery."""
    assert statuses(judged(ORDERS, [MADE, KEPT, what], 4))["billing:ack"] == "pending"  # type: ignore[list-item]


def test_alternatives_close_only_when_all_that_had_it_gave_up() -> None:
    """West filtered it, east has it still; then east filters it, too."""
    spec = flow("hop: shop, stage: produce", "hop: [east, west], stage: ack, after: shop, within: 5s")
    events = [MADE, event("west:drop", 1, reason="filtered")]
    assert statuses(judged(spec, events, 2))["east|west:ack"] == "closed"
    events.append(event("east:deliver", 1))
    assert statuses(judged(spec, events, 2))["east|west:ack"] == "pending"
    events.append(event("east:drop", 2, reason="filtered"))
    assert statuses(judged(spec, events, 3))["east|west:ack"] == "closed"


# --- overdue by the clock ---------------------------------------------------------------------------------------------


def test_overdue_from_its_deadline_on() -> None:
    """Not a moment before; nobody has to see anything for it."""
    assert statuses(judged(ORDERS, [MADE, KEPT], 20.999999))["billing:ack"] == "pending"
    billing = state(judged(ORDERS, [MADE, KEPT], 21), "billing:ack")
    assert (billing.status, billing.by, billing.deadline) == ("overdue", "deadline", 21 * SECOND)


def test_only_receipts_count() -> None:
    """No hop's clock makes a message overdue or hides that it is."""
    ahead = [event("shop:produce", 9000, received=0), event("log:persist", 9001, received=1)]
    behind = [event("shop:produce", -9000, received=0), event("log:persist", -8999, received=1)]
    for events in (ahead, behind):
        assert statuses(judged(ORDERS, events, 20.9))["billing:ack"] == "pending"
        assert statuses(judged(ORDERS, events, 21))["billing:ack"] == "overdue"


def test_the_latest_of_all_predecessors_counts() -> None:
    """`after: [a, b]` waits for both; each counts from its first receipt."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: a, stage: ack, after: shop, within: 5s",
        "hop: b, stage: ack, after: shop, within: 5s",
        "hop: c, stage: ack, after: [a, b], within: 10s",
    )
    events = [MADE, event("a:ack", 1), event("b:ack", 2, received=4), event("b:ack", 2, received=90, delivery="again")]
    assert state(judged(spec, events, 5), "c:ack").deadline == 14 * SECOND


def test_a_missing_predecessor_counts_at_its_own_deadline() -> None:
    """Nothing waits for ever behind what never comes."""
    judgement = judged(ORDERS, [MADE], 3)
    assert state(judgement, "log:persist").deadline == 5 * SECOND
    assert state(judgement, "billing:ack").deadline == 25 * SECOND


def test_a_beginning_that_was_not_seen_counts_from_the_first_receipt() -> None:
    """An orphan has deadlines, too."""
    assert state(judged(ORDERS, [KEPT], 3), "billing:ack").deadline == 21 * SECOND
    stray = judged(ORDERS, [event("shop:nack", 4)], 5)
    assert state(stray, "log:persist").deadline == 9 * SECOND
    assert state(stray, "shop:produce").status == "pending"


def test_an_optional_checkpoint_does_not_block() -> None:
    """Billing's clock starts at the log, not at the audit between them."""
    judgement = judged(CHAIN, [MADE, KEPT], 22)
    assert statuses(judgement) == {"shop:produce": "seen", "log:persist": "seen", "billing:ack": "overdue"}


def test_a_backfill_is_judged_by_observed_times_at_once() -> None:
    """History that arrives today was overdue then."""
    old = [
        event("shop:produce", 0, received=5000, backfill=True),
        event("log:persist", 1, received=5000, backfill=True),
    ]
    billing = state(judged(ORDERS, old, 5000), "billing:ack")
    assert (billing.status, billing.deadline) == ("overdue", 21 * SECOND)


# --- unknown and pending ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "status"),
    [
        ([(1, 21)], "overdue"),
        ([(-10, 20.9)], "unknown"),
        ([(-10, 10), (10.1, 99)], "unknown"),
        ([(-10, 0.9), (1, 99)], "overdue"),
        ([(1.1, 99)], "unknown"),
    ],
)
def test_coverage_from_the_last_passage_to_the_deadline(spans: list[tuple[float, float]], status: str) -> None:
    """A hole anywhere in it means that it may have happened; a hole before or after means nothing."""
    blind = vouched(ORDERS, but={"billing:ack": [source(*spans)]})
    assert statuses(judged(ORDERS, [MADE, KEPT], 50, blind))["billing:ack"] == status


def test_the_span_begins_when_it_was_observed_if_that_is_earlier() -> None:
    """What lay in a spool for a minute may have been acked in that minute."""
    spooled = event("log:persist", 1, received=61)
    blind = vouched(ORDERS, but={"billing:ack": [source((30, 999))]})
    assert statuses(judged(ORDERS, [MADE, spooled], 99, blind))["billing:ack"] == "unknown"


def test_a_deadline_before_the_last_passage_still_needs_a_witness() -> None:
    """A replica seen long after its turn leaves no span, and yet nothing is guessed for that moment."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: shop, within: 5s",
        "hop: audit, stage: deliver, after: shop, within: 5s, required: false",
        "hop: billing, stage: ack, after: [log, audit], within: 5s",
    )
    events = [MADE, KEPT, event("audit:deliver", 40)]
    assert statuses(judged(spec, events, 50, vouched(spec, until=30)))["billing:ack"] == "unknown"
    assert statuses(judged(spec, events, 50, vouched(spec, until=40)))["billing:ack"] == "overdue"


def test_all_alternatives_have_to_be_covered() -> None:
    """It may have happened at the one that nobody watches."""
    spec = flow("hop: shop, stage: produce", "hop: [east, west], stage: ack, after: shop, within: 5s")
    blind = vouched(spec, but={"west:ack": [source((-10, 3))]})
    judgement = judged(spec, [MADE], 9, blind)
    assert state(judgement, "east|west:ack").status == "unknown"
    hole = state(judgement, "east|west:ack").hole
    assert hole is not None
    assert (hole.hop, hole.cause) == ("west", "behind")


def test_without_any_word_from_a_hop_nothing_is_overdue() -> None:
    """Assumed coverage needs to have heard something once."""
    heard = {("log", "persist"): SECOND, ("shop", "produce"): SECOND}
    silent = judge(ORDERS, [MADE, KEPT], Coverage(last_heard=heard), 100 * SECOND)
    assert statuses(silent)["billing:ack"] == "unknown"
    heard |= {("billing", "ack"): 90 * SECOND}
    assert statuses(judge(ORDERS, [MADE, KEPT], Coverage(last_heard=heard), 100 * SECOND))["billing:ack"] == "overdue"


# --- overdue by a drop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["unroutable", "expired", "purged", "truncated", "discarded", "skipped", "abandoned"]
)
def test_a_drop_that_nobody_asked_for_does_not_wait(reason: str) -> None:
    """It took the copy: no deadline and no coverage are needed to know that it will not come."""
    blind = vouched(ORDERS, until=-5)
    judgement = judged(ORDERS, [MADE, KEPT, event("log:drop", 2, reason=reason)], 3, blind)
    billing = state(judgement, "billing:ack")
    assert (billing.status, billing.by) == ("overdue", "drop")


def test_a_drop_of_one_of_two_copies_is_no_loss_yet() -> None:
    """Only the last copy taken leaves none to come."""
    first = event("log:persist", 1, partition="p", offset=5)
    second = event("log:persist", 2, partition="p", offset=9)
    drop = event("log:drop", 3, partition="p", offset=5, reason="truncated")
    assert statuses(judged(ORDERS, [MADE, first, second, drop], 4))["billing:ack"] == "pending"
    assert statuses(judged(ORDERS, [MADE, first, drop], 4))["billing:ack"] == "overdue"


def test_a_drop_behind_what_was_seen_takes_nothing() -> None:
    """The log may let go of what billing delivered already; billing's ack is due, not dropped."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: billing, stage: deliver, after: log, within: 9s",
        "hop: billing, stage: ack, after: 'billing:deliver', within: 9s",
    )
    events = [KEPT, event("billing:deliver", 2), event("log:drop", 3, reason="expired")]
    assert statuses(judged(spec, events, 4))["billing:ack"] == "pending"


# --- ranges -----------------------------------------------------------------------------------------------------------

STORED = event("log:persist", 1, partition="p", offset=7)


@pytest.mark.parametrize(
    ("low", "high", "status"), [(0, 8, "seen"), (7, 8, "seen"), (0, 7, "pending"), (8, 9, "pending")]
)
def test_a_commit_past_the_offset_is_evidence(low: int, high: int, status: str) -> None:
    """From, and not including to; only of that log and partition."""
    group = vouched(ORDERS, but={"billing:ack": [source((-10, 99), evidence="range")]})
    assert statuses(judged(ORDERS, [MADE, STORED], 9, group, [moved("billing:ack", "log", low, high, 2, 3)]))[
        "billing:ack"] == status  # fmt: skip
    elsewhere = [moved("billing:ack", "mirror", 0, 99, 2, 3), moved("mirror:replicate", "log", 0, 99, 2, 3)]
    assert statuses(judged(ORDERS, [MADE, STORED], 9, group, elsewhere))["billing:ack"] == "pending"


def test_a_range_is_late_only_if_its_start_is() -> None:
    """Of a commit only an interval is known: certainly late means that all of it is."""
    group = vouched(ORDERS, but={"billing:ack": [source((-10, 99), evidence="range")]})
    for since, late in ((20, False), (22, True)):
        passed = [moved("billing:ack", "log", 0, 9, since, 40)]
        assert state(judged(ORDERS, [MADE, STORED], 50, group, passed), "billing:ack").late is late


def test_what_a_range_proved_before_anybody_watched_stays_proved() -> None:
    """An instrumented consumer that is deployed now takes nothing back; for what comes after, it has the word."""
    later = vouched(ORDERS, but={"billing:ack": [source((6, 99)), source((-10, 99), evidence="range", name="group")]})
    before = [moved("billing:ack", "log", 0, 9, 2, 3)]
    after = [moved("billing:ack", "log", 0, 9, 7, 8)]
    for now in (10, 30):
        assert statuses(judged(ORDERS, [MADE, STORED], now, later, before))["billing:ack"] == "seen"
    assert statuses(judged(ORDERS, [MADE, STORED], 10, later, after))["billing:ack"] == "pending"
