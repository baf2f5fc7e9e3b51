"""What an archive gets of a message, as real systems hand it out: the producer's bytes, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from collectors.base import Content
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.kafka.tail import tail
from collectors.postgres.outbox import outbox
from collectors.postgres.poll import poll
from collectors.rabbitmq.dead_letters import dead_letters
from collectors.rabbitmq.table import told
from tests.brokers.kafka_topic import own_topic, read_to_now, wait_for
from tests.brokers.rabbitmq_vhost import own_vhost, read_until, vouches
from tests.brokers.test_postgres_outbox import caught_up, until
from tests.brokers.test_postgres_outbox import vouches as vouches_for_rows
from tracker.model.carry import MESSAGE_ID

pytestmark = pytest.mark.brokers
TABLE = """CREATE TABLE outbox (id text PRIMARY KEY, payload bytea, headers jsonb, customer text,
    tx xid8 DEFAULT pg_current_xact_id(), sent_tx xid8)"""


def contents(collector: Any, raws: Any) -> list[Content]:
    """Of every event that has a payload, held against the digest that was observed."""
    found = []
    for raw in raws:
        for event in collector.decode(raw):
            found.append(collector.content(raw, event))
            assert digest_of(found[-1].value) == event.digest
    return found


def test_a_record_of_kafka(kafka_server: str) -> None:
    """Key, headers without a value, and a tombstone, which is not an empty payload."""
    with own_topic(kafka_server) as topic:
        producer = Producer(topic.client())
        headers: list[tuple[str, str | bytes | None]] = [(MESSAGE_ID, b"m-1"), ("none", None), ("raw", b"\xff")]
        for key, value in ((b"k", b"paid"), (None, b""), (b"k", None)):
            producer.produce(topic.name, value, key, headers=headers)
        assert producer.flush(20) == 0
        route = {"topic": topic.name, "flow": "orders", "hop": "log"}
        with closing(tail(f"c.{topic.name}", {"url": topic.url, "topics": [route]})) as collector:
            found = contents(collector, read_to_now(collector))
    assert [(each.key, each.value) for each in found] == [(b"k", b"paid"), (None, b""), (b"k", None)]
    assert dict(found[0].headers) == {MESSAGE_ID: b"m-1", "none": None, "raw": b"\xff"}


def test_a_dead_letter_of_rabbitmq(rabbitmq_server: Any) -> None:
    """Without what the broker wrote on it when it died: sent again like that, it would be taken for another's."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.channel.exchange_declare("dead", "fanout", durable=True)
        vhost.channel.queue_declare("billing", arguments={"x-dead-letter-exchange": "dead", "x-message-ttl": 1})
        config = {
            "name": "c", "url": vhost.url, "dead_letters": [{"exchange": "dead"}], "canary_every": 0.1,
            "queues": [{"queue": "billing", "flow": "orders", "hop": "rabbit"}],
        }  # fmt: skip
        with closing(dead_letters(config)) as collector:
            read_until(collector, lambda _: vouches(collector, "dead_letter"))
            vhost.publish("m-1", "billing", "", headers={"kind": "order"}, correlation_id="c-1")
            raws = read_until(collector, lambda raws: bool(raws))
            (found,) = contents(collector, raws)
    assert (found.value, found.headers) == (b"m-1", {"kind": b"order", "x-correlation-id": b"c-1"})
    assert found.native is not None
    assert told(found.native).headers["x-death"][0]["queue"] == "billing"  # a publisher leaves it out, as `headers` do


def names(collector: Any, raw: Any) -> list[str]:
    """Of the messages that a record shows."""
    return [event.message_id for event in collector.decode(raw)]


@pytest.fixture
def shop(postgres_server: Any) -> Iterator[tuple[str, Any]]:
    """The URL of a database of its own, and the application's connection to it."""
    name = postgres_server.create_database()
    url = postgres_server.url(name)
    with psycopg.connect(url, autocommit=True) as application:
        application.execute(TABLE)
        application.execute("CREATE INDEX outbox_tx ON outbox (tx)")
        yield url, application
        application.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active "
                            "AND database = current_database()")  # fmt: skip
    postgres_server.drop_database(name)


@pytest.mark.parametrize("made", [outbox, poll])
def test_a_row_of_an_outbox(shop: tuple[str, Any], made: Any, tmp_path: Path) -> None:
    """Payload, key and headers are columns. Where nobody named the payload there is nothing to keep, and that is
    said."""
    url, application = shop
    columns = {"payload": "payload", "headers": "headers", "key": "customer"}
    for more in (columns, {}):
        table = {"table": "outbox", "flow": "orders", "hop": "shop", **more}
        config: dict[str, Any] = {"url": url, "tables": [table], "look_every": 0.05}
        if made is poll:
            config["cursor"] = tmp_path / f"cursor{len(more)}"
        with closing(made(f"shop{len(more)}", config)) as collector:
            until(collector, lambda watched=collector: vouches_for_rows(watched))
            application.execute(
                "INSERT INTO outbox (id, payload, headers, customer) VALUES (%s, %s, %s, %s)",
                (f"m-{len(more)}", b"\x00paid", '{"kind": "order", "n": [1]}', "alice"),
            )
            raws = [raw for raw in caught_up(collector) if names(collector, raw) == [f"m-{len(more)}"]]
            if more:
                (found,) = contents(collector, raws)
                assert found == Content(b"alice", b"\x00paid", {"kind": b"order", "n": b"[1]"})
            else:
                with pytest.raises(ConfigInvalid, match=r"`payload` of table public\.outbox"):
                    contents(collector, raws)
    active = "SELECT 1 FROM pg_replication_slots WHERE active AND database = current_database()"
    wait_for(lambda: not application.execute(active).fetchone(), "slots that nobody reads")
