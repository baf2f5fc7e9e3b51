"""Copies that no log of a hop holds: rows of an outbox, dead letters; on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pika
import psycopg
import pytest
from confluent_kafka import Producer

from collectors.carried import digest_of
from collectors.errors import ConfigInvalid, Unavailable
from collectors.kafka import dead_letters
from collectors.kafka.dead_letters import KafkaDeadLetters
from collectors.postgres.outbox import outbox
from collectors.postgres.source import OutboxSource, source
from collectors.rabbitmq import dead_queue, stream_source
from collectors.rabbitmq import publisher as rabbitmq
from collectors.rabbitmq.dead_queue import DeadQueue
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost
from tests.servers.postgres import let_go
from tracker.cli.hops import build
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT, REPLAY_OF, Copy, Locator, Missing
from tracker.model.event import Event
from tracker.replay.copies import dressed
from tracker.replay.routes import LOG, Keeper

pytestmark = pytest.mark.brokers


@pytest.fixture
def database(postgres_server: Any) -> Iterator[str]:
    """A database of its own."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


def reading(url: str, **keys: Any) -> OutboxSource:
    """A source of the table `outbox`."""
    return source({"url": url, "table": "outbox", "payload": "payload", **keys})


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("bytea", "\\x00ff6162", b"\x00\xffab"),
        ("jsonb", '{"b": 1,    "a": [1.50, "\u00fc"]}', '{"a": [1.50, "\u00fc"], "b": 1}'.encode()),
        ("json", '{"b": 1,    "a": 2}', b'{"b": 1,    "a": 2}'),
        ("text", "caf\u00e9", "caf\u00e9".encode()),
        ("numeric", "1.500", b"1.500"),
    ],
)
def test_a_row_is_the_payload_that_was_seen_when_it_was_written(
    database: str, kind: str, written: str, value: bytes
) -> None:
    """Byte for byte what the write-ahead log showed, whatever type holds it: so the digests agree."""
    with psycopg.connect(database, autocommit=True) as application:
        application.execute(f"CREATE TABLE outbox (id text PRIMARY KEY, payload {kind})")
        seen = outbox(f"s{kind}", {"url": database, "tables": [
            {"table": "outbox", "flow": "orders", "hop": "shop", "payload": "payload"}]})  # fmt: skip
        while not seen.sources():
            seen.read(1, 0.05)
        application.execute(f"INSERT INTO outbox VALUES ('m-1', %s::text::{kind})", [written])
        raws = seen.read(10, 10)
        [observed] = [event for raw in raws for event in seen.decode(raw)]
        seen.close()
        let_go(application)
    rows = reading(database)
    [place] = rows.find("orders", ["m-0", "m-1"])
    [copy] = rows.fetch([place])
    assert isinstance(copy, Copy)
    assert isinstance(observed, Event)
    assert (copy.value, copy.digest) == (value, observed.digest)
    assert copy.digest == digest_of(value)
    assert copy.headers == {MESSAGE_ID: b"m-1"}


def test_key_headers_and_origin_come_from_their_columns(database: str) -> None:
    """As the relay sends them; the message's id is its own, whatever the headers say."""
    with psycopg.connect(database, autocommit=True) as application:
        application.execute("CREATE TABLE outbox (event uuid, payload text, k int, h jsonb, made timestamptz)")
        application.execute(
            """INSERT INTO outbox VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 'x', 7,
            '{"colour": "blue", "x-message-id": "other"}', '2026-11-22T10:00:00.000001+01')"""
        )
    rows = reading(database, id="event", key="k", headers="h", origin="made")
    [copy] = rows.fetch(rows.find("orders", ["6f9619ff-8b86-d011-b42d-00c04fc964ff"]))
    assert isinstance(copy, Copy)
    assert (copy.key, copy.value) == (b"7", b"x")
    assert copy.headers == {
        "colour": b"blue",
        MESSAGE_ID: b"6f9619ff-8b86-d011-b42d-00c04fc964ff",
        ORIGIN_AT: b"1795338000000001",
    }


def test_a_row_that_is_gone_is_missing(database: str) -> None:
    """Deleted between the plan and the sending, or without a payload; and nothing is found of what never was."""
    with psycopg.connect(database, autocommit=True) as application:
        application.execute("CREATE TABLE outbox (id text, payload text)")
        application.execute("INSERT INTO outbox VALUES ('gone', 'x'), ('empty', NULL)")
        rows = reading(database)
        places = rows.find("orders", ["gone", "empty", "never"])
        application.execute("DELETE FROM outbox WHERE id = 'gone'")
        found = {copy.locator.message_id: copy for copy in rows.fetch(places)}
    assert sorted(found) == ["empty", "gone"]
    assert {one: copy.reason for one, copy in found.items() if isinstance(copy, Missing)} == {
        "gone": "its row is no longer in outbox",
        "empty": "its row in outbox has no 'payload'",
    }


def test_twenty_thousand_rows_in_bounded_questions(database: str) -> None:
    """Each is found once."""
    with psycopg.connect(database, autocommit=True) as application:
        application.execute("CREATE TABLE outbox (id text PRIMARY KEY, payload text)")
        application.execute("INSERT INTO outbox SELECT 'm-' || n, n FROM generate_series(1, 20000) n")
    rows = reading(database)
    places = rows.find("orders", [f"m-{n}" for n in range(1, 20_101)])
    assert len({place.message_id for place in places}) == len(places) == 20_000
    assert all(isinstance(copy, Copy) for copy in rows.fetch(places))


def test_an_outbox_that_cannot_be_read_is_told(database: str, postgres_server: Any) -> None:
    """No table, no server, no column to read: never an empty answer."""
    with pytest.raises(Unavailable, match="outbox"):
        reading(database).find("orders", ["m-1"])
    with pytest.raises(Unavailable):
        reading("postgresql://127.0.0.1:1/shop").find("orders", ["m-1"])
    with pytest.raises(ConfigInvalid, match="payload"):
        source({"url": database, "table": "outbox"})


def dead(topic: Topic, ids: list[str], **put: Any) -> None:
    """Dead letters, as a consumer writes them."""
    topic.put(ids, headers={"kafka_dlt-exception-fqcn": b"Boom"}, **put)


@contextmanager
def letters(topic: Topic, **settings: Any) -> Iterator[KafkaDeadLetters]:
    """A source of the topic of dead letters."""
    found = dead_letters.source({"url": topic.url, "topic": topic.name, "timeout": 10, **settings})
    try:
        yield found
    finally:
        found.close()


def values(source: KafkaDeadLetters, *ids: str) -> dict[str, bytes]:
    """What it holds of these messages."""
    copies = source.fetch(source.find("orders", ids))
    return {copy.locator.message_id: copy.value for copy in copies if isinstance(copy, Copy)}


def test_dead_letters_are_found_by_id(kafka_server: str) -> None:
    """In any partition; the newest of one that died twice; and those that came since it was asked the last time."""
    with own_topic(kafka_server, partitions=2) as topic, letters(topic) as source:
        assert source.find("orders", ["a"]) == []
        dead(topic, ["a", "b"], partition=0)
        dead(topic, ["c"], partition=1)
        assert values(source, "a", "c", "nobody") == {"a": b"a", "c": b"c"}
        dead(topic, ["a"], partition=1, value=b"died again")
        assert values(source, "a", "b") == {"a": b"died again", "b": b"b"}


def test_what_a_transaction_has_not_committed_comes_the_next_time(kafka_server: str) -> None:
    """It is not passed over: what lies behind the end of what is stable is read when it is."""
    with own_topic(kafka_server) as topic, letters(topic) as source:
        dead(topic, ["a"])
        producer = Producer(topic.client(transactional_id=f"t-{topic.name}"))
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(topic.name, b"x", headers=[(MESSAGE_ID, b"b")])
        producer.flush(20)
        assert values(source, "a", "b") == {"a": b"a"}
        producer.commit_transaction(20)
        wait_for(lambda: values(source, "a", "b") == {"a": b"a", "b": b"x"})
        assert values(source, "a", "b") == {"a": b"a", "b": b"x"}


def test_only_so_many_ids_are_remembered(kafka_server: str) -> None:
    """Memory is bounded; what came last counts."""
    with own_topic(kafka_server) as topic, letters(topic, remember=2) as source:
        dead(topic, ["a", "b", "c"])
        assert values(source, "a", "b", "c") == {"b": b"b", "c": b"c"}


def test_a_topic_that_was_made_again_is_read_from_its_beginning(kafka_server: str) -> None:
    """What it held before is not offered: the place holds another message, and says so."""
    with own_topic(kafka_server) as topic, letters(topic) as source:
        dead(topic, ["a", "b", "c"])
        assert sorted(values(source, "a", "b", "c")) == ["a", "b", "c"]
        topic.delete()
        topic.create()
        dead(topic, ["d"])
        assert values(source, "a", "d") == {"d": b"d"}


def test_no_such_topic_of_dead_letters(kafka_server: str) -> None:
    """Told, not taken for empty."""
    with own_topic(kafka_server) as topic:
        topic.delete()
        with letters(topic) as source, pytest.raises(Unavailable, match=topic.name):
            source.find("orders", ["a"])


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of its own with a queue of dead letters, and a queue to send to."""
    made = Vhost(rabbitmq_server)
    made.channel.queue_declare("dead")
    made.channel.queue_declare("orders")
    yield made
    made.delete()


def buried(vhost: Vhost, *ids: str, **more: Any) -> None:
    """Dead letters, as the broker leaves them."""
    for one in ids:
        headers = {"x-death": [{"queue": "orders", "count": 3}], "x-first-death-queue": "orders", **more}
        properties = pika.BasicProperties(message_id=one, headers=headers, content_type="text/plain", priority=4)
        vhost.channel.basic_publish("", "dead", f"body of {one}".encode(), properties)


@contextmanager
def held(vhost: Vhost, **settings: Any) -> Iterator[DeadQueue]:
    """A source of the queue of dead letters."""
    found = dead_queue.source({"url": vhost.url, "queue": "dead", **settings})
    try:
        yield found
    finally:
        found.close()


def left(vhost: Vhost, queue: str = "dead") -> list[str]:
    """What a consumer finds in a queue, in order; all of it is taken out."""
    found = []
    while (got := vhost.channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(got[2].decode().removeprefix("body of "))
    return found


def test_a_queue_gives_back_what_was_only_looked_at(vhost: Vhost) -> None:
    """In its order, as after a dry run."""
    buried(vhost, "a", "b", "c")
    with held(vhost) as source:
        places = source.find("orders", ["c", "a", "nobody"])
        assert [place.message_id for place in places] == ["c", "a"]
        copies = source.fetch(places)
        assert [copy.value for copy in copies if isinstance(copy, Copy)] == [b"body of c", b"body of a"]
        assert vhost.message_count("dead") == 0
        source.settle([], places)
        wait_for(lambda: vhost.message_count("dead") == 3)
    assert left(vhost) == ["a", "b", "c"]


def test_what_was_sent_leaves_the_queue_and_the_rest_stays(vhost: Vhost) -> None:
    """Batch after batch, without reading the queue anew; every copy of a message that died twice goes."""
    buried(vhost, "a", "b", "c", "a", "d")
    with held(vhost) as source:
        for batch in (["a"], ["c", "nobody"]):
            copies = [copy for copy in source.fetch(source.find("orders", batch)) if isinstance(copy, Copy)]
            source.settle([copy.locator for copy in copies], [])
        [gone] = source.fetch([Locator("a", "billing", "dead", 0)])
        assert isinstance(gone, Missing)
        assert "it is not in queue 'dead'" in gone.reason
        buried(vhost, "late")
        wait_for(lambda: [place.message_id for place in source.find("orders", ["late"])] == ["late"])
    wait_for(lambda: vhost.message_count("dead") == 3)
    assert left(vhost) == ["b", "d", "late"]


def test_the_second_copy_is_found_at_the_end_of_a_long_queue(vhost: Vhost) -> None:
    """What is acked is all of a message, however far apart its copies are."""
    others = [f"m-{n}" for n in range(3_000)]
    buried(vhost, "a", *others, "a")
    with held(vhost) as source:
        source.settle(source.find("orders", ["a"]), [])
    wait_for(lambda: vhost.message_count("dead") == len(others))
    assert left(vhost) == others


def test_a_look_beside_a_replay_takes_nothing_from_it(vhost: Vhost) -> None:
    """Somebody makes a plan while copies are being sent: these stay held until it is known what became of them."""
    buried(vhost, "a", "b")
    with held(vhost) as source:
        [sending] = source.find("orders", ["a"])
        source.fetch([sending])
        [looked_at] = source.find("orders", ["b"])
        source.fetch([looked_at])
        source.settle([], [looked_at])
        source.settle([], [])
        assert vhost.message_count("dead") == 0
        source.settle([sending], [])
        source.settle([], [])
        wait_for(lambda: vhost.message_count("dead") == 1)
    assert left(vhost) == ["b"]


def test_a_source_that_goes_away_gives_all_back(vhost: Vhost) -> None:
    """Killed, or cut off in the middle: nothing of the queue is lost, and it goes on."""
    buried(vhost, *[f"m-{n}" for n in range(50)])
    with held(vhost) as source:
        [place] = source.find("orders", ["m-49"])
        assert vhost.message_count("dead") == 0
        vhost.cut("tracker.replay")
        wait_for(lambda: vhost.message_count("dead") == 50)
        with pytest.raises(Unavailable):
            source.settle([place], [])
        [copy] = source.fetch([place])
        assert isinstance(copy, Copy)
    wait_for(lambda: vhost.message_count("dead") == 50)


def test_only_so_many_are_held(vhost: Vhost) -> None:
    """What lies further back is not reached, and the reason says so."""
    buried(vhost, "a", "b", "c")
    with held(vhost, most=2) as source:
        assert [place.message_id for place in source.find("orders", ["a", "c"])] == ["a"]
        [missing] = source.fetch([Locator("c", "billing", "dead", 0)])
    assert isinstance(missing, Missing)
    assert "the first 2 messages of queue 'dead'" in missing.reason


def test_only_so_many_bytes_are_held(vhost: Vhost) -> None:
    """A megabyte of large ones; the others stay in the queue for whoever reads it, and come when there is room. What
    was found is fetched, also by another connection, later."""
    ids = [f"m-{n:02}" for n in range(60)]
    for one in ids:
        vhost.channel.basic_publish("", "dead", bytes(65_536), pika.BasicProperties(message_id=one))
    with held(vhost, most_mb=1) as looks:
        found = looks.find("orders", ids)
        assert [place.message_id for place in found] == ids[: len(found)]
        assert 16 <= len(found) < 40
        wait_for(lambda: vhost.message_count("dead") == 60 - len(found))
    wait_for(lambda: vhost.message_count("dead") == 60)
    with held(vhost, most_mb=1) as source:
        copies = [copy for copy in source.fetch(found) if isinstance(copy, Copy)]
        assert len(copies) == len(found)
        [missing] = source.fetch([Locator(ids[-1], "billing", "dead", 0)])
        assert isinstance(missing, Missing)
        assert "the first " in missing.reason
        source.settle([copy.locator for copy in copies], [])
        behind = source.find("orders", ids)
        assert [place.message_id for place in behind] == ids[len(found) : len(found) + len(behind)]
        assert len(behind) >= 16
    wait_for(lambda: vhost.message_count("dead") == 60 - len(found))


def test_a_dead_letter_comes_back_as_it_was(vhost: Vhost) -> None:
    """Its properties, and the types of its headers; without what buried it, and to no further queue."""
    vhost.channel.queue_declare("elsewhere")
    stamp = datetime(2026, 11, 22, tzinfo=UTC)
    buried(vhost, "a", tries=7, made=stamp, tags=["x", 1], CC=["elsewhere"])
    left(vhost, "elsewhere")
    publisher = rabbitmq.publisher({"url": vhost.url, "queue": "orders"})
    with held(vhost) as source:
        [copy] = source.fetch(source.find("orders", ["a"]))
        assert isinstance(copy, Copy)
        [sent] = publisher.publish([dressed(copy, "r-1", 2, MESSAGE_ID)])
        assert sent.error == ""
        source.settle([copy.locator], [])
    publisher.close()
    _, properties, body = vhost.channel.basic_get("orders", auto_ack=True)
    assert (body, properties.message_id, properties.content_type, properties.priority) == (
        b"body of a", "a", "text/plain", 4,
    )  # fmt: skip
    assert properties.headers == {
        "tries": 7, "made": stamp, "tags": ["x", 1], "x-tracker-replay": "r-1", "x-tracker-replay-attempt": "2",
        "x-tracker-replay-of": "/dead/0",
    }  # fmt: skip
    assert left(vhost) == left(vhost, "elsewhere") == []


SMALL = {"x-max-length-bytes": 60_000, "x-stream-max-segment-size-bytes": 20_000}


def stream(vhost: Vhost, numbers: range, size: int = 0, **arguments: Any) -> None:
    """The stream `log` with these messages."""
    vhost.channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream", **arguments})
    for number in numbers:
        headers = {"n": number, "made": datetime(2026, 11, 22, tzinfo=UTC), "raw": b"\xff", "filling": "x" * size}
        vhost.publish(f"m-{number}", "log", "", headers=headers, content_type="text/plain")


def places(*numbers: int, stream: str = "log") -> list[Locator]:
    """Where these messages were seen."""
    return [Locator(f"m-{number}", "rabbit-log", stream, number) for number in numbers]


def newest(vhost: Vhost) -> int:
    """The offset of the last message: the broker takes some for itself, one in each segment."""
    channel: Any = vhost.connection.channel()
    channel.basic_qos(prefetch_count=10)
    found: list[int] = []
    channel.basic_consume("log", lambda _c, _m, properties, _b: found.append(properties.headers["x-stream-offset"]),
                          arguments={"x-stream-offset": "last"})  # fmt: skip
    until = time.monotonic() + PATIENCE
    while not found:
        assert time.monotonic() < until
        vhost.connection.process_data_events(0.1)
    channel.close()
    return found[-1]


def reasons(found: list[Copy | Missing]) -> dict[str, str]:
    """Why some are missing."""
    return {copy.locator.message_id: copy.reason for copy in found if isinstance(copy, Missing)}


def test_messages_of_a_stream_by_their_offsets(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near ones are read through, to far ones it jumps; each is sent into the stream again as it was."""
    monkeypatch.setattr(stream_source, "READ_THROUGH", 20)
    stream(vhost, range(300))
    hops = build({"rabbit-log": {"kind": "rabbitmq-stream", "url": vhost.url, "stream": "log"}})
    log, target = hops.sources[Keeper(LOG, "rabbit-log")], hops.publishers["rabbit-log"]
    try:
        wanted = [0, 3, 4, 150, 299]
        copies = [copy for copy in log.fetch(places(*reversed(wanted))) if isinstance(copy, Copy)]
        assert [(copy.locator.offset, copy.value, copy.digest) for copy in copies] == [
            (n, b"m-%d" % n, digest_of(b"m-%d" % n)) for n in wanted
        ]
        sent = target.publish([dressed(copy, "r-1", 1, MESSAGE_ID) for copy in copies])
        assert [one.error for one in sent] == [""] * 5
        again = log.fetch([Locator(f"m-{n}", "rabbit-log", "log", 300 + at) for at, n in enumerate(wanted)])
    finally:
        hops.close()
    for before, after in zip(copies, again, strict=True):
        assert isinstance(after, Copy)
        said = [pika.BasicProperties().decode(one.native) for one in (before, after)]
        assert [(one.message_id, one.content_type) for one in said] == [(before.message_id, "text/plain")] * 2
        first, second = ({n: v for n, v in one.headers.items() if not n.startswith("x-")} for one in said)
        assert first == second
        assert after.headers[REPLAY_OF] == f"rabbit-log/log/{before.locator.offset}".encode()


def test_what_a_stream_holds_no_more(vhost: Vhost) -> None:
    """Taken by retention, the stream made again or gone: told with the reason, and soon."""
    stream(vhost, range(400), size=1000, **SMALL)
    with closing(stream_source.source({"url": vhost.url, "timeout": 1})) as log:
        found = log.fetch([*places(1, 2), Locator("m-399", "rabbit-log", "log", newest(vhost))])
        assert sorted(reasons(found)) == ["m-1", "m-2"], reasons(found)
        assert all(
            reason.startswith("expired: the next that the stream holds is ") for reason in reasons(found).values()
        )
        vhost.channel.queue_delete("log")
        assert set(reasons(log.fetch(places(399))).values()) == {"the stream no longer exists"}
        stream(vhost, range(10, 13))
        began = time.monotonic()
        found = log.fetch([*places(0, 1), *places(399), *places(7, stream="other")])
    assert time.monotonic() - began < 10
    assert reasons(found) == {
        "m-0": "another message is there now: 'm-10'; the stream was made again",
        "m-1": "another message is there now: 'm-11'; the stream was made again",
        "m-399": "the stream ends before offset 399: it was made again",
        "m-7": "the stream no longer exists",
    }


def test_a_stream_source_reads_no_queue(vhost: Vhost) -> None:
    """Its messages are its consumers'; and without a broker, or with a wrong setting, it is told."""
    buried(vhost, "a")
    with closing(stream_source.source({"url": vhost.url})) as log, pytest.raises(ConfigInvalid, match="'dead'"):
        log.fetch(places(0, stream="dead"))
    assert left(vhost) == ["a"]
    with pytest.raises(Unavailable):
        stream_source.source({"url": "amqp://127.0.0.1:1"}).fetch(places(0))
    with pytest.raises(ConfigInvalid, match="queue"):
        stream_source.source({"url": vhost.url, "queue": "log"})


def test_a_queue_that_is_not_there_is_told(vhost: Vhost) -> None:
    """And a wrong configuration."""
    with held(vhost, queue="none") as source, pytest.raises((Unavailable, ConfigInvalid), match="none"):
        source.find("orders", ["a"])
    with pytest.raises(ConfigInvalid, match="queue"):
        dead_queue.source({"url": vhost.url})
