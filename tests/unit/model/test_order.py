"""Who was overtaken: one test per rule."""

from __future__ import annotations

from typing import Any

from tests.unit.model.case import event, flow
from tracker.model.event import Event, Stage
from tracker.model.order import Ordered, ordered, reordered

KEYED = flow("hop: shop, stage: produce", "hop: [billing, mail], stage: ack, after: shop, within: 5s, order: key")
PLACED = flow("hop: shop, stage: produce", "hop: billing, stage: ack, after: shop, within: 5s, order: partition")
BILLING = Ordered("billing", Stage.ack, "key")


def message(made: float, done: float, node: str = "n", maker: str = "n", **more: Any) -> list[Event]:
    """Produced and acked at these seconds, with key `k`."""
    placed = {name: more.pop(name) for name in ("partition", "offset", "origin_at") if name in more}
    more = {"key": "k", **more}
    return [event("shop:produce", made, node=maker, **placed, **more), event("billing:ack", done, node=node, **more)]


def overtaken(**messages: list[Event]) -> set[str]:
    """The ids that were overtaken, by key."""
    return set(reordered(KEYED, BILLING, messages))


def test_asked_for_at_every_hop_of_a_checkpoint() -> None:
    """One line of comparison for each place; checkpoints without `order` are not looked at."""
    assert ordered(KEYED) == [BILLING, Ordered("mail", Stage.ack, "key")]
    assert ordered(PLACED) == [Ordered("billing", Stage.ack, "partition")]


def test_the_one_that_came_late_is_reordered_not_the_one_that_overtook_it() -> None:
    """a was produced first and acked last."""
    assert overtaken(a=message(1, 9), b=message(2, 8), c=message(3, 10)) == {"a"}
    assert overtaken(a=message(1, 7), b=message(2, 8)) == set()


def test_another_key_is_another_line() -> None:
    """Nor is a message without a key in any."""
    assert overtaken(a=message(1, 9), b=message(2, 8, key="other")) == set()
    assert overtaken(a=message(1, 9, key=""), b=message(2, 8, key="")) == set()


def test_offsets_tell_what_was_produced_later_whatever_the_clock_says() -> None:
    """Within one partition; two partitions are two lines, and so are messages without a place."""
    first: dict[str, Any] = {"partition": "p", "offset": 1}
    second: dict[str, Any] = {"partition": "p", "offset": 2}
    assert overtaken(a=message(5, 9, **first), b=message(1, 8, **second)) == {"a"}
    assert overtaken(a=message(1, 9, **second), b=message(5, 8, **first)) == set()
    assert overtaken(a=message(1, 9, **first), b=message(2, 8, partition="q", offset=2)) == set()
    assert overtaken(a=message(1, 9, **first), b=message(2, 8)) == set()


def test_ties_never_flag() -> None:
    """Produced or observed at the same moment is no order."""
    assert overtaken(a=message(1, 9), b=message(1, 8)) == set()
    assert overtaken(a=message(1, 8), b=message(2, 8)) == set()


def test_two_clocks_are_compared_beyond_what_they_may_be_wrong_by() -> None:
    """Half a second each where nobody measured them, else their errors; one clock is compared as it is."""
    assert overtaken(a=message(1, 8.9, node="x"), b=message(2, 8, node="y")) == set()
    assert overtaken(a=message(1, 9.1, node="x"), b=message(2, 8, node="y")) == {"a"}
    assert overtaken(a=message(1, 8.9, node="x", clock_error=9), b=message(2, 8, node="y", clock_error=9)) == {"a"}
    assert overtaken(a=message(1, 9, maker="x"), b=message(1.9, 8, maker="y")) == set()
    assert overtaken(a=message(1, 9, maker="x"), b=message(2.1, 8, maker="y")) == {"a"}


def test_an_interval_is_before_or_after_only_as_a_whole() -> None:
    """Observed some time between 7 and 9: it may have been in order."""
    late = message(1, 9)
    late[1] = event("billing:ack", 9, observed_from=7, key="k", node="n")
    assert overtaken(a=late, b=message(2, 8)) == set()
    assert overtaken(a=late, b=message(2, 6.9)) == {"a"}


def test_the_origin_time_counts_by_the_trackers_clock() -> None:
    """It was stamped by the clock that dated the produce, so the correction of that one brings it over."""
    ahead = message(3, 9, origin_at=60, clock_offset=-57_000_000, clock_error=0)
    assert overtaken(a=message(1, 7), b=ahead) == set()
    assert overtaken(a=ahead, b=message(4, 8)) == {"a"}


def test_the_first_observation_counts_and_a_replayed_produce_does_not() -> None:
    """Redelivered later is no reordering; sent again by a replay it is still the message that was produced then."""
    again = event("billing:ack", 20, key="k", node="n", delivery="again")
    assert overtaken(a=[*message(1, 7), again], b=message(2, 8)) == set()
    replayed = event("shop:produce", 0, key="k", node="n", replay_id="r")
    assert overtaken(a=message(1, 7), b=[*message(2, 8), replayed]) == set()


def test_without_produce_or_passage_there_is_no_order() -> None:
    """Nothing is guessed."""
    made, done = message(1, 9)
    assert overtaken(a=[made], b=message(2, 8)) == overtaken(a=[done], b=message(2, 8)) == set()


def test_order_per_partition_needs_no_key() -> None:
    """The partition into which it was produced, else the one in which it was observed."""
    point = ordered(PLACED)[0]
    a, b = message(1, 9, key="", partition="p", offset=1), message(2, 8, key="", partition="p", offset=2)
    assert reordered(PLACED, point, {"a": a, "b": b}) == {"a"}
    seen = [
        [event("shop:produce", made, node="n"), event("billing:ack", done, node="n", partition="p")]
        for made, done in ((1, 9), (2, 8))
    ]
    assert reordered(PLACED, point, dict(zip("ab", seen, strict=True))) == {"a"}
