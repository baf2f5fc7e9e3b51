"""An instrumented nats-py against a real NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import nats
import pytest
from nats.errors import MsgAlreadyAckdError
from nats.js.errors import APIError, NoStreamResponseError

from collectors.instrument import nats as instrument
from collectors.instrument.observe import Observer
from collectors.nats.tail import tail
from tests.brokers.kept import Kept, on_a_loop
from tests.brokers.nats_stream import Stream, own_stream
from tests.brokers.test_nats import seen, settings, vouched
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage, natural_key

pytestmark = pytest.mark.brokers
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def stream(nats_server: str) -> Iterator[Stream]:
    """A stream of the test's own, with a durable consumer."""
    with own_stream(nats_server) as stream:
        stream.consumer()
        yield stream


@pytest.fixture
def kept() -> Kept:
    """Where the observations go."""
    return Kept()


@asynccontextmanager
async def watched(stream: Stream, kept: Any, **options: Any) -> AsyncIterator[Any]:
    """An observed context on a connection of its own."""
    client = await nats.connect(stream.url)
    try:
        yield instrument.jetstream(client.jetstream(), Observer(kept, "orders", "app"), **options)
    finally:
        await client.close()


@on_a_loop
async def test_a_stored_message_is_a_produce(stream: Stream, kept: Kept) -> None:
    """Id and origin time are set where the application set none, and travel; its own headers stay as they are."""
    async with watched(stream, kept) as js:
        mine = {"colour": "blue"}
        stored = await js.publish(f"{stream.name}.new", b"one", headers=mine)
        await (await js.publish_async(f"{stream.name}.new", b"two"))
        await js.publish(f"{stream.name}.new", b"three", None, None, {MESSAGE_ID: "m-3", "traceparent": TRACE})
        assert mine == {"colour": "blue"}
        message = await js.get_msg(stream.name, stored.seq)
    one, two, three = kept.events
    assert [(e.stage, e.partition, e.offset) for e in (one, two)] == [(Stage.produce, stream.name, n) for n in (1, 2)]
    assert message.headers == {"colour": "blue", MESSAGE_ID: one.message_id, ORIGIN_AT: str(one.origin_at)}
    assert one.message_id != two.message_id
    assert (three.message_id, three.trace_id, three.span_id) == ("m-3", *TRACE.split("-")[1:3])


@on_a_loop
async def test_the_servers_own_id_is_the_messages(stream: Stream, kept: Kept) -> None:
    """A message that is published twice by it is stored once, and says so."""
    async with watched(stream, kept) as js:
        for _ in range(2):
            await js.publish(f"{stream.name}.new", b"one", headers={"Nats-Msg-Id": "m-1"})
    assert [(e.message_id, e.offset, e.attributes) for e in kept.events] == [
        ("m-1", 1, {}), ("m-1", 1, {"duplicate": "true"}),
    ]  # fmt: skip


@on_a_loop
async def test_a_refused_message_is_no_produce(stream: Stream, kept: Kept) -> None:
    """A full stream that discards what is new, and a subject that nobody takes: the application is told as ever."""
    async with watched(stream, kept) as js:
        name = stream.name
        await js.update_stream(name=name, subjects=[f"{name}.>"], max_msgs=1, discard="new")
        await js.publish(f"{name}.new", b"one")
        with pytest.raises(APIError, match="maximum messages exceeded"):
            await js.publish(f"{name}.new", b"two")
        with pytest.raises(NoStreamResponseError):
            await js.publish("nobody.takes.it", b"three")
        with pytest.raises(NoStreamResponseError):
            await (await js.publish_async("nobody.takes.it", b"four"))
    assert [event.stage.value for event in kept.events] == ["produce", "nack", "nack", "nack"]


@on_a_loop
async def test_what_is_said_of_fetched_messages(stream: Stream, kept: Kept) -> None:
    """Recorded before the server is told; a second ack is refused, and is none."""
    async with watched(stream, kept) as js:
        for n in range(4):
            await js.publish(f"{stream.name}.new", b"{}", headers={MESSAGE_ID: f"m-{n}"})
        kept.events.clear()
        consumer = await js.pull_subscribe(f"{stream.name}.>", durable="billing", stream=stream.name)
        one, two, three, four = await consumer.fetch(4)
        await one.ack()
        with pytest.raises(MsgAlreadyAckdError):
            await one.ack()
        await two.ack_sync(timeout=5)
        await three.term()
        await four.nak()
        (again,) = await consumer.fetch(1)
        await again.in_progress()
    assert kept.told()[4:] == [
        ("m-0", "ack"), ("m-1", "ack"), ("m-2", "dead_letter"), ("m-3", "nack"), ("m-3", "deliver"),
    ]  # fmt: skip
    assert kept.of(Stage.deliver) == ["m-0", "m-1", "m-2", "m-3", "m-3"]
    assert kept.events[6].reason == "terminated"
    assert len({event.delivery for event in kept.events}) == 5


@pytest.mark.parametrize("manual", [False, True])
def test_what_a_callback_gets(stream: Stream, kept: Kept, manual: bool) -> None:
    """Also where nats-py acks by itself, when the callback returned."""

    @on_a_loop
    async def check() -> None:
        came = asyncio.Event()

        async def take(message: Any) -> None:
            assert kept.told()[-1] == ("m-1", "deliver")
            if manual:
                await message.ack()
            came.set()

        async with watched(stream, kept) as js:
            await js.subscribe(f"{stream.name}.>", cb=take, durable="push", stream=stream.name, manual_ack=manual)
            await js.publish(f"{stream.name}.new", b"{}", headers={MESSAGE_ID: "m-1"})
            await came.wait()
            while not kept.of(Stage.ack):
                await asyncio.sleep(0.01)
        assert sorted(kept.told()) == [("m-1", "ack"), ("m-1", "deliver"), ("m-1", "produce")]

    check()


@on_a_loop
async def test_messages_one_by_one_and_of_other_subjects(stream: Stream, kept: Kept) -> None:
    """`next_msg` and iteration; what no pattern fits is left alone."""
    async with watched(stream, kept, subjects=[f"{stream.name}.new"]) as js:
        for n in range(3):
            await js.publish(f"{stream.name}.{'old' if n == 1 else 'new'}", b"{}", headers={MESSAGE_ID: f"m-{n}"})
        consumer = await js.subscribe(f"{stream.name}.>", stream=stream.name)
        await (await consumer.next_msg()).ack()
        async for message in consumer.messages:
            await message.ack()
            if message.metadata.sequence.stream == 3:
                break
    assert kept.of(Stage.produce) == kept.of(Stage.deliver) == kept.of(Stage.ack) == ["m-0", "m-2"]


@on_a_loop
async def test_what_fails_here_is_not_the_applications(stream: Stream, kept: Kept) -> None:
    """A full disk: everything goes on, and it is known that something is missing."""
    async with watched(stream, kept) as js:
        kept.broken = True
        await js.publish(f"{stream.name}.new", b"{}")
        consumer = await js.pull_subscribe(f"{stream.name}.>", durable="billing", stream=stream.name)
        (message,) = await consumer.fetch(1)
        await message.ack_sync(timeout=5)
        info = await js.consumer_info(stream.name, "billing")
    assert (kept.missed, info.ack_floor.stream_seq) == (3, 1)


def test_client_and_collector_see_one_ack(stream: Stream, kept: Kept) -> None:
    """The same delivery: it counts once, whoever tells of it."""
    with closing(tail(f"{stream.name}.one", settings(stream, "billing"))) as collector:
        vouched(collector)
        js = instrument.jetstream(stream.js, Observer(kept, "orders", "billing"))
        stream.put(["m-1"])
        (message,) = stream.do(stream.do(js.pull_subscribe(f"{stream.name}.>", durable="billing")).fetch(1))
        stream.do(message.ack())
        found = seen(collector, lambda found: len(found) == 2)
    assert natural_key(found[1]) == natural_key(kept.events[-1])
