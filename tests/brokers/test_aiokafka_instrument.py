"""Instrumented aiokafka clients against a real Kafka."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from collectors.carried import digest_of
from collectors.emitter import Emitter
from collectors.instrument import aiokafka as instrument
from collectors.instrument.observe import Observer
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tests.brokers.kept import Kept, on_a_loop
from tests.contract.http_tracker import HttpTracker
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage

pytestmark = pytest.mark.brokers


@pytest.fixture
def topic(kafka_server: str) -> Iterator[Topic]:
    """A topic of one partition."""
    with own_topic(kafka_server) as topic:
        yield topic


@pytest.fixture
def kept() -> Kept:
    """Where observations go."""
    return Kept()


@pytest.fixture
def observer(kept: Kept) -> Observer:
    """Observes hop `billing` of flow `orders`."""
    return Observer(kept, "orders", "billing")


def producing(topic: Topic, observer: Observer, **settings: Any) -> Any:
    """An instrumented producer."""
    return instrument.producer(AIOKafkaProducer(bootstrap_servers=topic.servers, **settings), observer)


def consuming(topic: Topic, observer: Observer, *topics: str, **settings: Any) -> Any:
    """An instrumented consumer of group `app-<topic>`, subscribed by its constructor if to anything."""
    wanted = {
        "group_id": f"app-{topic.name}", "auto_offset_reset": "earliest", "enable_auto_commit": False,
        "heartbeat_interval_ms": 100, **settings,
    }  # fmt: skip
    return instrument.consumer(AIOKafkaConsumer(*topics, bootstrap_servers=topic.servers, **wanted), observer)


async def take(consumer: Any, count: int) -> list[ConsumerRecord]:
    """Consume so many records."""
    return [await consumer.getone() for _ in range(count)]


@on_a_loop
async def test_a_produce_is_observed_when_the_broker_has_it(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Not when it was sent; with partition, offset, digest and the id that was set; before the sender is told."""
    async with producing(topic, observer) as producer:
        future = await producer.send(topic.name, b"payload", key=b"k")
        assert kept.events == []
        assert (await future).offset == 0
        [event] = kept.events
    assert (event.flow, event.hop, event.stage) == ("orders", "billing", Stage.produce)
    assert (event.partition, event.offset, event.key) == (f"{topic.name}/0", 0, "")
    assert (event.digest, event.size) == (digest_of(b"payload"), 7)
    assert event.origin_at is not None
    assert event.origin_at <= event.observed_at


@on_a_loop
async def test_id_and_origin_travel_with_the_message(topic: Topic, kept: Kept, observer: Observer) -> None:
    """They are set where absent and left alone where present; other headers stay, twice named ones too."""
    async with producing(topic, observer) as producer:
        await producer.send_and_wait(topic.name, b"1", headers=[("a", b"1"), ("a", b"2")])
        await producer.send_and_wait(topic.name, b"2", headers=[(MESSAGE_ID, b"mine"), (ORIGIN_AT, b"17")])
    async with AIOKafkaConsumer(topic.name, bootstrap_servers=topic.servers, auto_offset_reset="earliest") as plain:
        first, second = [record.headers for record in await take(plain, 2)]
    assert first[:2] == (("a", b"1"), ("a", b"2"))
    assert [name for name, _ in first[2:]] == [MESSAGE_ID, ORIGIN_AT]
    assert second == ((MESSAGE_ID, b"mine"), (ORIGIN_AT, b"17"))
    assert kept.of(Stage.produce) == [first[2][1].decode(), "mine"]
    assert [event.origin_at for event in kept.events] == [int(first[3][1]), 17]


@on_a_loop
async def test_what_the_broker_did_not_take_was_not_produced(kafka_server: str, kept: Kept, observer: Observer) -> None:
    """The error is the application's, as ever."""
    with own_topic(kafka_server, config={"max.message.bytes": "2000"}) as topic:
        async with producing(topic, observer) as producer:
            future = await producer.send(topic.name, b"x" * 3000)
            with pytest.raises(MessageSizeTooLargeError):
                await future
    assert kept.events == []


@on_a_loop
async def test_a_report_that_nobody_heard_is_no_produce(topic: Topic, kept: Kept, observer: Observer) -> None:
    """A future that is cancelled, as by `wait_for`, does not stop the message from being sent, but nobody was told."""
    async with producing(topic, observer) as producer:
        future = await producer.send(topic.name, b"x", headers=[(MESSAGE_ID, b"m-1")])
        future.cancel()
        await producer.flush()
    assert kept.events == []
    assert observer.counts.errors == 0
    assert topic.ends()[0] == (0, 1)


@on_a_loop
async def test_without_acks_nobody_confirmed(topic: Topic, kept: Kept, observer: Observer) -> None:
    """The event says so, and knows no offset."""
    async with producing(topic, observer, acks=0) as producer:
        await producer.send_and_wait(topic.name, b"x", headers=[(MESSAGE_ID, b"m-1")])
    [event] = kept.events
    assert (event.message_id, event.offset, event.attributes) == ("m-1", None, {"confirmed": "false"})


@on_a_loop
async def test_a_transaction_is_produced_when_it_is_committed(topic: Topic, kept: Kept, observer: Observer) -> None:
    """What was taken back never counts; by calls and by `async with`."""
    async with producing(topic, observer, transactional_id=f"t-{topic.name}") as producer:
        for name, end in ((b"taken-back", producer.abort_transaction), (b"kept", producer.commit_transaction)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic.name, b"x", headers=[(MESSAGE_ID, name)])
            assert kept.events == []
            await end()
        assert kept.of(Stage.produce) == ["kept"]
        async with producer.transaction():
            await producer.send(topic.name, b"x", headers=[(MESSAGE_ID, b"in a block")])
        with suppress(RuntimeError):
            async with producer.transaction():
                await producer.send(topic.name, b"x", headers=[(MESSAGE_ID, b"given up")])
                raise RuntimeError
    assert kept.of(Stage.produce) == ["kept", "in a block"]


@on_a_loop
async def test_a_batch_carries_ids_too(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Each message at its own offset; what did not fit is none."""
    async with producing(topic, observer, max_batch_size=600) as producer:
        batch = producer.create_batch()
        taken = [batch.append(key=None, value=b"x" * 100, timestamp=None) is not None for _ in range(5)]
        first = await (await producer.send_batch(batch, topic.name, partition=0))
    count = taken.count(True)
    assert 1 < count < 5
    assert len(set(kept.of(Stage.produce))) == count
    assert [event.offset for event in kept.events] == [first.offset + n for n in range(count)]


@on_a_loop
async def test_what_serializers_make_has_no_digest(topic: Topic, kept: Kept, observer: Observer) -> None:
    """The bytes on the wire are not shown, so nothing is said of them; the messages are tracked like others."""
    async with producing(topic, observer, value_serializer=lambda value: json.dumps(value).encode()) as producer:
        await producer.send_and_wait(topic.name, {"amount": 3}, headers=[(MESSAGE_ID, b"m-1")])
    async with consuming(topic, observer, topic.name, value_deserializer=json.loads) as consumer:
        [record] = await take(consumer, 1)
        assert record.value == {"amount": 3}
        consumer.ack(record)
    assert [(e.stage.value, e.digest) for e in kept.events] == [("produce", ""), ("deliver", ""), ("ack", "")]
    assert [event.size for event in kept.events] == [None, 13, 13]
    assert observer.counts.errors == 0


@on_a_loop
async def test_skipped_messages_have_no_ack_though_the_commit_went_past_them(
    topic: Topic, kept: Kept, observer: Observer
) -> None:
    """The story: 137 of 500 messages are skipped, the offset is committed past all; 363 have an ack, 137 have none."""
    names = [f"m-{n}" for n in range(500)]
    topic.put(names)
    skipped = {f"m-{n}" for n in range(100, 237)}
    async with consuming(topic, observer, topic.name) as consumer:
        seen = 0
        while seen < 500:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    seen += 1
                    if record.value.decode() not in skipped:
                        consumer.ack(record)
        await consumer.commit()
        assert await consumer.committed(TopicPartition(topic.name, 0)) == 500
    assert kept.of(Stage.deliver) == names
    assert set(names) - set(kept.of(Stage.ack)) == skipped
    assert len(kept.of(Stage.ack)) == 363


@on_a_loop
async def test_only_what_is_said_of_a_message_is_an_ack(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Commits of any kind: none. However a record was handed over."""
    topic.put([f"m-{n}" for n in range(3)])
    place = TopicPartition(topic.name, 0)
    async with consuming(topic, observer, topic.name) as consumer:
        first = await consumer.getone()
        second = await anext(aiter(consumer))
        [third] = (await consumer.getmany(timeout_ms=5000, max_records=1))[place]
        await consumer.commit()
        await consumer.commit({place: 3})
        assert kept.told() == [(f"m-{n}", "deliver") for n in range(3)]
        assert consumer.ack(first)
        assert consumer.nack(second, "card declined")
        assert consumer.dead_letter(third, "poison")
    assert kept.told()[3:] == [("m-0", "ack"), ("m-1", "nack"), ("m-2", "dead_letter")]
    assert [e.reason for e in kept.events[-2:]] == ["card declined", "poison"]


@on_a_loop
async def test_a_delivery_is_named_by_place_group_and_session(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Deliver and ack of one hand-over agree; reading it again is another hand-over, in whatever order they end."""
    topic.put(["m-0"])
    async with consuming(topic, observer, topic.name) as consumer:
        [record] = await take(consumer, 1)
        for seek in (lambda: consumer.seek(TopicPartition(topic.name, 0), 0), consumer.seek_to_beginning):
            if (waited := seek()) is not None:
                await waited
            [again] = await take(consumer, 1)
            consumer.ack(again)
        consumer.ack(record)
        member = consumer._coordinator.member_id
    first, second, acked_second, third, acked_third, acked_first = (event.delivery for event in kept.events)
    assert first.startswith(f"{topic.name}/0:0:app-{topic.name}:{member}-")
    assert (first, second, third) == (acked_first, acked_second, acked_third)
    assert len({first, second, third}) == 3


@on_a_loop
async def test_a_rebalance_begins_another_session(topic: Topic, kept: Kept, observer: Observer) -> None:
    """The same member gets the record again after another one came and went: two hand-overs, two acks, the late one of
    the first hand-over too."""
    topic.put(["m-0"])
    async with consuming(topic, observer, topic.name) as consumer:
        [before] = await take(consumer, 1)
        async with consuming(topic, Observer(Kept(), "orders", "other"), topic.name):
            pass
        [after] = await take(consumer, 1)
        consumer.ack(after)
        consumer.ack(before)
    first, second, acked_second, acked_first = (event.delivery for event in kept.events)
    assert (first, second) == (acked_first, acked_second)
    assert first != second


class Listening(ConsumerRebalanceListener):  # type: ignore[misc]
    """The application's own listener: one method of each kind."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """May wait."""
        self.heard.append(("revoked", len(revoked)))

    def on_partitions_assigned(self, assigned: Any) -> None:
        """May not."""
        self.heard.append(("assigned", len(assigned)))


@on_a_loop
async def test_the_applications_listener_is_called(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Behind ours; and what is no listener is refused as ever."""
    topic.put(["m-0"])
    listening = Listening()
    async with consuming(topic, observer) as consumer:
        with pytest.raises(TypeError):
            consumer.subscribe([topic.name], listener=object())
        consumer.subscribe([topic.name], listener=listening)
        consumer.ack((await take(consumer, 1))[0])
    assert listening.heard == [("revoked", 0), ("assigned", 1)]
    assert kept.told() == [("m-0", "deliver"), ("m-0", "ack")]


@on_a_loop
async def test_partitions_assigned_by_hand(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Without a group the session is the client's own."""
    topic.put(["m-0"])
    async with consuming(topic, observer, group_id=None) as consumer:
        consumer.assign(iter([TopicPartition(topic.name, 0)]))
        consumer.ack((await take(consumer, 1))[0])
    delivered, acked = kept.events
    assert delivered.delivery == acked.delivery
    assert delivered.delivery.startswith(f"{topic.name}/0:0::")


@on_a_loop
async def test_a_broken_spool_never_reaches_the_application(topic: Topic, kept: Kept, observer: Observer) -> None:
    """Producing, consuming and committing go on; the failures are counted."""
    kept.broken = True
    async with producing(topic, observer) as producer:
        await producer.send_and_wait(topic.name, b"x")
    async with consuming(topic, observer, topic.name) as consumer:
        [record] = await take(consumer, 1)
        assert consumer.ack(record) is False
        await consumer.commit()
    assert observer.counts.errors == 3


@on_a_loop
async def test_with_the_tracker_away_the_spool_is_bounded(topic: Topic, tmp_path: Path) -> None:
    """The application goes on; what there was no room for is counted, and will be a hole in coverage."""
    with Emitter("http://127.0.0.1:1", collector="c", spool=tmp_path, limit=2**14) as emitter:
        async with producing(topic, Observer(emitter, "orders", "checkout")) as producer:
            futures = [await producer.send(topic.name, b"x") for _ in range(200)]
            assert {(await future).offset for future in futures} == set(range(200))
        counts = emitter.counts
        assert counts.dropped > 0
        assert counts.emitted + counts.dropped == 200
        emitter.close(timeout=0)


@on_a_loop
async def test_other_topics_are_left_alone(topic: Topic, kept: Kept, observer: Observer) -> None:
    """With `topics` given, messages of others are neither marked nor observed."""
    plain = AIOKafkaProducer(bootstrap_servers=topic.servers)
    async with instrument.producer(plain, observer, topics=["orders-only"]) as producer:
        await producer.send_and_wait(topic.name, b"x")
    reading = AIOKafkaConsumer(topic.name, bootstrap_servers=topic.servers, auto_offset_reset="earliest")
    async with instrument.consumer(reading, observer, topics=["orders-only"]) as consumer:
        [record] = await take(consumer, 1)
    assert record.headers == ()
    assert kept.events == []


def test_a_consumer_killed_in_mid_batch_loses_no_observation(topic: Topic, tmp_path: Path) -> None:
    """SIGKILL: every offset that the broker was told of has its ack in the spool, for the next process to deliver."""
    topic.put([f"m-{n}" for n in range(300)])
    spool = tmp_path / "spool"
    command = [sys.executable, "-m", "tests.brokers.aio_consuming", "aiokafka", topic.servers, topic.name, str(spool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as application:
        assert application.stdout is not None
        for line in application.stdout:
            if line.startswith("100 "):
                break
        application.kill()
    with Consumer(topic.client(group_id=f"app-{topic.name}")) as look:
        [position] = look.committed([Place(topic.name, 0)], timeout=20)
    with HttpTracker() as tracker, Emitter(tracker.url, collector="billing", spool=spool) as emitter:
        assert emitter.flush(20)
        lines = [line for request in tracker.requests for line in request.lines]
    acked = {line["message_id"] for line in lines if line["stage"] == "ack"}
    assert position.offset >= 100
    assert acked >= {f"m-{n}" for n in range(position.offset)}
    assert len(acked) <= position.offset + 1


@on_a_loop
async def test_the_program_of_the_page_works(topic: Topic, tmp_path: Path) -> None:
    """As it stands: the one record is produced, delivered and acked, and the tracker has it."""
    page = Path("docs/collectors/kafka.md").read_text()
    [program] = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "AIOKafka" in block]
    names: dict[str, Any] = {}
    exec(program, names)

    async def process(_: Any) -> None:
        """Nothing to do."""

    def stages() -> list[str]:
        return [line["stage"] for request in tracker.requests for line in request.lines]

    with HttpTracker() as tracker, Emitter(tracker.url, collector="c", spool=tmp_path) as emitter:
        # A group of its own: a killed member of somebody else's would hold its partitions for 45 seconds.
        working = asyncio.create_task(names["work"](topic.servers, topic.name, f"app-{topic.name}", emitter, process))
        try:
            await asyncio.to_thread(wait_for, lambda: "ack" in stages() or working.done())
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
    assert stages() == ["produce", "deliver", "ack"]
