"""What a consumer group's committed offsets prove, beside those who see single messages."""

from __future__ import annotations

import pytest

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Range, Stage
from tracker.model.judge import judge
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
