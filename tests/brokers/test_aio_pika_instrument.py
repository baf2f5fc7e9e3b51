"""Instrumented aio-pika channels against a real RabbitMQ."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import ChannelInvalidStateError, DeliveryError, PublishError

from collectors.emitter import Emitter
from collectors.instrument import aio_pika as instrument
from collectors.instrument.observe import Observer
from tests.brokers.kafka_topic import wait_for
from tests.brokers.kept import Kept, on_a_loop
from tests.brokers.rabbitmq_vhost import Vhost, own_vhost
from tests.brokers.test_rabbitmq_instrument import spooled
from tests.contract.http_tracker import HttpTracker
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Stage, natural_key

pytestmark = pytest.mark.brokers


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own with the exchange `orders` and a queue `billing` behind it."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        yield vhost


@pytest.fixture
def kept() -> Kept:
    """Where the observations go."""
    return Kept()


@asynccontextmanager
async def watched(vhost: Vhost, kept: Any, *, confirms: bool = True, raises: bool = False, **options: Any) -> Any:
    """An observed channel on a robust connection of its own."""
    async with await aio_pika.connect_robust(f"{vhost.url}?name=app", reconnect_interval=0.1) as connection:
        plain = await connection.channel(publisher_confirms=confirms, on_return_raises=raises)
        yield instrument.channel(plain, Observer(kept, "orders", "app"), **options)


async def take(channel: Any, count: int) -> AsyncIterator[Any]:
    """`count` messages of the queue `billing` as an iterator gives them."""
    async with (await channel.get_queue("billing")).iterator() as messages:
        async for message in messages:
            yield message
            count -= 1
            if not count:
                return


@on_a_loop
async def test_a_confirmed_publish_is_a_produce(vhost: Vhost, kept: Kept) -> None:
    """Id and origin time are set where the application set none, and travel; its own message stays as it is."""
    async with watched(vhost, kept) as channel:
        orders, mine = await channel.get_exchange("orders"), aio_pika.Message(b"one", content_type="text/plain")
        await orders.publish(mine, "new.eu")
        await orders.publish(mine, "new.eu")
        assert (mine.message_id, mine.headers) == (None, {})
        first, second = kept.events
        assert (first.stage, first.attributes) == (Stage.produce, {"confirmed": "true"})
        assert first.message_id != second.message_id
        message = await (await channel.get_queue("billing")).get()
    assert (message.message_id, message.content_type, message.body) == (first.message_id, "text/plain", b"one")
    assert message.headers[ORIGIN_AT] == str(first.origin_at)


@on_a_loop
async def test_the_applications_own_id_and_origin_are_kept(vhost: Vhost, kept: Kept) -> None:
    """Property first, header second; without confirms the event says so."""
    headers: Any = {ORIGIN_AT: "1795000000000001", "x-correlation-id": "c-1"}
    async with watched(vhost, kept, confirms=False) as channel:
        orders = await channel.get_exchange("orders")
        await orders.publish(aio_pika.Message(b"x", message_id="m-1", headers=headers), "new.eu")
        await orders.publish(aio_pika.Message(b"x", headers={MESSAGE_ID: "m-2"}), "new.eu")
    assert [event.message_id for event in kept.events] == ["m-1", "m-2"]
    read = [vhost.channel.basic_get("billing", auto_ack=True)[1] for _ in range(2)]
    assert [properties.message_id for properties in read] == ["m-1", "m-2"]
    assert (kept.events[0].origin_at, kept.events[0].correlation_id) == (1795000000000001, "c-1")
    assert kept.events[0].attributes == {"confirmed": "false"}


@pytest.mark.parametrize("raises", [False, True])
def test_a_returned_message_is_a_produce_that_says_so(vhost: Vhost, kept: Kept, raises: bool) -> None:
    """Confirmed and returned: the application is told as it asked for."""

    @on_a_loop
    async def check() -> None:
        async with watched(vhost, kept, raises=raises) as channel:
            orders = await channel.get_exchange("orders")
            returned: list[Any] = []
            channel.return_callbacks.add(lambda _, message: returned.append(message.message_id))
            message = aio_pika.Message(b"x", message_id="m-1")
            if raises:
                with pytest.raises(PublishError):
                    await orders.publish(message, "nobody")
            else:
                await orders.publish(message, "nobody")
                assert returned == ["m-1"]
        assert kept.told() == [("m-1", "produce")]
        assert kept.events[0].attributes == {"confirmed": "true", "returned": "true"}

    check()


@on_a_loop
async def test_a_refused_message_is_no_produce(vhost: Vhost, kept: Kept) -> None:
    """The broker nacks (queue full): nothing was promised, the timeline shows the attempt."""
    vhost.channel.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    async with watched(vhost, kept) as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"x", message_id="m-1"), "small")
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"x", message_id="m-2"), "small")
    assert kept.told() == [("m-1", "produce"), ("m-2", "nack")]


@on_a_loop
async def test_ack_of_many_is_an_ack_of_each(vhost: Vhost, kept: Kept) -> None:
    """`multiple` settles what is outstanding up to that message, the one of a queue that is not observed included."""
    vhost.channel.queue_declare("other")
    for number in range(4):
        vhost.publish(f"m-{number}")
    vhost.publish("other", "other", "")
    async with watched(vhost, kept, queues=["billing"]) as channel:
        messages = [message async for message in take(channel, 4)]
        assert kept.told() == [(f"m-{n}", "deliver") for n in range(4)]
        await messages[1].ack()
        await messages[2].ack(multiple=True)
        assert kept.told()[4:] == [("m-1", "ack"), ("m-0", "ack"), ("m-2", "ack")]
        await (await (await channel.get_queue("other")).get()).ack(multiple=True)
        assert kept.told()[7:] == [("m-3", "ack")]
    assert vhost.message_count("billing") == vhost.message_count("other") == 0


@on_a_loop
async def test_a_message_is_settled_by_its_block(vhost: Vhost, kept: Kept) -> None:
    """`message.process()`: acked at its end, given back or thrown away when it raises."""
    for number in range(3):
        vhost.publish(f"m-{number}")
    async with watched(vhost, kept, dead_lettering=["billing"]) as channel:
        messages = [message async for message in take(channel, 3)]
        kept.events.clear()
        async with messages[0].process():
            assert kept.events == []
        for message, requeue in ((messages[1], True), (messages[2], False)):
            with pytest.raises(RuntimeError):
                async with message.process(requeue=requeue):
                    raise RuntimeError("the application failed")
    assert kept.told() == [("m-0", "ack"), ("m-1", "nack"), ("m-2", "dead_letter")]
    assert (kept.events[1].attributes, kept.events[2].reason) == ({"requeue": "true"}, "rejected")


@on_a_loop
async def test_nack_and_reject(vhost: Vhost, kept: Kept) -> None:
    """Where no dead letter exchange is known of, what was thrown away is a `nack` that says what was asked."""
    for number in range(2):
        vhost.publish(f"m-{number}")
    async with watched(vhost, kept) as channel:
        messages = [message async for message in take(channel, 2)]
        kept.events.clear()
        await messages[0].nack(requeue=False)
        await messages[1].reject(requeue=False)
    assert kept.told() == [("m-0", "nack"), ("m-1", "nack")]
    assert [event.attributes for event in kept.events] == [{"requeue": "false"}] * 2


@on_a_loop
async def test_a_redelivery_is_another_delivery(vhost: Vhost, kept: Kept) -> None:
    """Two hand-overs of one message are two events, with a flag on the second; ack and deliver of one hand-over
    carry the same delivery."""
    vhost.publish("m-1")
    async with watched(vhost, kept) as channel:
        queue = await channel.get_queue("billing")
        await (await queue.get()).nack()
        await (await queue.get()).ack()
        assert await queue.get(fail=False) is None
    first, nack, second, ack = kept.events
    assert [e.attributes["redelivered"] for e in (first, second)] == ["false", "true"]
    assert first.delivery == nack.delivery != second.delivery == ack.delivery
    assert len({natural_key(e) for e in kept.events}) == 4
    assert first.delivery.startswith("billing:")


@on_a_loop
async def test_no_ack_is_an_ack_once_the_callback_returned(vhost: Vhost, kept: Kept) -> None:
    """The broker forgets the message when it sends it; what the application did not finish has no ack."""
    vhost.publish("m-1")
    vhost.publish("m-2")
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def work(message: Any) -> None:
        ended.put_nowait(message.message_id)
        if message.message_id == "m-2":
            raise asyncio.CancelledError

    async with watched(vhost, kept) as channel:
        queue = await channel.get_queue("billing")
        await queue.consume(work, no_ack=True)
        assert {await ended.get(), await ended.get()} == {"m-1", "m-2"}
        await asyncio.sleep(0)
    assert kept.of(Stage.deliver) == ["m-1", "m-2"]
    assert kept.of(Stage.ack) == ["m-1"]


@on_a_loop
async def test_deliveries_of_a_lost_channel_are_not_acked(vhost: Vhost, kept: Kept) -> None:
    """The connection is cut: an ack that cannot reach the broker is none. The message comes again on the new channel,
    which is observed too, as another delivery; and what is published there is a produce."""
    vhost.publish("m-1")
    got: asyncio.Queue[Any] = asyncio.Queue()
    async with watched(vhost, kept) as channel:
        await (await channel.get_queue("billing")).consume(got.put)
        lost = await got.get()
        await asyncio.to_thread(vhost.cut, "app")
        again = await got.get()
        with pytest.raises(ChannelInvalidStateError):
            await lost.ack()
        assert kept.told() == [("m-1", "deliver")] * 2
        await again.ack()
        await channel.default_exchange.publish(aio_pika.Message(b"x", message_id="m-2"), "nowhere")
    first, second, ack, _ = kept.events
    assert kept.told()[2:] == [("m-1", "ack"), ("m-2", "produce")]
    assert first.delivery != second.delivery == ack.delivery


@on_a_loop
async def test_one_channel_may_serve_two_flows(vhost: Vhost, kept: Kept) -> None:
    """Given twice: each observer sees its own exchanges and queues."""
    vhost.channel.exchange_declare("bills", "fanout")
    vhost.publish("m-1")
    other = Kept()
    async with watched(vhost, kept, exchanges=()) as inner:
        channel = instrument.channel(inner, Observer(other, "bills", "app"), exchanges=["bills"], queues=())
        async for message in take(channel, 1):
            bills = await channel.get_exchange("bills")
            await bills.publish(aio_pika.Message(b"bill", message_id="bill-m-1"), "", mandatory=False)
            await message.ack()
    assert kept.told() == [("m-1", "deliver"), ("m-1", "ack")]
    assert other.told() == [("bill-m-1", "produce")]


@on_a_loop
async def test_a_transaction_counts_when_it_is_committed(vhost: Vhost, kept: Kept) -> None:
    """Publishes and acks of a rolled back transaction never happened."""
    vhost.publish("m-1")
    async with watched(vhost, kept, confirms=False) as channel:
        orders, queue = await channel.get_exchange("orders"), await channel.get_queue("billing")
        message = await queue.get()
        transaction = channel.transaction()
        await transaction.select()
        await orders.publish(aio_pika.Message(b"x", message_id="never"), "new.eu")
        await transaction.rollback()
        await orders.publish(aio_pika.Message(b"x", message_id="m-2"), "new.eu")
        await message.ack()
        assert kept.told() == [("m-1", "deliver")]
        await transaction.commit()
    assert kept.told() == [("m-1", "deliver"), ("m-1", "ack"), ("m-2", "produce")]


@on_a_loop
async def test_a_broken_spool_never_reaches_the_application(vhost: Vhost, kept: Kept) -> None:
    """Publishing, consuming and settling go on."""
    kept.broken = True
    async with watched(vhost, kept) as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"x"), "billing")
        async for message in take(channel, 1):
            await message.ack()
    assert vhost.message_count("billing") == 0


@on_a_loop
async def test_with_the_tracker_away_the_spool_is_bounded(vhost: Vhost, tmp_path: Path) -> None:
    """The application goes on; what there was no room for is counted, and will be a hole in coverage."""
    with Emitter("http://127.0.0.1:1", collector="c", spool=tmp_path, limit=2**14) as emitter:
        async with watched(vhost, emitter) as channel:
            for _ in range(100):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), "billing")
        counts = emitter.counts
        assert counts.dropped > 0
        assert counts.emitted + counts.dropped == 100
        emitter.close(timeout=0)
    assert vhost.message_count("billing") == 100


def test_a_sigkill_between_observation_and_ack_loses_neither(vhost: Vhost, tmp_path: Path) -> None:
    """Killed when the acks are in the spool and the broker was not told: the acks are there, and the broker delivers
    the messages again, so they are counted as what they are, processed twice."""
    for number in range(9):
        vhost.publish(f"m-{number}")
    command = [sys.executable, "-m", "tests.brokers.aio_consuming", "aio-pika", vhost.url, "billing", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "acked 3\n"
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "acked 6\n"
        process.kill()
    acked = [event.message_id for event in spooled(tmp_path) if event.stage is Stage.ack]
    assert acked == [f"m-{n}" for n in range(6)]
    again = [vhost.channel.basic_get("billing", auto_ack=True) for _ in range(6)]
    assert [(method.redelivered, body) for method, _, body in again] == [(True, f"m-{n}".encode()) for n in range(3, 9)]


@on_a_loop
async def test_the_program_of_the_page_works(vhost: Vhost, tmp_path: Path) -> None:
    """As it stands: the one message is produced, delivered and acked, and the tracker has it."""
    page = Path("docs/collectors/rabbitmq.md").read_text()
    [program] = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "aio_pika" in block]
    names: dict[str, Any] = {}
    exec(program, names)

    async def process(_: Any) -> None:
        """Nothing to do."""

    def stages() -> list[str]:
        return [line["stage"] for request in tracker.requests for line in request.lines]

    with HttpTracker() as tracker, Emitter(tracker.url, collector="c", spool=tmp_path) as emitter:
        working = asyncio.create_task(names["work"](vhost.url, emitter, process))
        await asyncio.to_thread(wait_for, lambda: "ack" in stages() or working.done())
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    assert stages() == ["produce", "deliver", "ack"]
