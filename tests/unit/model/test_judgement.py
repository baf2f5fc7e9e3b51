"""The parts of an answer that no verdict shows: each field of a checkpoint's state, the edges between two answers."""

from __future__ import annotations

import pytest

from tests.unit.model.case import ORDERS, event, flow, found, judged, moved, source, state, vouched
from tracker.model.units import SECOND

MADE = event("shop:produce", 0)
KEPT = event("log:persist", 1)
READ = flow("hop: log, stage: persist", "hop: billing, stage: ack, after: log, within: 10s")
PLACED = event("log:persist", 1, partition="p", offset=17)


def test_it_is_dated_by_its_origin_and_by_now() -> None:
    """The origin that was carried, and the moment of the judgement."""
    judgement = judged(ORDERS, [MADE, event("log:persist", 1, origin_at=-3)], 9)
    assert (judgement.origin_at, judgement.as_of) == (-3 * SECOND, 9 * SECOND)


def test_what_is_there_is_due_no_more() -> None:
    """`due` equals the status wherever it is not short; a deadline stays."""
    judgement = judged(ORDERS, [MADE, event("billing:ack", 3), event("mirror:drop", 3, reason="filtered")], 9)
    for name, status, deadline in (("shop:produce", "seen", None), ("log:persist", "implied", 5),
                                   ("mirror:replicate", "closed", 35)):  # fmt: skip
        found_there = state(judgement, name)
        assert (found_there.status, found_there.due) == (status, status)
        assert found_there.deadline == (None if deadline is None else deadline * SECOND)


def test_a_second_beginning_has_its_deadline_from_the_first_receipt() -> None:
    """Nothing comes before it, so it waits from the moment the message was known."""
    spec = flow("hop: shop, stage: produce", "hop: till, stage: produce, within: 5s")
    assert state(judged(spec, [event("shop:produce", 0, received=2)], 6), "till:produce").deadline == 7 * SECOND


def test_implied_once_is_short_of_two() -> None:
    """Passed, so on one node at least, and nobody said on which."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2",
                "hop: billing, stage: ack, after: log, within: 5s")  # fmt: skip
    copies = state(judged(spec, [MADE, event("billing:ack", 3)], 4), "log:persist")
    assert (copies.status, copies.due, copies.observed_at) == ("short", "pending", None)


def test_short_keeps_when_it_was_seen_and_that_it_was_late() -> None:
    """It has a time, on too few nodes."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2")
    copies = state(judged(spec, [MADE, event("log:persist", 6)], 7), "log:persist")
    assert (copies.status, copies.due, copies.late, copies.observed_at) == ("short", "overdue", True, 6 * SECOND)


def test_an_optional_checkpoint_counts_only_where_its_payload_differs() -> None:
    """And then as seen, however few nodes have it and however late it was."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: copy, stage: replicate, after: log, within: 5s, same_payload: true, required: false, quorum: 2",
    )
    kept = event("log:persist", 0, digest="aa")
    same = judged(spec, [kept, event("copy:replicate", 9, digest="aa")], 9)
    assert [s.name for s in same.checkpoints] == ["log:persist"]
    other = state(judged(spec, [kept, event("copy:replicate", 9, digest="bb")], 9), "copy:replicate")
    assert (other.status, other.due, other.late, other.divergent) == ("seen", "seen", False, True)


def test_payloads_are_compared_at_their_checkpoints_alone() -> None:
    """Another stage at the same hop, or the same stage at another, carries what it likes."""
    events = [event(place, 1, digest="aa") for place in ("shop:produce", "log:persist", "mirror:replicate")]
    others = [event(place, 2, digest="bb") for place in ("mirror:ack", "log:nack", "billing:ack", "shop:persist")]
    assert not any(s.divergent for s in judged(ORDERS, [*events, *others], 9).checkpoints)


def test_a_drop_takes_all_that_comes_after() -> None:
    """Not only the next checkpoint: nothing behind it can happen."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s",
                "hop: copy, stage: replicate, after: log, within: 5s",
                "hop: billing, stage: ack, after: copy, within: 5s")  # fmt: skip
    judgement = judged(spec, [MADE, KEPT, event("log:drop", 2, reason="expired")], 3)
    assert [(s.status, s.by) for s in judgement.checkpoints[2:]] == [("overdue", "drop")] * 2


def test_only_what_is_overdue_has_a_cause() -> None:
    """What waits behind an overdue one waits for its own deadline."""
    judgement = judged(ORDERS, [MADE], 6)
    assert state(judgement, "log:persist").kind == "lost"
    assert (state(judgement, "billing:ack").status, state(judgement, "billing:ack").cause) == ("pending", None)


def test_by_design_is_no_finding() -> None:
    """Somebody wanted it so."""
    filtered = event("billing:drop", 2, reason="filtered", delivery="d9")
    assert not judged(ORDERS, [MADE, KEPT, event("mirror:replicate", 2), filtered], 99).findings


def test_a_dead_letter_is_found_where_it_stopped() -> None:
    """At each hop that gave up; and behind one of an optional checkpoint, where it would have gone."""
    optional = flow("hop: shop, stage: produce", "hop: audit, stage: deliver, after: shop, within: 5s, required: false",
                    "hop: billing, stage: ack, after: audit, within: 5s",
                    "hop: mail, stage: ack, after: billing, within: 5s")  # fmt: skip
    parked = [MADE, event("audit:dead_letter", 2, reason="poison")]
    assert found(judged(optional, parked, 99)) == {"billing:ack": "dead_lettered"}
    both = flow("hop: shop, stage: produce", "hop: billing, stage: deliver, after: shop, within: 5s",
                "hop: billing, stage: ack, after: 'billing:deliver', within: 5s")  # fmt: skip
    gave_up = [MADE, event("billing:dead_letter", 2, reason="poison")]
    assert found(judged(both, gave_up, 99)) == {"billing:deliver": "dead_lettered", "billing:ack": "dead_lettered"}


def test_an_event_says_more_than_a_range() -> None:
    """Who was seen was passed when it was seen, though a commit moved past it before."""
    watched = vouched(READ, but={"billing:ack": [source((-9, 99), evidence="range")]})
    events, over = [PLACED, event("billing:ack", 9)], moved("billing:ack", "log", 0, 99, 1, 2)
    judgement = judged(READ, events, 20, watched, [over])
    assert state(judgement, "billing:ack").observed_at == 9 * SECOND


def test_a_range_is_dated_like_an_event() -> None:
    """What it proves was passed at its end, late if its start was; the next deadline runs from its receipt."""
    spec = flow("hop: log, stage: persist", "hop: relay, stage: deliver, after: log, within: 10s",
                "hop: billing, stage: ack, after: relay, within: 10s")  # fmt: skip
    watched = vouched(spec, but={"relay:deliver": [source((-9, 99), evidence="range")]})
    over = moved("relay:deliver", "log", 0, 99, 3, 5, received_at=8)
    judgement = judged(spec, [PLACED], 9, watched, [over])
    assert state(judgement, "relay:deliver").observed_at == 5 * SECOND
    assert state(judgement, "billing:ack").deadline == 18 * SECOND


@pytest.mark.parametrize(("opened", "status"), [(2, "overdue"), (2.000001, "seen")])
def test_who_sees_messages_is_believed_from_its_first_moment_on(opened: float, status: str) -> None:
    """A range received just before anybody saw messages stands."""
    group = source((0, 99), name="g", evidence="range")
    watched = vouched(READ, but={"billing:ack": [source((opened, 99)), group]})
    placed = event("log:persist", 2, partition="p", offset=17)
    early = [moved("billing:ack", "log", 0, 99, 1, 2)]
    assert state(judged(READ, [placed], 99, watched, early), "billing:ack").status == status


@pytest.mark.parametrize(("now", "status"), [(10.999999, "pending"), (11, "seen")])
def test_at_the_deadline_a_range_speaks_where_nobody_will(now: float, status: str) -> None:
    """Until then those who see messages may still tell more."""
    ended = vouched(READ, but={"billing:ack": [source((0, 3), closed=4)]})
    over = [moved("billing:ack", "log", 0, 99, 1, 2)]
    assert state(judged(READ, [PLACED], now, ended, over), "billing:ack").status == status


def test_it_is_looked_at_again_at_a_whole_microsecond() -> None:
    """A quarter of the time since its deadline, rounded down."""
    ended = vouched(ORDERS, but={"log:persist": [source((-9, 2), closed=40)]})
    look = judged(ORDERS, [MADE], 45.000001, ended).look_again
    assert (look, type(look)) == (55 * SECOND + 1, int)
