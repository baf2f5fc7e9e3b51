"""`collectors discover` on real systems: its drafts run as they are, and looking changes nothing."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from typer.testing import CliRunner

from collectors.main import app
from tests.brokers.activemq_app import app as activemq_app
from tests.brokers.kafka_topic import Topic, own_topic, wait_for
from tests.brokers.nats_stream import own_stream
from tests.brokers.rabbitmq_vhost import own_vhost
from tests.brokers.running import covered, lines, run
from tests.contract.http_tracker import HttpTracker
from tests.servers.postgres import Databases, let_go
from tracker.model.spec import FlowSpec, load_spec

pytestmark = pytest.mark.brokers


OUTBOX = """CREATE TABLE outbox (id text PRIMARY KEY, aggregate_type text, payload jsonb NOT NULL, headers jsonb,
                                 created_at timestamptz NOT NULL DEFAULT now(), sent_at timestamptz)"""
MADE = "SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots WHERE database = %s)"


class Drafts:
    """What `collectors discover --out` wrote, checked as an operator would: the configuration by `collectors run
    --check`, the specs by their parser."""

    def __init__(self, folder: Path, url: str, *options: str, **environment: str) -> None:
        done = CliRunner().invoke(app, ["discover", url, "--out", str(folder), *options], env=environment)
        assert done.exit_code == 0, done.output
        written = [Path(line) for line in done.output.splitlines()[:-1]]
        self.text = written[0].read_text()
        self.specs: dict[str, FlowSpec] = {path.stem: load_spec(path.read_text()) for path in written[1:]}
        self.spec_texts = {path.stem: path.read_text() for path in written[1:]}
        self.environment = {"TRACKER_TOKEN": "x", **environment}
        checked = CliRunner().invoke(app, ["run", "--check", str(written[0])], env=self.environment)
        assert checked.exit_code == 0, checked.output
        self.collectors: list[dict[str, Any]] = yaml.safe_load(self.text)["collectors"]

    def run(self, tracker: HttpTracker, folder: Path) -> Any:
        """Its collectors, until what is given is called."""
        said = json.dumps(self.collectors)
        for name, value in self.environment.items():
            said = said.replace(f"${{{name}}}", value)
        stops = [run(each, tracker.url, folder) for each in json.loads(said)]
        return lambda: [stop() for stop in stops]


def events(tracker: HttpTracker, flow: str) -> set[tuple[str, str, str]]:
    """What was told of a flow."""
    return {(line["message_id"], line["hop"], line["stage"]) for line in lines(tracker) if line.get("flow") == flow
            and line.get("evidence") != "range"}  # fmt: skip


def test_kafka(kafka_server: str, tmp_path: Path) -> None:
    """Topics with ids become a tail and a flow with the groups that read them; one without ids is left for somebody to
    decide; a compacted one is warned of. No group is made by looking, and the drafts give each record's persist."""
    compacted = {"cleanup.policy": "compact"}
    with own_topic(kafka_server, 2) as topic, own_topic(kafka_server, 1, compacted) as other, HttpTracker() as tracker:
        topic.put(["m-1", "m-2"], partition=1)
        _without_id(other)
        group = f"billing-{uuid.uuid4().hex[:6]}"
        with Consumer(topic.client(group_id=group)) as app_:
            wait_for(lambda: _committed(app_, topic.name), "the coordinator", 40)
        before = _groups(topic)
        drafts = Drafts(tmp_path / "drafts", topic.url)
        assert _groups(topic) == before
        tail, groups = drafts.collectors
        routes = {route["topic"]: route for route in tail["topics"]}
        assert routes[topic.name] == {"topic": topic.name, "flow": topic.name, "hop": "kafka"}
        assert other.name not in routes
        assert (
            f"# TODO topic {other.name}: 1 of 1 records looked at have no header x-message-id; seen: order"
            in drafts.text
        )
        assert f"#   - {{topic: {other.name}, flow: {other.name}, hop: kafka}}" in drafts.text
        assert f"# TODO topic {other.name}: compacted" in drafts.text
        assert [g["hop"] for g in groups["groups"] if g["topic"] == topic.name] == [group]
        points = [(c.name, c.after) for c in drafts.specs[topic.name].checkpoints]
        assert points == [("kafka:persist", ()), (f"{group}:ack", ("kafka",))]
        stop = drafts.run(tracker, tmp_path)
        try:
            wanted = {("m-1", "kafka", "persist"), ("m-2", "kafka", "persist")}
            wait_for(lambda: events(tracker, topic.name) == wanted, "the persists", 40)
            wait_for(lambda: covered(tracker, "ack"), "the group's coverage", 40)
        finally:
            stop()
        assert not any(line.get("flow") == other.name for line in lines(tracker))


def _committed(consumer: Consumer, topic: str) -> bool:
    try:
        return bool(consumer.commit(offsets=[TopicPartition(topic, 1, 1)], asynchronous=False))
    except KafkaException:  # a coordinator that was never asked before loads what it has
        return False


def _without_id(topic: Topic) -> None:
    producer = Producer(topic.client())
    producer.produce(topic.name, b"v", b"k", headers=[("order", b"7")])
    assert producer.flush(20) == 0


def _groups(topic: Topic) -> set[str]:
    return {group.group_id for group in topic.admin.list_consumer_groups().result().valid}


def test_kafka_with_another_header(kafka_server: str, tmp_path: Path) -> None:
    """The header that carries the application's id may be named: then its topics are watched by it. Settings of the
    client are passed on, and secrets are not written down."""
    with own_topic(kafka_server) as topic:
        _without_id(topic)
        options = ["--identity-header", "order", "--client", "client.id=eight", "--client", "sasl.password=nine"]
        drafts = Drafts(tmp_path, topic.url, *options, KAFKA_PASSWORD="nine")
    assert drafts.collectors[0]["identity_header"] == "order"
    assert drafts.collectors[0]["client"] == {"client.id": "eight", "sasl.password": "${KAFKA_PASSWORD}"}
    assert "nine" not in drafts.text
    assert topic.name in {route["topic"] for route in drafts.collectors[0]["topics"]}


def test_rabbitmq(rabbitmq_server: Any, tmp_path: Path) -> None:
    """An exchange with its queues is a flow, a queue that is published to directly another; dead letters are told of.
    Nothing is declared or taken by looking. The drafts give each message's persist; the password is in none of them."""
    with own_vhost(rabbitmq_server) as vhost, HttpTracker() as tracker:
        channel = vhost.channel
        channel.exchange_declare("dead", "fanout")
        channel.queue_declare("buried", durable=True)
        channel.queue_bind("buried", "dead")
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare("billing", durable=True, arguments={"x-dead-letter-exchange": "dead"})
        channel.queue_declare("alone", durable=True)
        channel.queue_bind("billing", "orders", "new.#")
        vhost.trace(False)
        management = ["--management", rabbitmq_server.management_url.replace("guest:guest@", "")]
        drafts = Drafts(tmp_path / "drafts", vhost.url, *management, AMQP_PASSWORD="guest")
        assert f"TODO the firehose of vhost '{vhost.name}' is off" in drafts.text
        assert "guest@" not in drafts.text.replace("${AMQP_PASSWORD}@", "")
        assert "queue billing: dead letters go to exchange 'dead'" in drafts.text
        assert "queue alone: no dead letter exchange" in drafts.text
        [collector] = drafts.collectors
        assert collector["exchanges"] == [{"exchange": "orders", "flow": "orders"}]
        assert sorted(drafts.specs) == ["alone", "orders"]
        assert [c.name for c in drafts.specs["orders"].checkpoints] == ["billing:persist"]
        vhost.trace(True)
        stop = drafts.run(tracker, tmp_path)
        try:
            wait_for(lambda: covered(tracker, "persist") == 2, "coverage", 40)
            vhost.publish("m-1")
            vhost.publish("m-2", key="alone", exchange="")
            wait_for(lambda: events(tracker, "orders") == {("m-1", "billing", "persist")}, "the persist", 40)
            wait_for(lambda: events(tracker, "alone") == {("m-2", "alone", "persist")}, "the other", 40)
        finally:
            stop()
        again = CliRunner().invoke(app, ["discover", vhost.url, *management, "--json"])
        items = json.loads(again.output)["items"]
        assert [i["queue"] for i in items if "queue" in i] == ["alone", "billing", "buried"]
        assert vhost.message_count("billing") == 1


def test_queues_of_which_one_is_enough(rabbitmq_server: Any, tmp_path: Path) -> None:
    """Bound by different keys, a message reaches one of the queues and need not reach the others."""
    with own_vhost(rabbitmq_server) as vhost:
        vhost.orders("billing")
        vhost.channel.queue_declare("parcels", durable=True)
        vhost.channel.queue_bind("parcels", "orders", "parcel.#")
        management = ["--management", rabbitmq_server.management_url.replace("guest:guest@", "")]
        drafts = Drafts(tmp_path, vhost.url, *management, AMQP_PASSWORD="guest")
    assert [c.name for c in drafts.specs["orders"].checkpoints] == ["billing|parcels:persist"]
    assert "billing by new.#; parcels by parcel.#" in drafts.spec_texts["orders"]


def test_postgres(postgres_server: Databases, tmp_path: Path) -> None:
    """A table that looks like an outbox becomes one, with its columns; others do not. Nothing is made by looking. The
    drafts give each committed row's produce and its ack when it was marked."""
    database = postgres_server.create_database()
    url = postgres_server.url(database)
    try:
        with psycopg.connect(url, autocommit=True) as db, HttpTracker() as tracker:
            db.execute(OUTBOX)
            db.execute("CREATE TABLE orders (id int PRIMARY KEY, total int)")
            db.execute("CREATE TABLE events (type text, id uuid, data text)")
            drafts = Drafts(tmp_path / "drafts", url)
            assert db.execute(MADE, (database,)).fetchone() == (0, 0)
            [collector] = drafts.collectors
            hop = database
            assert collector["tables"] == [
                {"table": "public.events", "flow": "events", "hop": hop, "id": "id", "payload": "data"},
                {"table": "public.outbox", "flow": "outbox", "hop": hop, "id": "id", "payload": "payload",
                 "origin": "created_at", "headers": "headers", "relayed": {"column": "sent_at"}},
            ]  # fmt: skip
            assert "where: {aggregate_type: VALUE}" in drafts.text
            assert drafts.specs["outbox"].checkpoints[0].outbox
            collector["tables"] = collector["tables"][1:]  # the other has no key, and is not an outbox
            stop = drafts.run(tracker, tmp_path)
            try:
                wait_for(lambda: covered(tracker, "produce") == 1, "coverage", 40)
                db.execute("INSERT INTO outbox VALUES ('m-1', 'order', '{}')")
                db.execute("UPDATE outbox SET sent_at = now()")
                wanted = {("m-1", hop, "produce"), ("m-1", hop, "ack")}
                wait_for(lambda: events(tracker, "outbox") == wanted, "the row", 40)
            finally:
                stop()
            let_go(db)
    finally:
        postgres_server.drop_database(database)


def test_what_the_server_lacks(postgres_server: Databases, tmp_path: Path) -> None:
    """A role that may not read the log is told what it needs; a database without such a table gives no draft."""
    database = postgres_server.create_database()
    role = f"reader_{uuid.uuid4().hex[:6]}"
    try:
        url = postgres_server.url(database)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
            theirs = f"postgresql://{role}:x@{url.rpartition('@')[2]}"
            none = CliRunner().invoke(app, ["discover", theirs])
            assert none.exit_code == 0, none.output
            assert "nothing to draft from" in none.output
            db.execute("CREATE TABLE order_outbox (id uuid, body text)")
            shown = CliRunner().invoke(app, ["discover", theirs.replace(":x@", ":${OUTBOX_PASSWORD}@")],
                                       env={"OUTBOX_PASSWORD": "x"})  # fmt: skip
            assert f"# TODO the role may not read the log: ALTER ROLE {role} REPLICATION" in shown.output
            assert f"url: postgresql://{role}:${{OUTBOX_PASSWORD}}@" in shown.output
            db.execute(f"DROP ROLE {role}")
    finally:
        postgres_server.drop_database(database)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("mqtt://127.0.0.1", 2, "no system is known by mqtt://; there are kafka://"),
        ("nats://u:secret@127.0.0.1:1", 3, "NATS 127.0.0.1:1"),
        ("stomp://u:secret@127.0.0.1:1", 3, "ActiveMQ 127.0.0.1:1"),
        ("kafka://127.0.0.1:1", 3, "Kafka 127.0.0.1:1"),
        ("amqp://guest:secret@127.0.0.1:1/%2F", 3, "rabbitmq_management"),
        ("postgresql://u:secret@127.0.0.1:1/db", 3, "PostgreSQL 127.0.0.1:1/db"),
        ("kafka://${NOT_SET}:1", 2, "NOT_SET is not set"),
        ("kafka://u:secret@h:1", 2, "no Kafka address"),
    ],
)
def test_what_cannot_be_looked_at(url: str, code: int, said: str) -> None:
    """Unknown, away, wrong: an error that names it, an exit code, no password."""
    done = CliRunner().invoke(app, ["discover", url])
    assert done.exit_code == code, done.output
    assert said in done.output
    assert "secret" not in done.output


def test_activemq(activemq_factory: Any, tmp_path: Path) -> None:
    """Queues and topics; dead letters stand apart. Nothing is made by looking, and the draft sees what is sent."""
    broker = activemq_factory()
    with activemq_app(broker.url) as orders:
        orders.put(["m-1"])
        orders.put(["m-2"], to="/queue/DLQ.orders")
        orders.put(["p-1"], to="/topic/prices")
        drafts = Drafts(tmp_path / "drafts", broker.first)
        assert Drafts(tmp_path / "again", broker.first).text == drafts.text
        assert "queue DLQ.orders: dead letters" in drafts.text
        [collector] = drafts.collectors
        assert [{**route, "flow": ""} for route in collector["routes"]] == [
            {"queue": orders.queue, "flow": "", "hop": orders.queue}, {"topic": "prices", "flow": "", "hop": "prices"},
        ]  # fmt: skip
        assert [c.name for c in drafts.specs["prices"].checkpoints] == ["prices:persist"]
        collector["advisories"] = "tracker.advisories.one"  # what this broker copies into
        with HttpTracker() as tracker:
            stop = drafts.run(tracker, tmp_path)
            try:
                wait_for(lambda: events(tracker, orders.queue) == {("m-1", orders.queue, "persist")}, "the persist", 40)
            finally:
                stop()


def test_redis(redis_factory: Any, tmp_path: Path) -> None:
    """Streams with their groups; the draft runs as it is. A stream without ids says so; nothing is changed."""
    server = redis_factory({"save": "", "repl-diskless-sync-delay": "0"})
    with redis.Redis.from_url(server.url) as client:
        client.xadd("orders", {"x-message-id": "m-1", "payload": "{}"})
        client.xgroup_create("orders", "billing", id="0")
        client.xadd("bare", {"a": "1"})
        client.set("else", "1")
        before = client.xinfo_stream("orders", full=True)
        drafts = Drafts(tmp_path / "drafts", server.url)
        assert client.xinfo_stream("orders", full=True) == before
    assert "TODO stream bare: no field 'x-message-id'" in drafts.text
    assert "stream orders, group billing: 1 not read yet, 0 pending" in drafts.text
    [collector] = drafts.collectors
    assert collector["streams"][1] == {"stream": "orders", "flow": "orders", "hop": "orders", "payload": "payload",
                                       "groups": [{"group": "billing", "hop": "billing"}]}  # fmt: skip
    assert [c.name for c in drafts.specs["orders"].checkpoints] == ["orders:persist", "billing:ack"]
    collector["cursor"] = str(tmp_path / "redis.cursor")
    with HttpTracker() as tracker:
        stop = drafts.run(tracker, tmp_path)
        try:
            wait_for(lambda: events(tracker, "orders") == {("m-1", "orders", "persist")}, "the persist", 40)
        finally:
            stop()


def test_nats(nats_factory: Any, tmp_path: Path) -> None:
    """Streams with their durable consumers; a mirror is a copy, of the same flow, in a collector of its own. Nothing is
    made by looking, and the drafts see what is put."""
    url = nats_factory().url
    with own_stream(url) as stream:
        stream.consumer("billing")
        stream.do(stream.js.add_stream(name="COPY", mirror={"name": stream.name}))
        drafts = Drafts(tmp_path / "drafts", url)
        assert {info.config.name for info in stream.do(stream.js.streams_info())} == {stream.name, "COPY"}
        origin, copies = drafts.collectors
        route = {"stream": stream.name, "flow": stream.name, "hop": stream.name}
        assert origin["streams"] == [route]
        assert origin["consumers"] == [{"stream": stream.name, "consumer": "billing", "hop": "billing"}]
        assert copies["streams"] == [{**route, "stream": "COPY", "hop": "COPY", "stage": "replicate"}]
        points = {(point.hop[0], point.stage.value) for point in drafts.specs[stream.name].checkpoints}
        assert points == {(stream.name, "persist"), ("billing", "ack"), ("COPY", "replicate")}
        with HttpTracker() as tracker:
            stop = drafts.run(tracker, tmp_path / "run")
            wait_for(lambda: all(covered(tracker, stage) for stage in ("persist", "ack", "replicate")), "coverage", 40)
            stream.put(["m-1"])
            (message,) = stream.take(stream.do(_bound(stream)), 1)
            stream.do(message.ack())
            wait_for(lambda: len(events(tracker, stream.name)) == 3, "what happened", 40)
            stop()
        assert events(tracker, stream.name) == {
            ("m-1", stream.name, "persist"), ("m-1", "billing", "ack"), ("m-1", "COPY", "replicate"),
        }  # fmt: skip


async def _bound(stream: Any) -> Any:
    return await stream.js.pull_subscribe(f"{stream.name}.>", durable="billing", stream=stream.name)
