"""Copies for a batch: the first source that holds a right one gives it, whatever the others do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import xxhash

from tracker.control.messages import Claimed
from tracker.model.carry import MESSAGE_ID, REPLAY_ATTEMPT, Copy, Locator, Missing, Source
from tracker.model.event import Event, Stage
from tracker.model.spec import load_spec
from tracker.replay.fetching import Batch, Fetched
from tracker.replay.kept import Route, Terms
from tracker.replay.ports import Ports
from tracker.replay.routes import Choice, Keeper, Way
from tracker.replay.routes import Missing as Lack

SPEC = load_spec("""
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: eu, stage: persist, after: checkout, within: 5s, same_payload: true}
  - {hop: billing, stage: ack, after: eu, within: 10s}
""")
LACKS = [Lack("billing", "ack", "unacknowledged")]
TERMS = Terms(["eu"], 3, 45.0, MESSAGE_ID)


def payload(message_id: str) -> bytes:
    """What the producer sent."""
    return b"payload of " + message_id.encode()


@dataclass
class Shelf:
    """A source: what it holds, and what it was told of its copies afterwards."""

    holds: Callable[[str], Copy | str]
    told: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """What it holds of each, or why not."""
        found = [(place, self.holds(place.message_id)) for place in locators]
        return [Missing(place, one) if isinstance(one, str) else one for place, one in found]

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """As a queue is told."""
        self.told.append(([one.message_id for one in sent], [one.message_id for one in kept]))

    def close(self) -> None:
        """Nothing to let go of."""


def at(message_id: str, kind: str) -> Locator:
    """Where a source of this kind holds it."""
    return Locator(message_id, "eu", kind, 7)


def right(kind: str, **headers: bytes) -> Callable[[str], Copy]:
    """Every copy as it was."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda one: Copy(at(one, kind), b"k", payload(one), {MESSAGE_ID: one.encode(), **more}, "")


def wrong(kind: str) -> Callable[[str], Copy]:
    """Every copy with another payload."""
    return lambda one: Copy(at(one, kind), b"k", b"other", {MESSAGE_ID: one.encode()}, "")


def away(one: str) -> Copy:
    """A source that does not answer."""
    raise ConnectionError("no route to host")


def fetched(ids: Sequence[str], **shelves: Callable[[str], Copy | str]) -> Fetched:
    """The batch by these sources, in this order."""
    sources: dict[Keeper, Source] = {Choice(kind, "eu").keeper: Shelf(holds) for kind, holds in shelves.items()}
    routes = {one: Route([Way(kind, at(one, kind), "eu") for kind in shelves], LACKS) for one in ids}
    claims = [Claimed(one, n, {}, 1, "w", 10**18) for n, one in enumerate(ids)]
    events = {
        one: [Event(flow="orders", message_id=one, hop="checkout", stage=Stage.produce, observed_at=1,
                    digest=xxhash.xxh3_64_hexdigest(payload(one)))]
        for one in ids
    }  # fmt: skip
    return Batch(Ports(sources, {}), SPEC, TERMS, events, "r-1").fetch(claims, routes)


def test_the_first_source_gives_it() -> None:
    """The second is not even asked."""
    found = fetched(["a", "b"], log=right("log"), snapshot=away)
    assert [(one.claim.message_id, one.way.source) for one in found.ready] == [("a", "log"), ("b", "log")]
    assert (found.decided, found.away) == ({}, {})


@pytest.mark.parametrize("first", [wrong("log"), lambda one: "expired", away])
def test_the_next_steps_in(first: Callable[[str], Copy | str]) -> None:
    """Where the first holds a wrong copy, none, or does not answer."""
    found = fetched(["a"], log=first, snapshot=right("snapshot"))
    assert [(one.way.source, one.copy.value) for one in found.ready] == [("snapshot", payload("a"))]
    assert (found.decided, found.away) == ({}, {})


def test_each_message_has_its_own_way() -> None:
    """One is in the log, one only in the archive, one nowhere."""
    in_log = {"a": right("log")("a")}
    in_archive = {"b": right("snapshot")("b")}
    found = fetched(
        ["a", "b", "c"],
        log=lambda one: in_log.get(one, "expired"),
        snapshot=lambda one: in_archive.get(one, "not archived"),
    )
    assert [(one.claim.message_id, one.way.source) for one in found.ready] == [("a", "log"), ("b", "snapshot")]
    assert found.decided["c"].state == "refused"
    assert found.decided["c"].reason == "eu log offset 7: expired; eu snapshot offset 7: not archived"


def test_a_source_that_is_away_may_have_it() -> None:
    """So the message waits, without using up an attempt, and its target rests."""
    found = fetched(["a", "b"], log=away, snapshot=lambda one: "not archived")
    assert {decision.state for decision in found.decided.values()} == {"released"}
    assert found.away == {"eu": (2, "log eu cannot be read: no route to host")}


def test_a_loop_is_no_fault_of_the_copy() -> None:
    """It is parked, and no other source is asked for the same."""
    loops = right("log", **{REPLAY_ATTEMPT: b"3"})
    found = fetched(["a"], log=loops, snapshot=right("snapshot"))
    assert (found.ready, found.decided["a"].state) == ([], "parked")


def test_what_was_handed_out_is_known() -> None:
    """Whether it is sent or not: a queue has to be told."""
    found = fetched(
        ["a", "b"], dead_letter=lambda one: wrong("dead_letter")(one) if one == "a" else right("dead_letter")(one)
    )
    assert [one.claim.message_id for one in found.ready] == ["b"]
    assert found.taken == {Keeper("dead_letter", "eu"): [at("a", "dead_letter"), at("b", "dead_letter")]}
