import base64

import pytest

from tracker.cli import hops
from tracker.cli.errors import CommandError
from tracker.model.carry import Finder
from tracker.replay import Keeper


def written(tmp_path, text):
    """The file with this text."""
    path = tmp_path / "hops.yaml"
    path.write_text(text)
    return path


def test_each_hop_gets_what_its_kind_offers(tmp_path):
    """A Kafka hop can be read and sent to, without a topic only read; a queue can only be sent to."""
    text = """
kafka-eu: {kind: kafka, url: "127.0.0.1:1", topic: orders, partition: same, identity_header: x-id}
kafka-us: {kind: kafka, url: "127.0.0.1:1"}
rabbit: {kind: rabbitmq, url: "amqp://guest:guest@127.0.0.1:1/", queue: orders}
"""
    ends = hops.build(hops.read(written(tmp_path, text)))
    assert sorted(ends.sources) == [("log", "kafka-eu"), ("log", "kafka-us")]
    assert sorted(ends.publishers) == ["kafka-eu", "rabbit"]
    ends.close()


def test_what_keeps_more_stands_below_its_hop(tmp_path, monkeypatch):
    """Dead letters of a consumer that has no log of its own, an archive of a hop that has one."""
    monkeypatch.setenv("ORDERS_KEY", base64.b64encode(bytes(32)).decode())
    text = f"""
kafka-eu:
  kind: kafka
  url: "127.0.0.1:1"
  snapshot: {{kind: archive, url: "file://{tmp_path}/kept", key: "env:ORDERS_KEY"}}
billing: {{dead_letter: {{kind: rabbitmq, url: "amqp://guest:guest@127.0.0.1:1/", queue: dead}}}}
"""
    ends = hops.build(hops.read(written(tmp_path, text)))
    assert sorted(ends.sources) == [("dead_letter", "billing"), ("log", "kafka-eu"), ("snapshot", "kafka-eu")]
    archive = ends.sources[Keeper("snapshot", "kafka-eu")]
    assert isinstance(archive, Finder)
    assert archive.find("orders", ["m-1"]) == []
    assert not ends.publishers
    ends.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "hops.yaml:1"),
        ("- a", "mapping of hops"),
        ("a: {url: x}", "hop 'a' needs `kind`"),
        ("a: {}", "hop 'a' needs `kind`"),
        ("a: {kind: pigeon, dead_letter: {kind: kafka}}", "hop 'a' needs `kind`"),
        ("a: {dead_letter: {kind: pigeon}}", "`dead_letter` of hop 'a' needs `kind`"),
        ("a: {snapshot: file}", "`snapshot` of hop 'a' needs `kind`"),
        ("a: {kind: pigeon}", "archive, kafka, mqtt, nats, postgres, rabbitmq, rabbitmq-stream, redis"),
        ('a: {kind: kafka, url: "127.0.0.1:1", colour: red}', "hop 'a'.*colour"),
    ],
)
def test_a_wrong_file_is_told_with_the_hop(tmp_path, text, words):
    """What is wrong is named: the line, the hop, the key."""
    with pytest.raises(CommandError, match=words):
        hops.build(hops.read(written(tmp_path, text)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    """So is a file that cannot be opened."""
    with pytest.raises(CommandError, match=r"none\.yaml"):
        hops.read(tmp_path / "none.yaml")
