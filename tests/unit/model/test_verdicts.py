"""One test and more per line of the verdict table: the first that matches is the verdict."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.unit.model.case import ORDERS, event, flow, found, judged, source, state, statuses, vouched
from tracker.model.event import RETRY, Event
from tracker.model.judge import patience
from tracker.model.units import SECOND
from tracker.model.verdict import Status, Verdict

MADE = event("shop:produce", 0, digest="aa")
KEPT = event("log:persist", 1, digest="aa", node="l1")
COPY = event("mirror:replicate", 2, digest="aa", node="m1")
DONE = event("billing:ack", 3, delivery="d1")
ALL = [MADE, KEPT, COPY, DONE]


# --- divergent --------------------------------------------------------------------------------------------------------


def test_divergent_when_joined_payloads_differ() -> None:
    """Whatever else is wrong: a copy that is not one comes first."""
    wrong = event("mirror:replicate", 2, digest="bb", node="m1")
    assert judged(ORDERS, [MADE, KEPT, wrong, DONE], 9).verdict == Verdict.divergent
    assert judged(ORDERS, [MADE, KEPT, wrong], 99).verdict == Verdict.divergent


def test_a_repair_heals() -> None:
    """Per node the newest payload counts, in whichever order they arrive; another node's does not."""
    wrong = event("mirror:replicate", 2, digest="bb", node="m1")
    repaired = event("mirror:replicate", 8, digest="aa", node="m1")
    elsewhere = event("mirror:replicate", 8, digest="aa", node="m2")
    assert judged(ORDERS, [repaired, MADE, KEPT, wrong, DONE], 9).verdict == Verdict.delivered
    assert judged(ORDERS, [MADE, KEPT, wrong, elsewhere, DONE], 9).verdict == Verdict.divergent


def test_only_joined_payloads_are_compared() -> None:
    """Billing may rewrite what it acks; an observation without digest says nothing."""
    rewritten = event("billing:ack", 3, digest="cc")
    unknown = event("mirror:replicate", 2)
    assert judged(ORDERS, [MADE, KEPT, COPY, rewritten], 9).verdict == Verdict.delivered
    assert judged(ORDERS, [MADE, KEPT, unknown, DONE], 9).verdict == Verdict.delivered


def test_an_optional_copy_may_diverge_too() -> None:
    """It need not be there; if it is, it has to be the same."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: mirror, stage: replicate, after: log, within: 9s, same_payload: true, required: false",
    )
    wrong = event("mirror:replicate", 2, digest="bb")
    judgement = judged(spec, [KEPT, wrong], 9)
    assert judgement.verdict == Verdict.divergent
    assert found(judgement) == {"mirror:replicate": "divergent"}
    assert judged(spec, [KEPT, COPY], 9).verdict == Verdict.delivered


# --- lost -------------------------------------------------------------------------------------------------------------


def test_lost_when_it_never_arrived() -> None:
    """Produced, not persisted in time, and nobody holds it."""
    judgement = judged(ORDERS, [MADE], 6)
    assert judgement.verdict == Verdict.lost
    assert judgement.held_by == ()


def test_an_outbox_still_holds_what_never_left_it() -> None:
    """Its `produce` is a copy: nothing is lost, it has to be sent."""
    spec = flow(
        "hop: shop, stage: produce, outbox: true",
        "hop: log, stage: persist, after: shop, within: 5s",
        "hop: billing, stage: ack, after: log, within: 20s",
    )
    judgement = judged(spec, [MADE], 6)
    assert judgement.verdict == Verdict.unacknowledged
    assert judgement.held_by == ("shop",)


@pytest.mark.parametrize("reason", ["unroutable", "expired", "purged", "truncated", "discarded", "abandoned"])
def test_lost_when_a_drop_took_the_last_copy(reason: str) -> None:
    """The log let go of it unread."""
    assert judged(ORDERS, [MADE, KEPT, event("log:drop", 2, reason=reason)], 3).verdict == Verdict.lost
    assert judged(ORDERS, [MADE, event("log:drop", 2, reason=reason)], 3).verdict == Verdict.lost


def test_not_lost_while_a_hop_before_holds_it() -> None:
    """Skipped by billing, but the log has it: it can be sent again."""
    judgement = judged(ORDERS, [MADE, KEPT, event("billing:drop", 2, reason="skipped")], 3)
    assert judgement.verdict == Verdict.unacknowledged
    assert judgement.held_by == ("log",)


@pytest.mark.parametrize(
    ("ends", "held"),
    [
        ([event("queue:dead_letter", 3, reason="rejected", delivery="c")], ()),
        ([event("queue:dead_letter", 3, reason=RETRY, delivery="c")], ("queue",)),
        ([event("queue:dead_letter", 3, reason="rejected", delivery="c"), event("queue:persist", 4, delivery="b")],
         ("queue",)),
        ([event("billing:dead_letter", 3, reason="poison", delivery="c")], ("queue",)),
    ],
)  # fmt: skip
def test_a_queue_that_parked_its_copy_holds_it_no_more(ends: list[Event], held: tuple[str, ...]) -> None:
    """Told at the queue itself; one that is tried again comes back, one sent again is there, and what a consumer tells
    of itself takes nothing from where it read."""
    spec = flow("hop: queue, stage: persist", "hop: billing, stage: ack, after: queue, within: 9s")
    judgement = judged(spec, [event("queue:persist", 0, delivery="a"), *ends], 5)
    assert judgement.held_by == held


def test_a_later_persist_is_held_by_the_log_before_it() -> None:
    """A second cluster that never got it: the first still has it."""
    spec = flow("hop: eu, stage: persist", "hop: us, stage: persist, after: eu, within: 9s")
    judgement = judged(spec, [event("eu:persist", 0)], 10)
    assert (judgement.verdict, judgement.held_by) == (Verdict.unacknowledged, ("eu",))


# --- unacknowledged and under_replicated ------------------------------------------------------------------------------


def test_unacknowledged_when_a_consumer_did_not_finish() -> None:
    """The mirror's absence is worth less than billing's."""
    assert judged(ORDERS, [MADE, KEPT, COPY], 22).verdict == Verdict.unacknowledged
    assert judged(ORDERS, [MADE, KEPT], 99).verdict == Verdict.unacknowledged


def test_under_replicated_when_only_a_copy_is_missing() -> None:
    """A replica overdue, or fewer nodes than the quorum."""
    assert judged(ORDERS, [MADE, KEPT, DONE], 32).verdict == Verdict.under_replicated
    three = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2")
    assert judged(three, [MADE, KEPT], 6).verdict == Verdict.under_replicated


def test_a_consumer_behind_a_missing_replica_is_unacknowledged() -> None:
    """Not only a copy is overdue: the region's billing never had the message."""
    spec = flow(
        "hop: eu, stage: persist",
        "hop: us, stage: replicate, after: eu, within: 5s",
        "hop: billing-us, stage: ack, after: us, within: 5s",
    )
    judgement = judged(spec, [event("eu:persist", 0)], 20)
    assert judgement.verdict == Verdict.unacknowledged
    assert found(judgement) == {"us:replicate": "under_replicated", "billing-us:ack": "unacknowledged"}
    assert state(judgement, "billing-us:ack").cause == 1


# --- dead_lettered, blind, in_flight, explained -----------------------------------------------------------------------


def test_dead_lettered() -> None:
    """Closed by a dead letter; what else is due is more urgent, what is pending is not."""
    parked = event("billing:dead_letter", 3, reason="poison")
    assert judged(ORDERS, [MADE, KEPT, parked], 4).verdict == Verdict.dead_lettered
    assert judged(ORDERS, [MADE, KEPT, parked], 99).verdict == Verdict.under_replicated


def test_blind_hides_nothing_that_is_known() -> None:
    """Unknown at billing: blind; lost or dead-lettered elsewhere stays what it is."""
    dark = vouched(ORDERS, but={"billing:ack": [source((-10, 9))]})
    assert judged(ORDERS, [MADE, KEPT, COPY], 50, dark).verdict == Verdict.blind
    assert judged(ORDERS, [MADE, KEPT], 50, dark).verdict == Verdict.under_replicated
    parked = event("mirror:dead_letter", 3, reason="poison")
    assert judged(ORDERS, [MADE, KEPT, parked], 50, dark).verdict == Verdict.dead_lettered


def test_in_flight() -> None:
    """Something is pending, and nothing that is known is worse; an explanation elsewhere waits."""
    assert judged(ORDERS, [MADE], 4.9).verdict == Verdict.in_flight
    assert judged(ORDERS, [MADE, KEPT, event("billing:drop", 2, reason="filtered")], 4).verdict == Verdict.in_flight


def test_what_is_held_still_is_not_explained_by_a_copy_that_went_by_design() -> None:
    """A transaction was aborted and its message sent again; or of two copies one was compacted. Billing got none."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: shop, within: 5s",
        "hop: billing, stage: ack, after: log, within: 20s",
    )
    kept, went = event("log:persist", 1, partition="p", offset=17), event("log:drop", 2, partition="p", offset=17)
    second = event("log:persist", 3, partition="p", offset=18)
    aborted, compacted = (structs.replace(went, reason=reason) for reason in ("aborted", "compacted"))
    assert judged(spec, [MADE, kept, aborted], 100).verdict == Verdict.explained
    assert judged(spec, [MADE, kept, aborted, second], 100).verdict == Verdict.unacknowledged
    assert judged(spec, [MADE, kept, second, compacted], 100).verdict == Verdict.unacknowledged


@pytest.mark.parametrize("end", [{"stage": "dead_letter", "reason": "poison"}, {"stage": "drop", "reason": "filtered"}])
def test_a_hop_that_processed_another_delivery_closes_nothing_behind_it(end: dict[str, str]) -> None:
    """A dead letter was replayed and acked: what comes after it has its own deadline, and may be missing itself."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: billing, stage: ack, after: log, within: 5s",
        "hop: mail, stage: ack, after: billing, within: 60s",
    )
    ended = event(f"billing:{end['stage']}", 2, delivery="d1", reason=end["reason"])
    told = [KEPT, ended]
    assert judged(spec, told, 99).verdict in (Verdict.dead_lettered, Verdict.explained)
    same = event("billing:ack", 3, delivery="d1")
    assert judged(spec, [*told, same], 10).verdict in (Verdict.dead_lettered, Verdict.explained)
    other = event("billing:ack", 30, delivery="d2", replay_id="r1")
    assert judged(spec, [*told, other], 40).verdict == Verdict.in_flight
    assert judged(spec, [*told, other], 99).verdict == Verdict.unacknowledged


@pytest.mark.parametrize("reason", ["filtered", "aborted", "compacted", "merged"])
def test_explained_needs_a_drop_by_design(reason: str) -> None:
    """Ended where it was meant to; everything else was reached."""
    judgement = judged(ORDERS, [MADE, KEPT, COPY, event("billing:drop", 2, reason=reason)], 99)
    assert judgement.verdict == Verdict.explained
    assert [(s.name, s.status) for s in judgement.missing] == [("billing:ack", Status.closed)]


# --- late and delivered -----------------------------------------------------------------------------------------------


def test_delivered() -> None:
    """Nothing is missing and nothing was late; nothing needs to be looked at again."""
    judgement = judged(ORDERS, ALL, 4)
    assert (judgement.verdict, judgement.missing, judgement.look_again) == (Verdict.delivered, (), None)


@pytest.mark.parametrize(("at", "verdict"), [(21, Verdict.delivered), (21.000001, Verdict.late)])
def test_late_by_observed_times(at: float, verdict: Verdict) -> None:
    """The deadline itself is in time; when the tracker heard of it does not matter."""
    assert judged(ORDERS, [MADE, KEPT, COPY, event("billing:ack", at, received=900)], 901).verdict == verdict


def test_late_only_when_certainly_so() -> None:
    """Of an interval its start counts."""
    maybe = event("billing:ack", 60, observed_from=20)
    surely = event("billing:ack", 60, observed_from=22)
    assert judged(ORDERS, [MADE, KEPT, COPY, maybe], 99).verdict == Verdict.delivered
    assert judged(ORDERS, [MADE, KEPT, COPY, surely], 99).verdict == Verdict.late


def test_implied_is_never_late_and_nothing_is_late_by_it() -> None:
    """Without its time the deadline behind it is reckoned from its own deadline."""
    early, late = event("billing:ack", 25), event("billing:ack", 26)
    assert judged(ORDERS, [MADE, COPY, early], 99).verdict == Verdict.delivered
    assert judged(ORDERS, [MADE, COPY, late], 99).verdict == Verdict.late


# --- what the answer says beside its verdict --------------------------------------------------------------------------


def test_missing_lists_what_is_required_and_not_there() -> None:
    """Overdue, pending and short alike, in the order of the path; no optional one."""
    judgement = judged(ORDERS, [MADE, KEPT], 25)
    assert [(s.name, s.status.value) for s in judgement.missing] == [
        ("mirror:replicate", "pending"), ("billing:ack", "overdue")]  # fmt: skip


def test_it_is_looked_at_again_when_the_next_deadline_passes() -> None:
    """The earliest of those pending."""
    assert judged(ORDERS, [MADE, KEPT], 3).look_again == 21 * SECOND
    assert judged(ORDERS, [MADE, KEPT], 21).look_again == 31 * SECOND
    assert judged(ORDERS, [MADE, KEPT], 31).look_again is None


def test_what_is_unknown_is_looked_at_again_ever_more_rarely() -> None:
    """Soon at first, then at a quarter of its age, at least once a day."""
    dark = vouched(ORDERS, but={"billing:ack": [source((-10, 9), closed=40)]})
    for now, wait in ((21, 1), (61, 10), (1e5, 24_994.75), (1e6, 86_400)):
        assert judged(ORDERS, [MADE, KEPT, COPY], now, dark).look_again == round((now + wait) * SECOND)


@pytest.mark.parametrize(
    ("behind", "since", "wait"),
    [(0, 100, 25), (-1, 100, 25), (1e-6, 100, 6.25), (0, 3, 1), (20, 100, 22), (20, 40, 10), (1e9, 1e9, 86_400)],
)
def test_patience(behind: float, since: float, wait: float) -> None:
    """By how far somebody is behind, be it by a microsecond; in whole microseconds."""
    assert patience(round(behind * SECOND), round(since * SECOND)) == round(wait * SECOND)


def test_patience_is_whole_microseconds() -> None:
    """Timers are."""
    assert [(type(found), found) for found in (patience(7, 15 * SECOND + 1), patience(1, 100 * SECOND + 3))] == [
        (int, SECOND + 7), (int, 6_250_000)]  # fmt: skip


@pytest.mark.parametrize(("now", "wait"), [(31, 2.5), (81, 13.6), (221, 13.6), (421, 25), (9e3, 561.1875)])
def test_who_lags_is_waited_for_as_long_as_it_lags(now: float, wait: float) -> None:
    """Behind the deadline by 12 s, it has caught up after as much, and a little more to be sure; but when it does not,
    it is asked ever more rarely, too."""
    spec = flow("hop: shop, stage: produce", "hop: [billing, stock], stage: ack, after: shop, within: 20s")
    lag = vouched(spec, but={"billing:ack": [source((-10, 9), name="a"), source((0, 2), closed=3, name="b")]})
    judgement = judged(spec, [event("shop:produce", 1)], now, lag)
    assert (judgement.verdict, judgement.look_again) == (Verdict.blind, round((now + wait) * SECOND))


def test_what_may_turn_out_to_be_a_gap_is_looked_at_again() -> None:
    """The log's collector is behind what implies that the log was passed. Once it has told, or can tell no more, that
    is settled."""
    events = [event("shop:produce", 4), event("mirror:replicate", 6), event("billing:ack", 7)]
    for there, wait in (
        ([source((-10, 5))], 4),
        ([source((-10, 99))], None),
        ([source((-10, 4.5), (5.9, 99))], None),
        ([source((-10, 5), closed=5)], None),
        ([source((-10, 5), evidence="range")], None),
    ):
        look = judged(ORDERS, events, 20, vouched(ORDERS, but={"log:persist": there})).look_again
        assert look == (None if wait is None else (20 + wait) * SECOND), there


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([MADE], {"log:persist": "lost", "mirror:replicate": "lost", "billing:ack": "lost"}),
        ([MADE, KEPT], {"mirror:replicate": "under_replicated", "billing:ack": "unacknowledged"}),
        (ALL, {}),
        ([MADE, KEPT, COPY, event("billing:dead_letter", 5)], {"billing:ack": "dead_lettered"}),
        ([MADE, KEPT, event("mirror:replicate", 2, digest="bb"), DONE], {"mirror:replicate": "divergent"}),
    ],
)
def test_findings(events: list[Event], kinds: dict[str, str]) -> None:
    """Every overdue or dead-lettered checkpoint and every divergence, whatever the verdict."""
    assert found(judged(ORDERS, events, 99)) == kinds


def test_a_checkpoint_can_be_overdue_and_divergent() -> None:
    """Two kinds, two findings: the one does not hide the other."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: mirror, stage: replicate, after: log, within: 9s, same_payload: true, quorum: 2",
        "hop: billing, stage: ack, after: mirror, within: 9s",
    )
    judgement = judged(spec, [KEPT, event("mirror:replicate", 2, digest="bb")], 50)
    assert judgement.verdict == Verdict.divergent
    assert found(judgement) == {"mirror:replicate": "under_replicated,divergent", "billing:ack": "unacknowledged"}


def test_what_follows_from_an_overdue_one_names_it_as_its_cause() -> None:
    """The first overdue checkpoint on the path explains those behind it; a short one explains nothing."""
    judgement = judged(ORDERS, [MADE], 99)
    assert [s.cause for s in judgement.checkpoints] == [None, None, 1, 1]
    assert state(judged(ORDERS, [MADE, KEPT], 99), "billing:ack").cause is None


def test_behind_a_dead_letter_there_is_one_finding() -> None:
    """Mail closed behind a billing that gave up is the same trouble."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: billing, stage: ack, after: log, within: 9s",
        "hop: mail, stage: ack, after: billing, within: 9s",
    )
    judgement = judged(spec, [KEPT, event("billing:dead_letter", 5)], 99)
    assert statuses(judgement) == {"log:persist": "seen", "billing:ack": "closed", "mail:ack": "closed"}
    assert found(judgement) == {"billing:ack": "dead_lettered"}
