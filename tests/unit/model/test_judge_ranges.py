"""What a consumer group's committed offsets prove, beside those who see single messages."""

from __future__ import annotations

import pytest
from msgspec import structs

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Range, Stage
from tracker.model.facts import Passage
from tracker.model.judge import judge, range_over
from tracker.model.spec import load_spec
from tracker.model.units import SECOND
from tracker.model.verdict import Verdict

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
