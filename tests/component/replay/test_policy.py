import pytest

from tracker.model.coverage import Coverage, Interval, SourceCover
from tracker.model.spec import Budget, Replay
from tracker.model.units import SECOND
from tracker.replay.policy import FRESH, objection, unwatched
from tracker.replay.routes import Missing

NOW = 10_000 * SECOND
ACK, PERSIST = ("billing", "ack"), ("kafka", "persist")
LACKS = (Missing(*ACK, "unacknowledged"),)


@pytest.mark.parametrize(
    ("mode", "kinds", "messages", "said"),
    [
        ("approve", {"lost"}, 1, "the flow's mode is `approve`"),
        ("off", {"lost"}, 99, ""),
        ("auto", {"lost", "unacknowledged"}, 5, ""),
        ("auto", set(), 0, ""),
        ("auto", {"lost", "divergent"}, 1, "divergent: not among the flow's `kinds` (unacknowledged, lost)"),
        ("auto", {"lost"}, 6, "6 messages, and 5 of the flow's `budget` of 9/h is left"),
    ],
)
def test_why_a_second_person_is_asked(mode: str, kinds: set[str], messages: int, said: str) -> None:
    """`off` is refused altogether, elsewhere; under `auto` kinds and budget decide."""
    policy = Replay.model_validate({"mode": mode, "budget": "9/h"})
    assert policy.budget == Budget(9, 3600 * SECOND)
    assert objection(policy, kinds, messages, 5) == said


def covered(*intervals: Interval, at: tuple[str, str] = ACK, closed: int | None = None) -> Coverage:
    """All is watched, but `at` only so."""
    whole = [SourceCover("s", ((0, NOW),))]
    return Coverage({ACK: whole, PERSIST: whole} | {at: [SourceCover("s", intervals, closed)]})


@pytest.mark.parametrize(
    ("coverage", "opened_at", "where"),
    [
        (covered((0, NOW)), 100 * SECOND, ""),
        (covered((0, NOW - FRESH)), 100 * SECOND, ""),
        (covered((0, NOW - FRESH - 1)), 100 * SECOND, "billing"),
        (covered((0, NOW - FRESH - 1)), NOW - 1, "billing"),
        (covered((0, 200 * SECOND), (300 * SECOND, NOW)), 100 * SECOND, "billing"),
        (covered((0, 200 * SECOND), (300 * SECOND, NOW)), 400 * SECOND, ""),
        (covered((0, NOW - FRESH - 1), at=PERSIST), 100 * SECOND, "kafka"),
        (covered((0, 200 * SECOND), (300 * SECOND, NOW), at=PERSIST), 100 * SECOND, ""),
        (covered((0, NOW), at=PERSIST, closed=NOW), 100 * SECOND, "kafka"),
        (Coverage(last_heard={ACK: NOW, PERSIST: NOW}), 100 * SECOND, "kafka"),
        (Coverage(covered((0, NOW)).sources, assumed=frozenset({ACK}), last_heard={ACK: NOW}), 100 * SECOND, ""),
        (Coverage(covered((0, NOW)).sources, assumed=frozenset({ACK})), 100 * SECOND, "billing"),
    ],
)
def test_nothing_goes_into_the_dark(coverage: Coverage, opened_at: int, where: str) -> None:
    """The target is watched now, by somebody who announced himself; where it is missing nobody looked away since it was
    found. What is assumed is enough there, as it was for the finding."""
    assert unwatched(coverage, {"kafka"}, LACKS, opened_at, NOW) == where


def test_any_of_several_hops_in_the_dark() -> None:
    """Each of them may have had the message meanwhile."""
    either = (Missing("billing|other", "ack", "unacknowledged"),)
    assert unwatched(covered((0, NOW)), {"kafka"}, either, 100 * SECOND, NOW) == "other"
