import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.replay.throttle import BURST_S, Bucket


class Hand:
    """A clock that is moved by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class TestBucket:
    def test_it_starts_with_one(self) -> None:
        """No burst at the start: a thousand a second begins with a single message."""
        assert Bucket(1000, Hand()).room() == 1

    def test_it_fills_at_the_rate_up_to_a_bound(self) -> None:
        """A second of rate gathers, not more, however long nothing was sent."""
        clock = Hand()
        bucket = Bucket(100, clock)
        bucket.take(1)
        clock.now = 0.2
        assert bucket.room() == 20
        clock.now = 3600
        assert bucket.room() == 100 * BURST_S

    def test_a_slow_rate_still_moves(self) -> None:
        """One in ten seconds: the bucket holds one, and says how long to wait for it."""
        clock = Hand()
        bucket = Bucket(0.1, clock)
        bucket.take(1)
        assert bucket.wait() == pytest.approx(10)
        clock.now = 10
        assert bucket.room() == 1

    def test_a_lower_rate_holds_at_once(self) -> None:
        """What gathered under the old rate beyond what the new one may hold is gone."""
        clock = Hand()
        bucket = Bucket(1000, clock)
        clock.now = 10
        bucket.set_rate(2)
        assert bucket.room() == 2

    def test_a_clock_that_stands_still_gives_nothing(self) -> None:
        """Nor does one that goes back, and it does not take away either."""
        clock = Hand()
        clock.now = 5
        bucket = Bucket(10, clock)
        bucket.take(1)
        clock.now = 4
        assert bucket.room() == 0

    @given(st.floats(0.5, 5000), st.lists(st.floats(0.001, 2), min_size=20, max_size=60))
    def test_the_rate_holds_over_any_rhythm(self, rate: float, pauses: list[float]) -> None:
        """Taking all there is at any moments never exceeds the rate by more than the one message of the start."""
        clock = Hand()
        bucket, sent = Bucket(rate, clock), 0
        for pause in pauses:
            clock.now += pause
            count = bucket.room()
            bucket.take(count)
            sent += count
        assert sent <= rate * clock.now + 1 + 1e-6
