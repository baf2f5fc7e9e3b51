import pytest

from tests.component.replay.test_throttle import Hand
from tracker.replay.backoff import BASE, LONGEST, delay
from tracker.replay.breaker import COOLDOWN_S, FAILURES, LONGEST_COOLDOWN_S, Breaker, State


@pytest.fixture
def clock() -> Hand:
    """A clock moved by hand."""
    return Hand()


@pytest.fixture
def breaker(clock: Hand) -> Breaker:
    """A breaker whose jitter is always the whole cooldown."""
    return Breaker(clock, lambda low, high: high)


class TestBreaker:
    def test_a_good_target_passes_everything(self, breaker: Breaker) -> None:
        """Confirmed messages keep it closed."""
        breaker.record(500, 0)
        assert (breaker.state, breaker.room(300)) == (State.closed, 300)

    def test_a_dead_target_opens_with_its_first_batch(self, breaker: Breaker) -> None:
        """No second batch runs into it, and the reason is kept."""
        breaker.record(0, FAILURES, "connection refused")
        assert (breaker.state, breaker.room(300), breaker.reason) == (State.open, 0, "connection refused")
        assert breaker.wait() == COOLDOWN_S

    def test_single_failures_in_a_row_open_it(self, breaker: Breaker) -> None:
        """Small batches add up; one that was confirmed starts the count anew."""
        for _ in range(FAILURES - 1):
            breaker.record(0, 1)
        breaker.record(1, 0)
        breaker.record(0, 1)
        assert breaker.state is State.closed

    def test_a_few_refusals_among_many_are_not_the_targets_fault(self, breaker: Breaker) -> None:
        """Messages that are too large do not stop the others."""
        breaker.record(490, 10, "too large")
        assert breaker.state is State.closed

    def test_after_the_cooldown_one_message_tells(self, breaker: Breaker, clock: Hand) -> None:
        """Half open lets one pass; confirmed, it closes."""
        breaker.record(0, FAILURES)
        clock.now += COOLDOWN_S
        assert (breaker.state, breaker.room(300)) == (State.half_open, 1)
        breaker.record(1, 0)
        assert (breaker.state, breaker.room(300)) == (State.closed, 300)

    def test_each_failed_trial_doubles_the_cooldown(self, breaker: Breaker, clock: Hand) -> None:
        """Up to a bound: a target that is dead for an hour gets some sixty messages, not thousands."""
        breaker.record(0, FAILURES)
        tried = 0
        while clock.now < 3600:
            clock.now += breaker.wait()
            assert breaker.room(500) == 1
            breaker.record(0, 1)
            tried += 1
        assert breaker.wait() == LONGEST_COOLDOWN_S
        assert tried < 70

    def test_a_batch_of_nothing_says_nothing(self, breaker: Breaker, clock: Hand) -> None:
        """Claims that were all refused for their copies leave the circuit as it was."""
        breaker.record(0, FAILURES)
        clock.now += COOLDOWN_S
        breaker.record(0, 0)
        assert breaker.state is State.half_open


class TestDelay:
    def test_the_bound_doubles_and_ends(self) -> None:
        """Full jitter: from nothing to a bound that doubles with each attempt, up to a longest."""
        highest = [delay(attempt, lambda low, high: high) for attempt in (1, 2, 3, 50)]
        assert highest == [BASE, 2 * BASE, 4 * BASE, LONGEST]
        assert delay(3, lambda low, high: low) == 0
