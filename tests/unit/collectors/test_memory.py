from __future__ import annotations

import threading

import msgspec
import pytest

from collectors.base import Raw, Undecodable
from collectors.errors import ConfigInvalid
from collectors.instrument.memory import MemoryConsumer, MemoryProducer
from collectors.instrument.observe import Observer
from collectors.memory import Config, Followed, MemoryBroker, MemoryCollector, MemoryPublisher, MemorySource, Slot, tail
from tests.unit.collectors.test_observe import Kept
from tracker.model.carry import MESSAGE_ID, REPLAY_ID, Copy, Locator, Missing
from tracker.model.event import Event, Range, Stage


@pytest.fixture
def broker():
    """Two partitions, a clock that counts."""
    ticks = iter(range(1_000_000, 10**9, 1000))
    found = MemoryBroker(partitions=2, clock=lambda: next(ticks))
    found.create("orders")
    return found


def fill(broker, count, partition=0):
    """Records with ids in one partition."""
    return [
        broker.append("orders", b"v%d" % i, None, {MESSAGE_ID: b"m-%d" % i}, partition=partition) for i in range(count)
    ]


def consumer(broker, kept, member="a", group="app"):
    """An instrumented consumer."""
    return MemoryConsumer(broker, group, ["orders"], Observer(kept, "orders", "billing"), member=member)


def test_offsets_count_per_partition(broker):
    """Each partition numbers its own records; the key chooses the partition."""
    first, second = (broker.append("orders", b"x", b"key") for _ in range(2))
    assert (first.offset, second.offset) == (0, 1)
    assert first.slot == second.slot
    assert broker.bounds(first.slot) == (0, 2)


def test_retention_takes_the_oldest():
    """A partition keeps its last records; a reader behind them goes on at the oldest left."""
    broker = MemoryBroker(retention=3)
    for i in range(5):
        broker.append("t", b"%d" % i)
    assert broker.bounds(Slot("t", 0)) == (2, 5)
    assert [r.offset for r in broker.fetch(Slot("t", 0), 0, 10)] == [2, 3, 4]


def test_a_partition_has_one_member_at_a_time(broker):
    """Partitions are shared out among members, and again when one leaves."""
    broker.join("app", "a", ["orders"])
    broker.join("app", "b", ["orders"])
    _, of_a = broker.assignment("app", "a")
    generation, of_b = broker.assignment("app", "b")
    assert sorted(of_a + of_b) == broker.slots(["orders"])
    assert of_a != of_b
    broker.leave("app", "b")
    assert broker.assignment("app", "a") == (generation + 1, broker.slots(["orders"]))


def test_waiting_ends_with_the_next_record(broker):
    """A reader that waits is woken by an append."""
    slot = Slot("orders", 0)
    waiting = threading.Thread(target=broker.wait, args=({slot: 0}, 10.0))
    waiting.start()
    fill(broker, 1)
    waiting.join(5)
    assert not waiting.is_alive()


def test_producer_and_consumer_tell_the_whole_way(broker):
    """produce, deliver and ack of one message carry one id, and the consumer's delivery names place and session."""
    kept = Kept()
    producer = MemoryProducer(broker, Observer(kept, "orders", "checkout"))
    sent = producer.send("orders", b"v", b"k")
    reader = consumer(broker, kept)
    (got,) = reader.poll()
    reader.ack(got)
    produce, deliver, ack = kept.events
    assert produce.message_id == deliver.message_id == ack.message_id == sent.headers[MESSAGE_ID].decode()
    assert (produce.stage, deliver.stage, ack.stage) == (Stage.produce, Stage.deliver, Stage.ack)
    assert produce.delivery == f"{sent.slot}:0"
    assert deliver.delivery == ack.delivery == f"{sent.slot}:0:app:a-1"
    assert broker.committed("app") == {sent.slot: 1}


def test_the_ack_is_observed_before_the_commit(broker):
    """When the observation is made, the broker has not been told."""
    fill(broker, 1)
    seen = []

    class Watching(Kept):
        def emit_line(self, line):
            seen.append((msgspec.json.decode(line, type=Event).stage, broker.committed("app")))
            return 0

    reader = consumer(broker, Watching())
    reader.ack(reader.poll()[0])
    assert seen[-1] == (Stage.ack, {})


def test_nack_brings_it_again_as_another_delivery(broker):
    """After a nack the record comes again, in another session."""
    fill(broker, 2)
    kept = Kept()
    reader = consumer(broker, kept)
    reader.nack(reader.poll()[0])
    again = reader.poll()
    assert [r.offset for r in again] == [0, 1]
    deliveries = [e.delivery for e in kept.events if e.stage is Stage.deliver and e.message_id == "m-0"]
    assert len(set(deliveries)) == 2


def test_a_crash_is_a_redelivery(broker):
    """A member that is gone before it committed: the next one gets the record, as another delivery."""
    fill(broker, 1)
    kept = Kept()
    reader = consumer(broker, kept)
    reader.poll()
    broker.leave("app", "a")
    heir = consumer(broker, kept, member="b")
    assert [r.offset for r in heir.poll()] == [0]
    assert len({e.delivery for e in kept.events}) == 2


def test_a_dead_letter_is_parked_and_passed(broker):
    """It lies in the other topic with its headers, is reported with its reason, and is committed past."""
    fill(broker, 1)
    kept = Kept()
    reader = consumer(broker, kept)
    parked = reader.dead_letter(reader.poll()[0], "orders.dead", "poison")
    assert parked.headers[MESSAGE_ID] == b"m-0"
    assert (kept.events[-1].stage, kept.events[-1].reason) == (Stage.dead_letter, "poison")
    assert broker.committed("app") == {Slot("orders", 0): 1}


def test_skipping_says_nothing(broker):
    """A skip commits past records that nobody saw; only the records behind them are delivered."""
    fill(broker, 5)
    kept = Kept()
    reader = consumer(broker, kept)
    reader.poll(limit=1)
    broker.commit("app", Slot("orders", 0), 1)
    assert [r.offset for r in reader.skip(Slot("orders", 0), 3)] == [1, 2, 3]
    assert [r.offset for r in reader.poll()] == [4]
    assert {e.message_id for e in kept.events} == {"m-0", "m-4"}


def test_a_groups_commits_are_ranges(broker):
    """What a group moved past is one range, from where it was to where it is, once."""
    followed = Followed("app", "orders", "orders", "billing", "log")
    collector = MemoryCollector("one", Config(groups=[followed]), broker, clock=lambda: 7)
    assert collector.read(10, 0) == []
    broker.commit("app", Slot("orders", 1), 4)
    (raw,) = collector.read(10, 0)
    (found,) = collector.decode(raw)
    assert found == Range(
        flow="orders", hop="billing", stage=Stage.ack, log="log", partition="orders/1", offset=0, offset_to=4,
        observed_from=7, observed_at=7, evidence="range", group="app",
    )  # fmt: skip
    assert collector.read(10, 0) == []
    assert {s.evidence for s in collector.sources()} == {"range"}
    again = MemoryCollector("one", Config(groups=[followed]), broker)
    assert len(again.read(10, 0)) == 1  # not committed, so it comes again
    again.commit([raw])
    assert MemoryCollector("one", Config(groups=[followed]), broker).read(10, 0) == []


def test_a_record_without_an_id_is_undecodable(broker):
    """The reason names the place and the header."""
    collector = tail("one", {"topics": [{"topic": "orders", "flow": "f", "hop": "h"}]}, broker)
    broker.append("orders", b"x", partition=0)
    (raw,) = collector.read(1, 0)
    with pytest.raises(Undecodable, match=r"orders/0 offset 0: no header x-message-id"):
        collector.decode(raw)
    with pytest.raises(Undecodable):
        collector.decode(Raw(b""))


def test_settings_that_are_wrong_are_named():
    """An unknown key is an error that names the collector and the key."""
    with pytest.raises(ConfigInvalid, match=r"collector one: .*topix"):
        tail("one", {"topix": []})


def test_a_copy_is_fetched_as_it_was(broker):
    """Key, value and headers as the log has them; what is gone says why."""
    (stored,) = fill(broker, 1)
    source = MemorySource(broker)
    here = Locator("m-0", "log", "orders/0", 0)
    found = source.fetch([here, Locator("m-9", "log", "orders/0", 9), Locator("m", "log", "nowhere", 0)])
    assert isinstance(found[0], Copy)
    assert (found[0].value, found[0].headers) == (stored.value, stored.headers)
    assert isinstance(found[1], Missing)
    assert "beyond the end" in found[1].reason
    assert isinstance(found[2], Missing)
    assert "no partition" in found[2].reason


def test_a_copy_that_retention_took():
    """An offset before the oldest is gone."""
    broker = MemoryBroker(retention=1)
    for _ in range(2):
        broker.append("t", b"x")
    (found,) = MemorySource(broker).fetch([Locator("m", "log", "t/0", 0)])
    assert found.reason == "retention took it"


def test_a_copy_is_published_with_its_headers(broker):
    """To its own partition, or to the topic that the publisher was made for; a replay keeps its header."""
    copy = Copy(Locator("m-0", "log", "orders/1", 0), b"k", b"v", {MESSAGE_ID: b"m-0", REPLAY_ID: b"r"}, "")
    (sent,) = MemoryPublisher(broker).publish([copy])
    assert sent.error == ""
    (found,) = broker.fetch(Slot("orders", 1), 0, 10)
    assert (found.key, found.value, found.headers) == (b"k", b"v", copy.headers)
    MemoryPublisher(broker, "again").publish([copy])
    assert broker.slots(["again"])
    (refused,) = MemoryPublisher(broker).publish([Copy(Locator("m", "log", "", 0), None, b"", {}, "")])
    assert "no partition" in refused.error
