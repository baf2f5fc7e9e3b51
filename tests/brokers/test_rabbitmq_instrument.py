"""Instrumented pika channels against a real RabbitMQ."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest
from pika import BasicProperties

from collectors.instrument import pika as instrument
from collectors.instrument.observe import Observer
from collectors.segment import Kind
from collectors.spool import Spool
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost, own_vhost
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Event, Stage, natural_key

pytestmark = pytest.mark.brokers


class Kept:
    """What an observer emitted, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit_line(self, line: bytes) -> int:
        """Keep."""
        self.events.append(msgspec.json.decode(line, type=Event))
        return len(self.events)

    def lost(self, count: int = 1) -> None:
        """Not looked at here."""

    def vouch(self, sources: Any, lag: Any = None, at: Any = None) -> None:
        """Not looked at here."""

    def sign_off(self, sources: Any) -> None:
        """Not looked at here."""

    def told(self) -> list[tuple[str, str]]:
        """(message id, stage) in order."""
        return [(event.message_id, event.stage.value) for event in self.events]


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


@pytest.fixture
def channel(vhost: Vhost, kept: Kept) -> instrument.ObservedChannel:
    """An observed channel on a connection of its own use."""
    return instrument.channel(vhost.connection.channel(), Observer(kept, "orders", "app"))


def take(channel: instrument.ObservedChannel, count: int, **options: Any) -> list[tuple[Any, BasicProperties, bytes]]:
    """`count` messages of the queue `billing` as a consumer gets them."""
    found: list[tuple[Any, BasicProperties, bytes]] = []
    tag = channel.basic_consume("billing", lambda _, *message: found.append(message), **options)
    until = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < until
        channel.connection.process_data_events(0.1)
    channel.basic_cancel(tag)
    return found


def test_a_confirmed_publish_is_a_produce(channel: instrument.ObservedChannel, kept: Kept) -> None:
    """Id and origin time are set where the application set none, and travel; the caller's properties stay the same."""
    channel.confirm_delivery()
    mine = BasicProperties(content_type="text/plain")
    channel.basic_publish("orders", "new.eu", b"one", mine)
    channel.basic_publish("orders", "new.eu", b"two", mine)
    assert (mine.message_id, mine.headers) == (None, None)
    first, second = kept.events
    assert (first.stage, first.attributes) == (Stage.produce, {"confirmed": "true"})
    assert first.message_id != second.message_id
    _, properties, body = take(channel, 2)[0]
    assert (properties.message_id, properties.content_type, body) == (first.message_id, "text/plain", b"one")
    assert properties.headers[ORIGIN_AT] == str(first.origin_at)


def test_the_applications_own_id_and_origin_are_kept(channel: instrument.ObservedChannel, kept: Kept) -> None:
    """Property first, header second; nothing new is made up beside them."""
    headers = {ORIGIN_AT: "1795000000000001", "x-correlation-id": "c-1"}
    channel.basic_publish("orders", "new.eu", b"x", BasicProperties(message_id="m-1", headers=headers))
    channel.basic_publish("orders", "new.eu", b"x", BasicProperties(headers={MESSAGE_ID: "m-2"}))
    assert [event.message_id for event in kept.events] == ["m-1", "m-2"]
    assert (kept.events[0].origin_at, kept.events[0].correlation_id) == (1795000000000001, "c-1")
    assert kept.events[0].attributes == {"confirmed": "false"}


def test_a_returned_message_is_a_produce_that_says_so(channel: instrument.ObservedChannel, kept: Kept) -> None:
    """Confirmed and returned: the application still gets its exception."""
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("orders", "nobody", b"x", BasicProperties(message_id="m-1"), mandatory=True)
    assert kept.told() == [("m-1", "produce")]
    assert kept.events[0].attributes == {"confirmed": "true", "returned": "true"}


def test_a_refused_message_is_no_produce(vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept) -> None:
    """The broker nacks (queue full): nothing was promised, the timeline shows the attempt."""
    vhost.channel.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", "small", b"x", BasicProperties(message_id="m-1"))
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "small", b"x", BasicProperties(message_id="m-2"))
    assert kept.told() == [("m-1", "produce"), ("m-2", "nack")]


def test_ack_of_many_is_an_ack_of_each(vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept) -> None:
    """`multiple` settles the outstanding tags up to the given one, and 0 all; other deliveries stay out."""
    for number in range(6):
        vhost.publish(f"m-{number}")
    messages = take(channel, 6)
    assert kept.told() == [(f"m-{n}", "deliver") for n in range(6)]
    kept.events.clear()
    tags = [method.delivery_tag for method, _, _ in messages]
    channel.basic_ack(tags[1])
    channel.basic_ack(tags[3], multiple=True)
    assert kept.told() == [("m-1", "ack"), ("m-0", "ack"), ("m-2", "ack"), ("m-3", "ack")]
    channel.basic_ack(0, multiple=True)
    assert kept.told()[4:] == [("m-4", "ack"), ("m-5", "ack")]
    vhost.connection.process_data_events(0.2)
    assert vhost.message_count("billing") == 0


def test_nack_and_reject(vhost: Vhost, kept: Kept) -> None:
    """Given back: `nack`. Thrown away: `dead_letter: rejected` where the queue is known to have an exchange for it,
    else a `nack` that says what was asked."""
    for number in range(3):
        vhost.publish(f"m-{number}")
    for dead_lettering in ((), ("billing",)):
        observer = Observer(kept, "orders", "app")
        channel = instrument.channel(vhost.connection.channel(), observer, dead_lettering=dead_lettering)
        tags = [method.delivery_tag for method, _, _ in take(channel, 3 if not dead_lettering else 2)]
        kept.events.clear()
        channel.basic_nack(tags[0], requeue=True)
        channel.basic_reject(tags[1], requeue=False)
        given, thrown = kept.events
        assert (given.stage, given.attributes) == (Stage.nack, {"requeue": "true"})
        if dead_lettering:
            assert (thrown.stage, thrown.reason) == (Stage.dead_letter, "rejected")
        else:
            assert (thrown.stage, thrown.attributes) == (Stage.nack, {"requeue": "false"})
        channel.close()  # what is unsettled goes back


def test_a_redelivery_is_another_delivery(vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept) -> None:
    """Two hand-overs of one message are two events, with a flag on the second; ack and deliver of one hand-over
    carry the same delivery."""
    vhost.publish("m-1")
    [(method, _, _)] = take(channel, 1)
    channel.basic_nack(method.delivery_tag)
    [(method, _, _)] = take(channel, 1)
    channel.basic_ack(method.delivery_tag)
    first, nack, second, ack = kept.events
    assert [e.attributes["redelivered"] for e in (first, second)] == ["false", "true"]
    assert first.delivery == nack.delivery != second.delivery == ack.delivery
    assert len({natural_key(e) for e in kept.events}) == 4
    assert first.delivery.startswith("billing:")


def test_auto_ack_is_an_ack_once_the_callback_returned(
    vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept
) -> None:
    """The broker forgets the message when it sends it; what the application did not finish has no ack."""
    vhost.publish("m-1")
    vhost.publish("m-2")

    def work(_: Any, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        if properties.message_id == "m-2":
            raise RuntimeError("the application failed")

    channel.basic_consume("billing", work, auto_ack=True)
    with pytest.raises(RuntimeError):
        channel.start_consuming()
    assert kept.told() == [("m-1", "deliver"), ("m-1", "ack"), ("m-2", "deliver")]


def test_generator_and_get_are_observed_too(vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept) -> None:
    """`consume` and `basic_get` hand messages over as well."""
    for number in range(3):
        vhost.publish(f"m-{number}")
    method, _, _ = channel.basic_get("billing")
    channel.basic_ack(method.delivery_tag)
    for method, _, _ in channel.consume("billing", inactivity_timeout=0.5):
        if method is None:
            break
        channel.basic_ack(method.delivery_tag)
    channel.cancel()
    assert kept.told() == [(f"m-{n}", stage) for n in range(3) for stage in ("deliver", "ack")]
    assert channel.basic_get("billing") == (None, None, None)


def test_one_channel_may_serve_two_flows(vhost: Vhost, kept: Kept) -> None:
    """Wrapped twice: each observer sees its own exchanges and queues, the callback acks on what it is given."""
    other = Kept()
    inner = instrument.channel(vhost.connection.channel(), Observer(kept, "orders", "app"), exchanges=())
    outer = instrument.channel(inner, Observer(other, "bills", "app"), exchanges=("bills",), queues=())  # type: ignore[arg-type]
    vhost.channel.exchange_declare("bills", "fanout")
    vhost.publish("m-1")
    done: list[bool] = []

    def work(channel: Any, method: Any, properties: BasicProperties, _body: bytes) -> None:
        assert channel is outer
        channel.basic_publish("bills", "", b"bill", BasicProperties(message_id=f"bill-{properties.message_id}"))
        channel.basic_ack(method.delivery_tag)
        done.append(True)

    outer.basic_consume("billing", work)
    until = time.monotonic() + PATIENCE
    while not done:
        assert time.monotonic() < until
        outer.connection.process_data_events(0.1)
    assert kept.told() == [("m-1", "deliver"), ("m-1", "ack")]
    assert other.told() == [("bill-m-1", "produce")]


def test_a_transaction_counts_when_it_is_committed(
    vhost: Vhost, channel: instrument.ObservedChannel, kept: Kept
) -> None:
    """Publishes and acks of a rolled back transaction never happened."""
    vhost.publish("m-1")
    channel.tx_select()
    method, _, _ = channel.basic_get("billing")
    channel.basic_publish("orders", "new.eu", b"x", BasicProperties(message_id="never"))
    channel.tx_rollback()
    channel.basic_publish("orders", "new.eu", b"x", BasicProperties(message_id="m-2"))
    channel.basic_ack(method.delivery_tag)
    assert kept.told() == [("m-1", "deliver")]
    channel.tx_commit()
    assert kept.told() == [("m-1", "deliver"), ("m-1", "ack"), ("m-2", "produce")]


def test_a_sigkill_between_observation_and_ack_loses_neither(vhost: Vhost, tmp_path: Path) -> None:
    """Killed when the acks are in the spool and the broker was not told: the acks are there, and the broker delivers
    the messages again, so they are counted as what they are, processed twice."""
    for number in range(9):
        vhost.publish(f"m-{number}")
    command = [sys.executable, "-m", "tests.brokers.rabbitmq_consumer", vhost.url, "billing", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "acked 3\n"
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "acked 6\n"
        process.kill()
    events = spooled(tmp_path)
    acked = [event.message_id for event in events if event.stage is Stage.ack]
    assert acked == [f"m-{n}" for n in range(6)]
    again = [vhost.channel.basic_get("billing", auto_ack=True) for _ in range(6)]
    assert [(method.redelivered, body) for method, _, body in again] == [(True, f"m-{n}".encode()) for n in range(3, 9)]


def spooled(folder: Path) -> list[Event]:
    """The events that a process left in its spool."""
    spool = Spool(folder)
    try:
        lines = b"".join(record.payload for record in spool.read(0) if record.kind is Kind.lines)
    finally:
        spool.close()
    return [msgspec.json.decode(line, type=Event) for line in lines.splitlines()]
