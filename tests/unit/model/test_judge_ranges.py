"""What a consumer group's committed offsets prove, beside those who see single messages."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import LEADER_EPOCH, Event, Range, Stage, delivery_of
from tracker.model.facts import Passage
from tracker.model.judge import judge
from tracker.model.ranges import range_drops, range_over
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.model.verdict import Judgement, Verdict

SPEC = load_spec(
    """flow: orders
checkpoints:
  - {hop: kafka, stage: persist}
  - {hop: billing, stage: ack, after: kafka, within: 10s}
"""
)
PASSED = Range(
    flow="orders", hop="billing", stage=Stage.ack, log="kafka", partition="orders/0", offset=0, offset_to=100,
    observed_from=0, observed_at=2 * SECOND, evidence="range", received_at=2 * SECOND,
)  # fmt: skip


def verdict(*instances: SourceCover, now: int = 60) -> Verdict:
    """On a message that was persisted at 1 s, never acked, and committed past at 2 s."""
    event = Event(
        flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=SECOND, received_at=SECOND,
        partition="orders/0", offset=17,
    )  # fmt: skip
    group = SourceCover("group", ((0, 60 * SECOND),), evidence="range")
    coverage = Coverage({("billing", "ack"): [*instances, group]})
    return judge(SPEC, [event], coverage, now * SECOND, [PASSED]).verdict


def instance(*spans: tuple[int, int], closed: int | None = None) -> SourceCover:
    """An instrumented consumer that vouches for these seconds."""
    ended = None if closed is None else closed * SECOND
    return SourceCover("billing-1", tuple((a * SECOND, b * SECOND) for a, b in spans), closed=ended)


def test_moved_past_counts_where_nobody_sees_single_messages() -> None:
    """A commit is the best there is for a consumer that is not instrumented."""
    assert verdict() == Verdict.delivered


def test_moved_past_is_no_ack_where_somebody_would_have_seen_it() -> None:
    """A consumer that vouches and saw no ack: the message was passed over."""
    assert verdict(instance((0, 60))) == Verdict.unacknowledged


@pytest.mark.parametrize("reached", [3, 10])
def test_moved_past_waits_for_those_who_are_behind(reached: int) -> None:
    """While a consumer's report is on its way the commit proves nothing: it might say that the message was passed
    over, and what was called delivered would have to be taken back."""
    assert verdict(instance((0, reached))) == Verdict.blind


def test_moved_past_counts_where_no_report_will_ever_come() -> None:
    """In a hole that stays, between two reports or behind the last of a source that has ended, a commit speaks."""
    assert verdict(instance((0, 3), (20, 60))) == Verdict.delivered
    assert verdict(instance((0, 3), closed=40)) == Verdict.delivered


def test_of_several_the_earliest_times_count() -> None:
    """Commits may be told again, larger or later: what one of them moved past early was not late."""
    event = Event(flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=0, received_at=0,
                  partition="orders/0", offset=17)  # fmt: skip
    early = structs.replace(PASSED, observed_from=9 * SECOND, observed_at=12 * SECOND, received_at=30 * SECOND)
    again = structs.replace(PASSED, observed_from=20 * SECOND, observed_at=11 * SECOND, received_at=25 * SECOND)
    merged = Passage(observed_at=11 * SECOND, since=9 * SECOND, received_at=25 * SECOND)
    assert range_over([event], ["billing"], Stage.ack, [again, early]) == merged
    undated = structs.replace(PASSED, received_at=None)
    assert range_over([event], ["billing"], Stage.ack, [undated]) == Passage(2 * SECOND, 0, 2 * SECOND)


def test_only_what_lies_in_the_log_is_moved_past() -> None:
    """An offset that somebody else tells of the same log is no place in it; a neighbour's place is another's."""
    event = Event(flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=0, received_at=0,
                  partition="orders/0", offset=17)  # fmt: skip
    over = lambda **other: range_over([structs.replace(event, **other)], ["billing"], Stage.ack, [PASSED])  # noqa: E731
    assert (
        over() == over(offset=0) == over(offset=99) == over(stage=Stage.replicate) == Passage(2 * SECOND, 0, 2 * SECOND)
    )
    for other in (
        {"offset": 100},
        {"offset": None},
        {"stage": Stage.deliver},
        {"hop": "shop"},
        {"partition": "orders/1"},
    ):
        assert over(**other) is None, other
    assert range_over([event], ["mail"], Stage.ack, [PASSED]) is None
    assert range_over([event], ["billing"], Stage.deliver, [PASSED]) is None


GONE = structs.replace(PASSED, hop="kafka", stage=Stage.drop, reason="expired", group="billing",
                       observed_from=20 * SECOND, observed_at=21 * SECOND, received_at=22 * SECOND)  # fmt: skip
SKIPPED = structs.replace(GONE, hop="billing", reason="skipped")
PLACED = Event(flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=SECOND,
               received_at=2 * SECOND, partition="orders/0", offset=17)  # fmt: skip


def told(*ranges: Range, events: tuple[Event, ...] = (PLACED,), now: int = 60) -> Judgement:
    """Judged by these ranges, while groups are all that is vouched for."""
    group = SourceCover("group", ((0, 600 * SECOND),), evidence="range")
    log = SourceCover("log", ((0, 600 * SECOND),))
    coverage = Coverage({("billing", "ack"): [group], ("kafka", "persist"): [log]})
    return judge(SPEC, events, coverage, now * SECOND, ranges)


def test_what_the_log_lost_unread_is_lost() -> None:
    """At once, whatever its deadline; nobody holds it, and the answer says why."""
    judgement = told(GONE, now=5)
    assert (judgement.verdict, judgement.held_by) == (Verdict.lost, ())
    assert judgement.why == "kafka dropped it (expired), so billing:ack cannot happen; no hop holds a copy."


def test_of_several_copies_only_the_one_that_lay_there_is_gone() -> None:
    """The group may still read the other."""
    other = structs.replace(PLACED, offset=217)
    judgement = told(GONE, events=(PLACED, other), now=5)
    assert (judgement.verdict, judgement.held_by) == (Verdict.in_flight, ("kafka",))
    assert told(GONE, structs.replace(GONE, offset=200, offset_to=300), events=(PLACED, other)).verdict == Verdict.lost


def test_what_a_group_skipped_is_held_by_the_log() -> None:
    """Its offsets were set forward: it can be sent again from there."""
    judgement = told(SKIPPED, now=5)
    assert (judgement.verdict, judgement.held_by) == (Verdict.unacknowledged, ("kafka",))
    assert judgement.why == "billing dropped it (skipped), so billing:ack cannot happen; kafka still holds a copy."


def test_compacted_is_by_design() -> None:
    """A newer record of the same key has taken its place."""
    judgement = told(structs.replace(GONE, reason="compacted"))
    assert judgement.verdict == Verdict.explained
    assert judgement.why == "It ended by design at kafka (compacted)."


def test_who_has_acked_has_acked() -> None:
    """Retention takes what everybody has read; and what an application says of a message is better than an offset."""
    acked = structs.replace(PLACED, hop="billing", stage=Stage.ack, observed_at=9 * SECOND, received_at=9 * SECOND)
    assert told(GONE, SKIPPED, events=(PLACED, acked)).verdict == Verdict.delivered
    assert told(GONE, PASSED).verdict == Verdict.delivered


def test_moved_past_unread_is_no_ack() -> None:
    """Two tell of one commit: one saw that it was moved, the other that nobody read it."""
    commit = structs.replace(PASSED, group="billing", observed_from=19 * SECOND, observed_at=25 * SECOND)
    assert told(commit).verdict == Verdict.late
    assert told(commit, SKIPPED).verdict == told(SKIPPED, commit).verdict == Verdict.unacknowledged
    assert told(structs.replace(commit, observed_from=SKIPPED.observed_at), SKIPPED).verdict == Verdict.unacknowledged
    elsewhere = structs.replace(SKIPPED, offset=18)
    assert told(commit, elsewhere).verdict == Verdict.late


def test_set_back_and_read() -> None:
    """What a group has skipped, and came to once more since, it has read; and another group skipped nothing."""
    again = structs.replace(PASSED, group="billing", observed_from=SKIPPED.observed_at + 1, observed_at=40 * SECOND)
    assert told(SKIPPED, again).verdict == Verdict.late
    assert told(SKIPPED, structs.replace(PASSED, group="other")).verdict == Verdict.delivered


def test_a_drop_is_known_when_the_message_lies_there() -> None:
    """Not before: neither when it was first seen nor its origin changes, whichever is told first."""
    early = structs.replace(GONE, observed_from=0, observed_at=0, received_at=0)
    [drop] = range_drops(SPEC, [PLACED], [early])
    assert (drop.observed_at, drop.received_at) == (SECOND, 2 * SECOND)
    here = {"delivery": delivery_of(PLACED), "group": "billing", "attributes": {"evidence": "range"}}
    assert drop == structs.replace(PLACED, stage=Stage.drop, reason="expired", **here)
    [drop] = range_drops(SPEC, [structs.replace(PLACED, delivery="d", node="b")], [structs.replace(GONE, node="c")])
    assert (drop.observed_at, drop.received_at, drop.delivery, drop.node) == (21 * SECOND, 22 * SECOND, "d", "c")
    [drop] = range_drops(SPEC, [PLACED], [structs.replace(SKIPPED, received_at=None)])
    assert (drop.hop, drop.received_at, delivery_of(drop)) == ("billing", 21 * SECOND, "orders/0:17:billing:")


def test_only_what_lies_in_a_log_that_the_spec_knows_is_dropped() -> None:
    """Other places, other hops, and ranges of another stage drop nothing."""
    assert not range_drops(SPEC, [PLACED], [PASSED])
    for other in ({"offset": 100}, {"offset": None}, {"partition": "orders/1"}, {"hop": "billing"},
                  {"stage": Stage.deliver}):  # fmt: skip
        assert not range_drops(SPEC, [structs.replace(PLACED, **other)], [GONE]), other
    unknown = structs.replace(PLACED, hop="elsewhere")
    assert not range_drops(SPEC, [unknown], [structs.replace(GONE, log="elsewhere")])


@pytest.mark.parametrize(("noticed", "verdict"), [(1.5, Verdict.lost), (2, Verdict.delivered), (9, Verdict.delivered)])
def test_who_moves_past_an_offset_that_was_given_again_has_not_read_the_first(noticed: float, verdict: Verdict) -> None:
    """The log was cut off before the message. A group that moved past its offset later read another one there; what it
    had moved past before, it had read."""
    stored = Event(
        flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=SECOND, received_at=SECOND,
        partition="orders/0", offset=17,
    )  # fmt: skip
    at = round(noticed * SECOND)
    gone = structs.replace(stored, stage=Stage.drop, reason="truncated", observed_at=at, received_at=at)
    coverage = Coverage({("billing", "ack"): [SourceCover("group", ((0, 60 * SECOND),), evidence="range")]})
    assert judge(SPEC, [stored, gone], coverage, 60 * SECOND, [PASSED]).verdict == verdict


@pytest.mark.parametrize(
    ("gone", "read"),
    [
        ([("drop", "truncated", 1.5)], False),
        ([("drop", "purged", 1.5)], True),  # the place was not given to another message
        ([("drop", "truncated", 1.5), ("drop", "truncated", 9)], False),  # said once more: the first time counts
        ([("drop", "truncated", 9), ("drop", "truncated", 1.5)], False),
        ([("nack", "truncated", 1.5)], True),
    ],
)
def test_only_a_log_that_was_cut_off_gives_an_offset_again(gone: list[tuple[str, str, float]], read: bool) -> None:
    """The group moved past the message's offset at 2 s."""
    stored = structs.replace(PLACED, offset=17, observed_at=SECOND, received_at=SECOND)
    said = [
        structs.replace(stored, stage=Stage(stage), reason=reason, observed_at=round(at * SECOND))
        for stage, reason, at in gone
    ]
    passage = range_over([stored, *said], ["billing"], Stage.ack, [PASSED])
    assert (passage is not None) == read


STEPS = load_spec(
    """flow: orders
checkpoints:
  - {hop: kafka, stage: persist}
  - {hop: fraud, stage: ack, after: kafka, within: 10s}
  - {hop: billing, stage: ack, after: [kafka, fraud], within: 10s}
  - {hop: shipping, stage: ack, after: billing, within: 60s}
"""
)
LYING = Event(
    flow="orders", message_id="m", hop="kafka", stage=Stage.persist, observed_at=SECOND, received_at=SECOND,
    partition="orders/0", offset=17,
)  # fmt: skip
PASSED_OVER = structs.replace(PASSED, stage=Stage.drop, reason="skipped")
EVERYWHERE = Coverage(
    {(hop, "ack"): [SourceCover(hop, ((0, 60 * SECOND),))] for hop in ("fraud", "billing", "shipping")}
)


def overdue(events: list[Event], now: int) -> set[str]:
    """The checkpoints that are overdue for a message that billing's group was moved past."""
    states = judge(STEPS, events, EVERYWHERE, now * SECOND, [PASSED_OVER]).checkpoints
    return {state.name for state in states if state.status == "overdue"}


def test_who_acked_it_by_name_has_passed_it_on() -> None:
    """Whatever a range says of another delivery: what comes after the ack has its time."""
    acked = [
        structs.replace(LYING, hop=hop, stage=Stage.ack, partition="", offset=None) for hop in ("fraud", "billing")
    ]
    assert overdue([LYING, *acked], 5) == set()


def test_a_hop_that_was_moved_past_does_not_show_that_the_message_came_there() -> None:
    """So nothing before it is implied: fraud lost it, too, and that is named."""
    assert overdue([LYING], 30) == {"fraud:ack", "billing:ack", "shipping:ack"}


CUT = structs.replace(GONE, hop="billing", reason="truncated", offset=11)
"""The log was cut off at 11: what the group had moved past from there on was something else."""


@pytest.mark.parametrize(
    "since", [{"received_at": 22 * SECOND}, {"attributes": {LEADER_EPOCH: "4"}}], ids=["told later", "given twice"]
)
def test_what_was_moved_past_before_a_cut_is_no_ack_of_what_lies_there_since(since: dict[str, Any]) -> None:
    """The group had not read it when that was said; once it has been there again, it has."""
    placed = structs.replace(PLACED, **since)
    moved = structs.replace(PASSED, group="billing")
    assert told(moved, events=(placed,)).verdict == Verdict.delivered
    assert told(moved, CUT, events=(placed,)).verdict == Verdict.unacknowledged
    assert told(moved, CUT, events=(placed,), now=5).verdict == Verdict.in_flight
    below = structs.replace(placed, offset=10)
    assert told(moved, CUT, events=(below,)).verdict == Verdict.delivered
    again = structs.replace(moved, observed_from=CUT.observed_at + 1, observed_at=CUT.observed_at + 1)
    assert told(moved, CUT, again, events=(placed,)).verdict in (Verdict.delivered, Verdict.late)
    assert told(moved, structs.replace(CUT, group="other"), events=(placed,)).verdict == Verdict.delivered


def test_what_was_moved_past_before_a_cut_is_an_ack_of_what_lay_there() -> None:
    """Whether that was cut off by name, or nobody could name it. That it was cut off took nothing from the group."""
    moved = structs.replace(PASSED, group="billing")
    assert told(moved, CUT).verdict == Verdict.delivered
    just = structs.replace(PLACED, received_at=CUT.observed_at)
    assert told(moved, CUT, events=(just,)).verdict == Verdict.delivered
    dropped = structs.replace(PLACED, stage=Stage.drop, reason="truncated", observed_at=20 * SECOND)
    given = structs.replace(PLACED, attributes={LEADER_EPOCH: "4"}, delivery="orders/0:17@4")
    end = structs.replace(dropped, delivery="orders/0:17@4")
    assert told(moved, CUT, events=(PLACED, dropped)).verdict == Verdict.delivered
    assert told(moved, CUT, events=(given, end)).verdict == Verdict.delivered
    assert not range_drops(SPEC, [PLACED], [CUT])
