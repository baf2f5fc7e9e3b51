"""Token buckets: what a sender may send, and when it may come back."""

import anyio
import pytest

from tracker.api.gate import AWAKE_S, Gate
from tracker.api.problem import Problem
from tracker.api.rates import BURST_S, Rate
from tracker.api.service import Limits
from tracker.control.tokens import Rates


class Clock:
    """Seconds, moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """Now."""
        return self.now


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


def test_a_burst_is_free_and_then_the_rate_holds(clock):
    """After the burst a sender waits until what it owes is made up for; others do not."""
    rate = Rate(100, clock)
    assert rate.wait("a") == 0
    rate.charge("a", 100 * BURST_S + 250)
    assert (rate.wait("a"), rate.wait("b")) == (3, 0)
    clock.now += 2.4
    assert rate.wait("a") == 1
    clock.now += 0.2
    assert rate.wait("a") == 0


def test_over_time_the_rate_is_kept_whatever_a_request_holds(clock):
    """Requests of very different sizes get no more than the rate and one burst, plus the last request's debt."""
    rate, sent = Rate(100, clock), 0
    for step in range(10_000):
        clock.now += 0.01
        if not rate.wait("a"):
            amount = (1, 7, 400)[step % 3]
            rate.charge("a", amount)
            sent += amount
    assert 100 * 100 <= sent <= 100 * (100 + BURST_S) + 400


def test_without_a_limit_nothing_is_remembered(clock):
    """No limit, no waiting."""
    rate = Rate(0, clock)
    rate.charge("a", 1e12)
    assert rate.wait("a") == 0


def test_a_sender_may_have_a_limit_of_its_own(clock):
    """Lower, higher or none; it holds from the next look on, and goes when it is taken away."""
    rate = Rate(100, clock)
    rate.allow("slow", 10)
    for who in ("slow", "a"):
        rate.charge(who, 550)
    assert (rate.wait("slow"), rate.wait("a"), rate.of("slow"), rate.of("a")) == (50, 1, 10, 100)
    rate.allow("slow", 0)
    rate.charge("slow", 1e12)
    assert rate.wait("slow") == 0
    rate.allow("slow", None)
    assert (rate.wait("slow"), rate.of("slow")) == (0, 100)
    free = Rate(0, clock)
    free.allow("slow", 10)
    free.charge("slow", 60)
    assert (free.wait("slow"), free.wait("a")) == (1, 0)


def test_a_new_limit_keeps_the_wait(clock):
    """What was sent under a high limit would take hours to make up for under a low one."""
    rate = Rate(1_000_000, clock)
    rate.charge("a", 9_000_000)
    assert rate.wait("a") == 4
    rate.allow("a", 1_000_000)
    assert rate.wait("a") == 4
    rate.allow("a", 100)
    assert rate.wait("a") == 4
    rate.charge("a", 300)
    assert rate.wait("a") == 7


def refused(gate, who, *rates):
    """Status and Retry-After of an attempt to get a slot; None when there is one."""

    async def attempt():
        try:
            async with gate.slot(who, *rates):
                return None
        except Problem as problem:
            return problem.status, problem.headers.get("Retry-After")

    return anyio.run(attempt)


async def _hold(gate, who, slots, then):
    if not slots:
        return await then()
    async with gate.slot(who):
        return await _hold(gate, who, slots - 1, then)


def held(gate, who, slots, then):
    """What `then` gives while `who` holds so many slots."""
    return anyio.run(_hold, gate, who, slots, then)


def test_one_token_never_takes_all_slots(clock):
    """A quarter is left for whoever comes next, even while nobody else is there."""
    gate = Gate(Limits(ingest_slots=8), single=False, clock=clock)

    async def another():
        with pytest.raises(Problem, match="its share") as refusal:
            async with gate.slot("greedy"):
                pass
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "1")
        async with gate.slot("modest"):
            pass

    held(gate, "greedy", 6, another)


def test_shares_are_equal_among_those_who_send(clock):
    """With four at work each has a quarter; who has not sent for a while counts no more."""
    gate = Gate(Limits(ingest_slots=8), single=False, clock=clock)
    for who in "abcd":
        assert refused(gate, who) is None

    async def third():
        try:
            async with gate.slot("a"):
                return True
        except Problem:
            return False

    assert held(gate, "a", 2, third) is False
    clock.now += AWAKE_S + 1
    assert held(gate, "a", 2, third) is True


def test_where_nobody_is_asked_for_a_token_all_share_all_slots(clock):
    """There is one name for everybody, which must not be held against them. Who finds no slot is told of."""
    told: list[None] = []
    gate = Gate(Limits(ingest_slots=2), single=True, full=lambda: told.append(None), clock=clock)

    async def third():
        with pytest.raises(Problem, match="takes at once"):
            async with gate.slot("local"):
                pass

    held(gate, "local", 2, third)
    assert len(told) == 1


def test_too_fast_is_429_with_the_time_to_come_back(clock):
    """The limit is named; bytes and events count apart."""
    gate = Gate(Limits(rate_events=10, rate_bytes=1000), single=False, clock=clock)
    gate.charge("a", size=1000 * 5 + 3500)
    assert refused(gate, "a") == (429, "4")
    assert refused(gate, "b") is None
    gate.charge("b", events=10 * 5 + 100)
    assert refused(gate, "b") == (429, "10")
    gate.charge("c", events=100)
    assert refused(gate, "c", Rates(events=1)) == (429, "5")
    assert refused(gate, "c", Rates(events=0)) is None
