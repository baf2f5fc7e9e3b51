"""One test and more per flag: what else is to be known of a message."""

from __future__ import annotations

import pytest

from tests.unit.model.case import ORDERS, event, flow, judged, source, vouched
from tracker.model.event import Event
from tracker.model.spec import FlowSpec
from tracker.model.verdict import Flag

MADE = event("shop:produce", 0)
KEPT = event("log:persist", 1)
COPY = event("mirror:replicate", 2)
DONE = event("billing:ack", 3, delivery="d1")
ALL = [MADE, KEPT, COPY, DONE]


def flags(events: list[Event], now: float = 99, spec: FlowSpec = ORDERS, **but: object) -> set[str]:
    """The flags by name."""
    return set(judged(spec, events, now, **but).flags)  # type: ignore[arg-type]


def test_a_message_of_which_there_is_nothing_to_say() -> None:
    """No flag."""
    assert flags(ALL) == set()


# --- gap --------------------------------------------------------------------------------------------------------------


def test_gap_when_its_collector_vouched_and_missed_it() -> None:
    """Implied by an ack, and the log's collector says that it has reported all of that time."""
    assert flags([MADE, COPY, DONE]) == {Flag.gap}


def test_no_gap_where_nobody_vouched() -> None:
    """Its collector is behind, had a hole, or there is none that sees single messages."""
    for there in ([source((-10, 1))], [source((-10, 0.5), (1.9, 99))], [source((-10, 99), evidence="range")], []):
        assert flags([MADE, COPY, DONE], coverage=vouched(ORDERS, but={"log:persist": there})) == set()


def test_gap_is_about_the_time_until_something_implied_it() -> None:
    """The shop also acks answers: its produce at the beginning implies nothing of the log."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: 'shop:produce', within: 5s",
        "hop: shop, stage: ack, after: log, within: 9s",
    )
    events = [MADE, event("shop:ack", 8)]
    assert flags(events, spec=spec, coverage=vouched(spec, but={"log:persist": [source((-10, 4))]})) == set()
    assert flags(events, spec=spec, coverage=vouched(spec, but={"log:persist": [source((-10, 8))]})) == {Flag.gap}


def test_gap_of_a_quorum() -> None:
    """Implied on one node of two, and vouched for: short, and a gap."""
    spec = flow(
        "hop: shop, stage: produce",
        "hop: log, stage: persist, after: shop, within: 5s, quorum: 2",
        "hop: billing, stage: ack, after: log, within: 9s",
    )
    assert flags([MADE, DONE], spec=spec) == {Flag.gap}
    assert flags([MADE, KEPT, DONE], spec=spec) == set()


# --- orphan, replayed -------------------------------------------------------------------------------------------------


def test_orphan_when_the_beginning_was_not_seen() -> None:
    """Implied or not."""
    dark = vouched(ORDERS, but={"shop:produce": []})
    assert flags([KEPT, COPY, DONE], coverage=dark) == {Flag.orphan}
    assert flags([event("shop:nack", 0)], now=1) == {Flag.orphan}


def test_replayed_when_any_event_came_of_a_replay() -> None:
    """Known by its id, wherever it was seen."""
    assert flags([*ALL, event("log:persist", 9, replay_id="r1", delivery="d9")]) == {Flag.replayed}


# --- duplicated -------------------------------------------------------------------------------------------------------


def test_duplicated_when_more_deliveries_than_allowed() -> None:
    """Two tags are two deliveries; the same tag twice is one event sent twice."""
    assert flags([*ALL, event("billing:ack", 4, delivery="d2")]) == {Flag.duplicated}
    assert flags([*ALL, DONE, event("billing:ack", 4, delivery="d1")]) == set()


def test_replays_are_counted_apart() -> None:
    """What a replay sent is no accident."""
    assert flags([*ALL, event("billing:ack", 9, delivery="d2", replay_id="r1")]) == {Flag.replayed}


def test_without_a_delivery_nodes_tell_them_apart() -> None:
    """The same node may have sent one event twice."""
    twice = [MADE, KEPT, COPY, event("billing:ack", 3, node="a"), event("billing:ack", 5, node="a")]
    assert flags(twice) == set()
    assert flags([*twice, event("billing:ack", 5, node="b")]) == {Flag.duplicated}


def test_deliveries_are_derived_from_their_place() -> None:
    """Partition, offset and group tell hand-overs on a log apart."""
    acks = [event("billing:ack", 3, partition="p", offset=n, group="g") for n in (5, 5, 6)]
    assert flags([MADE, KEPT, COPY, *acks[:2]]) == set()
    assert flags([MADE, KEPT, COPY, *acks]) == {Flag.duplicated}


def test_no_limit_no_duplicate() -> None:
    """The log allows any number; a limit of two allows two."""
    assert flags([*ALL, event("log:persist", 2, delivery="again")]) == set()
    spec = flow("hop: log, stage: persist", "hop: [a, b], stage: ack, after: log, within: 9s, at_most: 2")
    acks = [event("a:ack", 2, delivery="1"), event("b:ack", 2, delivery="1"), event("b:ack", 2, delivery="2")]
    assert flags([KEPT, *acks[:2]], spec=spec) == set()
    assert flags([KEPT, *acks], spec=spec) == {Flag.duplicated}


# --- skewed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "expected"), [(0.0, set()), (-0.1, {Flag.skewed})])
def test_skewed_when_times_contradict_the_path_by_more_than_a_second(at: float, expected: set[str]) -> None:
    """Acked before it was persisted: a clock is wrong."""
    assert flags([MADE, KEPT, COPY, event("billing:ack", at, received=5)]) == expected


def test_an_interval_contradicts_only_when_all_of_it_does() -> None:
    """A poll between 0 and 60 s may have seen it in time."""
    poll = event("log:persist", 60, observed_from=0)
    assert flags([MADE, poll, COPY, DONE]) == set()


# --- reused_id --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "expected"), [(35, set()), (35.1, {Flag.reused_id})])
def test_reused_id_when_two_origins_lie_further_apart_than_the_longest_deadline(
    second: float, expected: set[str]
) -> None:
    """The longest way here takes 35 s; a retry within that is a retry."""
    assert flags([*ALL, event("shop:produce", second, delivery="b")], now=2000) == expected


def test_carried_origins_count_before_observations() -> None:
    """A produce reported again with its origin is the same message, whenever it is reported."""
    again = event("shop:produce", 500, delivery="b", origin_at=0)
    assert flags([*ALL, again], now=2000) == set()
    assert flags([*ALL, event("shop:produce", 500, replay_id="r1")], now=2000) == {Flag.replayed}
