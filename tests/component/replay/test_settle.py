import pytest

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Stage
from tracker.replay.routes import Missing
from tracker.replay.settle import Doubt, Outcome, doubt, outcome

SPAN = (100, 200)
BILLING = Missing("billing", "ack", "unacknowledged")
STOCK = Missing("stock", "ack", "unacknowledged")


def covered(until: int, hop: str = "kafka", stage: str = "persist") -> Coverage:
    """One source that vouches from 0 on."""
    return Coverage({(hop, stage): [SourceCover("s", ((0, until),))]})


def persisted(replay_id: str = "r-1", attempt: int | None = 2, hop: str = "kafka") -> Event:
    """The target's log took an attempt."""
    return Event(
        flow="orders", message_id="m", hop=hop, stage=Stage.persist, observed_at=1, replay_id=replay_id, attempt=attempt
    )


def settled(events: list[Event], coverage: Coverage, now: int = 1000, arrived: int = 1) -> Doubt:
    """What became of attempt 2 of replay r-1, of which number 1 is known to have arrived."""
    return doubt(events, coverage, ["kafka"], "r-1", 2, SPAN, now, arrived)


class TestDoubt:
    def test_what_was_seen_to_arrive_was_sent(self) -> None:
        """Whatever coverage says, and however early one asks."""
        assert settled([persisted()], Coverage(), now=101) is Doubt.sent

    def test_silence_that_is_vouched_for_is_proof(self) -> None:
        """Coverage of the target passed the last moment at which it could have arrived, and nothing was there."""
        assert settled([], covered(200)) is Doubt.not_sent

    def test_silence_that_is_not_vouched_for_is_none(self) -> None:
        """While the collector is behind, nobody knows."""
        assert settled([], covered(199)) is Doubt.unknown

    def test_assumed_coverage_does_not_settle_it(self) -> None:
        """Where no source ever announced itself, an assumption must not lead to a second sending."""
        heard = Coverage(last_heard={("kafka", "persist"): 990_000_000})
        assert settled([], heard, now=990_000_001) is Doubt.unknown

    def test_it_is_too_early_while_it_may_still_arrive(self) -> None:
        """A clock that runs behind the coverage does not hurry it."""
        assert settled([], covered(5000), now=200) is Doubt.unknown

    @pytest.mark.parametrize("other", [persisted("r-2"), persisted(attempt=1), persisted(hop="elsewhere")])
    def test_another_attempt_is_no_evidence(self, other: Event) -> None:
        """Of another replay, with another number, at another hop."""
        assert settled([other], covered(200)) is Doubt.not_sent

    def test_an_attempt_before_that_was_late_counts(self) -> None:
        """It was thought never to have arrived; the message need not be sent again."""
        assert settled([persisted(attempt=1)], covered(200), arrived=0) is Doubt.sent

    def test_an_arrival_without_number_counts(self) -> None:
        """A collector that gives no attempt numbers: better not sent again than sent twice."""
        assert settled([persisted(attempt=None)], covered(200)) is Doubt.sent


def judged(statuses: dict[Missing, str], coverage: Coverage, now: int = 1000) -> Outcome:
    """What became of a message sent at 100 that is followed up for 100."""
    return outcome(list(statuses.items()), coverage, 100, 100, now)


class TestOutcome:
    def test_recovered_is_what_the_findings_say(self) -> None:
        """All that it was sent for was seen again."""
        assert judged({BILLING: "recovered", STOCK: "recovered"}, Coverage()) is Outcome.recovered

    def test_one_that_is_still_open_keeps_it_waiting(self) -> None:
        """Half of it came back: the rest has its time."""
        assert judged({BILLING: "recovered", STOCK: "open"}, Coverage(), now=150) is Outcome.waiting

    def test_a_finding_that_was_wrong_is_no_recovery(self) -> None:
        """Withdrawn is told apart."""
        assert judged({BILLING: "withdrawn"}, Coverage()) is Outcome.withdrawn

    def test_what_somebody_gave_up_is_not_tried_again(self) -> None:
        """Parked or abandoned."""
        assert judged({BILLING: "abandoned", STOCK: "recovered"}, Coverage()) is Outcome.given_up

    def test_absence_after_the_follow_up_says_that_it_did_not_help(self) -> None:
        """Only where billing is covered until then."""
        assert judged({BILLING: "open"}, covered(200, "billing", "ack")) is Outcome.unrecovered

    def test_absence_in_the_dark_says_nothing(self) -> None:
        """A blind spot at billing: sending again could be one time too many."""
        assert judged({BILLING: "open"}, covered(150, "billing", "ack")) is Outcome.blind

    def test_any_of_several_hops_must_all_be_covered(self) -> None:
        """The other one may have taken it."""
        either = Missing("billing|backup", "ack", "unacknowledged")
        assert judged({either: "open"}, covered(200, "billing", "ack")) is Outcome.blind
