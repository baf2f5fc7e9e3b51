"""The offset of a node's wall clock, with clocks that the test moves."""

from __future__ import annotations

import pytest

from collectors.node_clock import DRIFT, KEPT, STEP, Exchange, NodeClock

SECOND = 1_000_000


class Node:
    """A host whose wall clock is `behind` the tracker's by some µs, and which measures it."""

    def __init__(self, behind=0):
        self.now, self.behind, self.booted = 1_800_000_000 * SECOND, behind, 1_799_999_000 * SECOND
        self.clock = NodeClock(lambda: self.now - self.behind, lambda: self.now - self.booted)

    def trip(self, there=100, back=100, wrong=0):
        """A round trip of so many µs each way; the tracker's clock is `wrong` by some."""
        sent, received = self.now - self.booted, self.now + there + wrong
        self.now += there + back
        self.clock.heard(Exchange(sent, received, received, self.now - self.booted))


def test_nothing_measured_nothing_said():
    """Before the first answer nobody knows."""
    assert (Node().clock.known, Node().clock.offset()) == (False, None)


@pytest.mark.parametrize("behind", [0, 3600 * SECOND, -3600 * SECOND, 7])
@pytest.mark.parametrize(("there", "back"), [(100, 100), (90_000, 10), (10, 90_000)])
def test_the_offset_is_within_its_error(behind, there, back):
    """However the ways differ: wrong by at most half the round trip."""
    node = Node(behind)
    node.trip(there, back)
    found = node.clock.offset()
    assert abs(found.offset - behind) <= found.error <= (there + back) // 2 + 1


def test_the_shortest_trip_of_the_last_ones_counts():
    """A slow request measures worse, and does not spoil what is known; after some more it is forgotten."""
    node = Node(5 * SECOND)
    node.trip(50, 50)
    for _ in range(KEPT - 1):
        node.trip(40_000, 10)
    assert node.clock.offset().error < 100
    node.trip(40_000, 10)
    assert node.clock.offset().error > 19_000


def test_the_error_grows_with_the_age_of_a_measurement_and_of_the_lines():
    """A quartz strays: by 100 µs a second at most."""
    node = Node()
    node.trip()
    error = node.clock.offset().error
    assert node.clock.offset(age=10 * SECOND).error == error + 10 * SECOND * DRIFT
    node.now += 20 * SECOND
    assert node.clock.offset().error == error + 20 * SECOND * DRIFT


def test_somebody_sets_the_time():
    """Noticed once, at once; what was measured is forgotten, because a host that slept looks the same."""
    node = Node(3600 * SECOND)
    node.trip()
    assert not node.clock.stepped()
    node.behind = 0
    assert (node.clock.stepped(), node.clock.stepped(), node.clock.known) == (True, False, False)
    node.trip()
    assert abs(node.clock.offset().offset) <= 100


def test_a_clock_that_is_slewed_is_followed():
    """Small changes are no step; the offset follows them with the next look."""
    node = Node()
    node.trip()
    node.behind = STEP
    assert not node.clock.stepped()
    assert node.clock.offset().offset == STEP


def test_the_trackers_clock_is_set():
    """A new measurement that contradicts the old ones beyond their errors replaces them."""
    node = Node()
    node.trip()
    node.trip(30_000, 30_000, wrong=60 * SECOND)
    assert abs(node.clock.offset().offset - 60 * SECOND) <= 30_100


def test_an_exchange_that_cannot_be_is_left_out():
    """The tracker's clock was set back between receipt and answer."""
    node = Node()
    node.clock.heard(Exchange(0, 100, 50, 200))
    assert not node.clock.known
