"""Which records a log holds no longer, without a broker."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import pytest

from collectors.base import Raw
from collectors.errors import Undecodable
from collectors.kafka.gone import Gone, Seen, Unnamed, drop_of, seen
from collectors.kafka.records import Decoder, Place, Route, Routes
from collectors.kafka.truncated import Cut, Newest, cut_of
from tracker.model.carry import REPLAY_ATTEMPT
from tracker.model.event import Event, Stage, delivery_of

A, B = ("orders", 0), ("orders", 1)
ROUTES = Routes([Route(topic="orders", flow="orders", hop="kafka-eu")])
CUT = Cut(offset=11, epoch=2, read=3)
SAID = (
    "Partition log truncation detected at offset 20 (leader epoch 3): broker end offset is 11 (offset leader epoch 2). "
    "Reset to INVALID.: Local: Partition log truncation detected (broker 2)"
)


def record(offset: int, epoch: int = 3, partition: int = 0, said: Mapping[str, bytes] | None = None) -> Raw:
    """A record of `orders`; its id is its offset unless said otherwise."""
    named = {"x-message-id": b"m-%d" % offset, **(said or {})}
    return Raw(b"", named, None, Place("orders", partition, offset, "id", True, epoch), 5)


def remembered(*raws: Raw, most: int = 100, began: int = 0) -> tuple[Newest, list[Event]]:
    """A memory of these, and the events that were made of them."""
    newest, decoder, events = Newest(most), Decoder(ROUTES, "x-message-id", plain_keys=False, region="eu"), []
    newest.begin(A, began)
    newest.begin(B, began)
    for raw in raws:
        events.append(decoder.event_of(raw))
        newest.add_all([seen(raw.position, events[-1])])
    return newest, events


def decoded(raw: Raw) -> Event:
    """Its `persist`."""
    return Decoder(ROUTES, "x-message-id", plain_keys=False, region="eu").event_of(raw)


def names(found: list[Gone | Unnamed]) -> list[str]:
    """Ids, and the offsets of what has none."""
    return [one.record.message_id if isinstance(one, Gone) else f"{one.first}-{one.last}" for one in found]


def test_the_drivers_words_say_where_the_log_was_cut_off() -> None:
    """Any other reason says nothing of that."""
    assert cut_of(SAID) == CUT
    assert cut_of("No epoch found less or equal to offset 20 (leader epoch 3): broker end offset is -1") is None
    assert cut_of("fetch failed due to requested offset not available on the broker") is None


def test_what_stood_behind_the_cut_is_gone_and_said_once() -> None:
    """Of this partition alone, in order."""
    newest, _ = remembered(*(record(n) for n in range(8, 14)), record(12, partition=1), began=8)
    assert names(newest.cut(A, CUT, 14)) == ["m-11", "m-12", "m-13"]
    assert names(newest.cut(A, CUT, 11)) == []
    assert names(newest.cut(B, CUT, 13)) == ["m-12"]


def test_what_got_the_offset_later_is_not_gone() -> None:
    """Its epoch is newer than what had been read when the log was cut off."""
    newest, _ = remembered(record(11), record(11, 4, said={"x-message-id": b"other"}), began=11)
    assert names(newest.cut(A, CUT, 12)) == ["m-11"]


@pytest.mark.parametrize(
    ("most", "began", "expected"),
    [
        (100, 11, ["m-11", "m-12", "m-13"]),  # all of it was read by this process
        (100, 12, ["11-11", "m-11", "m-12", "m-13"]),  # the position was 12 when it began
        (2, 0, ["11-11", "m-12", "m-13"]),  # only two are remembered
        (0, 0, ["11-13"]),
    ],
)
def test_what_nobody_remembers_is_told_by_its_offsets(most: int, began: int, expected: list[str]) -> None:
    """From the cut up to what is remembered: read before the last start, or too long ago."""
    newest, _ = remembered(*(record(n) for n in range(11, 14)), most=most, began=began)
    found = newest.cut(A, CUT, 14)
    assert names(found) == expected
    for one in found:
        if isinstance(one, Unnamed):
            with pytest.raises(Undecodable, match=f"orders/0 offsets 11 to {one.last} .* cannot be named"):
                drop_of(Raw(b"", position=one, observed_at=9), ROUTES, "node", "eu")


def test_a_topic_made_again_is_another_log() -> None:
    """Nothing of the old one is remembered."""
    newest, _ = remembered(record(11))
    newest.forget(A)
    newest.begin(A, 0)
    assert names(newest.cut(A, CUT, 12)) == []


def test_what_was_let_go_stays_let_go_when_another_topic_is_forgotten() -> None:
    """There is room again, but nobody remembers what stood there."""
    newest, _ = remembered(record(11), record(9, partition=1), record(12), record(13), most=3)
    newest.forget(B)
    assert names(newest.cut(A, CUT, 14)) == ["11-11", "m-12", "m-13"]


def test_what_was_forgotten_takes_no_room_of_others() -> None:
    """A topic that was made again is remembered from its own beginning, the newest of all partitions together."""
    newest, _ = remembered(record(11), record(12), most=3)
    newest.forget(A)
    newest.begin(A, 11)
    newest.add_all([seen(record(n).position, decoded(record(n))) for n in (11, 12, 13)])
    assert names(newest.cut(A, CUT, 14)) == ["m-11", "m-12", "m-13"]


@pytest.mark.parametrize("attempt", [{}, {REPLAY_ATTEMPT: b"2"}])
def test_a_drop_is_of_the_delivery_that_it_takes_back(attempt: dict[str, bytes]) -> None:
    """Also of one that a replay sent."""
    newest, [persist] = remembered(record(11, said=attempt), began=11)
    [gone] = newest.cut(A, CUT, 12)
    drop = drop_of(Raw(b"", position=gone, observed_at=9), ROUTES, "node", "eu")
    assert (drop.flow, drop.message_id, drop.hop) == (persist.flow, persist.message_id, persist.hop)
    assert (drop.stage, drop.reason, drop.observed_at) == (Stage.drop, "truncated", 9)
    assert delivery_of(drop) == delivery_of(persist)


def test_the_same_message_at_the_same_offset_again_is_another_delivery() -> None:
    """Behind a cut the epoch tells the two apart; before it nothing changes."""
    decoder = Decoder(ROUTES, "x-message-id", plain_keys=False, region="")
    before = [decoder.event_of(record(n)) for n in (10, 11)]
    decoder.reused = {A: 11}
    after = [decoder.event_of(record(n, 4)) for n in (10, 11)]
    assert delivery_of(after[0]) == delivery_of(before[0])
    assert delivery_of(after[1]) != delivery_of(before[1])
    assert decoder.event_of(record(11, 4, partition=1)).delivery == ""


def test_what_a_remembered_record_takes() -> None:
    """What the page says of memory: less than 300 bytes for an id of 36 characters."""
    newest, count = Newest(20_000), 20_000
    tracemalloc.start()
    for number in range(count):
        place = Place("orders", 0, 1_000_000 + number, "id", True, 3)
        newest.add_all([Seen(place, f"0190aaaa-bbbb-7ccc-8ddd-{number:012d}", "", None)])
    taken = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    print(f"{taken:.0f} bytes for each remembered record")
    assert 100 < taken < 300
