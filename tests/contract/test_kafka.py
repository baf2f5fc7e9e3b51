from __future__ import annotations

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from collectors.base import Raw, Undecodable
from collectors.kafka.tail import KafkaTail, tail
from tests.brokers.kafka_topic import own_topic
from tests.contract.broker import LARGE, SECRET, BrokerContract
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers


class TestKafka(BrokerContract):
    sources = 2

    @pytest.fixture(autouse=True)
    def system(self, kafka_node):
        """A topic of two partitions, of which a group of somebody else's has committed a part."""
        with own_topic(kafka_node.bootstrap, 2, {"max.message.bytes": str(2 * LARGE)}) as self.topic:
            self.node, self.sent = kafka_node, 0
            mine = ConsumerGroupTopicPartitions(f"app-{self.topic.name}", [TopicPartition(self.topic.name, 0, 0)])
            self.topic.admin.alter_consumer_group_offsets([mine])[mine.group_id].result(20)
            yield

    def put(self, count):
        """Produce to whichever partition the key says."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        self.topic.put(ids)
        return ids

    def collector(self, name="one"):
        """Tails the one topic."""
        own = self.described(name)
        return tail(own.pop("name"), {key: value for key, value in own.items() if key != "kind"})

    def described(self, name="one", at=""):
        """A driver that has tried in vain tries again soon."""
        route = {"topic": self.topic.name, "flow": "orders", "hop": "kafka-eu"}
        return {
            "name": f"{self.topic.name}.{name}", "kind": "kafka", "url": f"kafka://{at or self.topic.servers}",
            "topics": [route], "client": {"reconnect.backoff.max.ms": 500},
        }  # fmt: skip

    def between(self):
        """Where the broker tells those to come to who came by its other way in."""
        return Proxy(("127.0.0.1", self.node.behind), self.node.proxied)

    def remake(self):
        """The topic."""
        self.topic.delete()
        self.topic.create(2)

    def large(self, size):
        """One record."""
        self.topic.put(["large"], value=bytes(size), settings={"message.max.bytes": 2 * size})
        return "large"

    def refused(self):
        """The way in where one has to log in."""
        login = {"sasl.username": "tracker", "sasl.password": SECRET, "sasl.mechanisms": "PLAIN"}
        wrong = {"security.protocol": "SASL_PLAINTEXT", **login}
        return {**self.described(at=self.node.guarded), "client": wrong}

    def others(self):
        """What the log holds, in order, what the application's group committed and who its members are."""
        group = f"app-{self.topic.name}"
        asked = self.topic.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        described = self.topic.admin.describe_consumer_groups([group])[group].result(20)
        offsets = [(p.partition, p.offset) for p in asked[group].result(20).topic_partitions]
        return self.topic.content(), offsets, described.state, len(described.members)

    def test_the_ends_of_a_read_stand_for_all_of_it(self):
        """One of each partition; committing these is committing all."""
        self.put(20)
        with self.running() as collector:
            raws = self.drain(collector, 20)
            assert isinstance(collector, KafkaTail)
            ends = collector.ends_of(raws)
            assert sorted(raw.position.partition for raw in ends) == [0, 1]
            collector.commit(ends)
        new = self.put(3)
        with self.running() as collector:
            assert sorted(self.ids(collector, self.drain(collector, 3))) == sorted(new)

    def test_all_at_once_is_one_by_one(self):
        """`decode_all` gives what `decode` gives for each; one that is no message fails the whole of it."""
        self.put(20)
        with self.running() as collector:
            assert isinstance(collector, KafkaTail)
            raws = self.drain(collector, 20)
            assert collector.decode_all(raws) == [event for raw in raws for event in collector.decode(raw)]
            with pytest.raises(Undecodable, match="no header"):
                collector.decode_all([*raws, Raw(b"", {}, None, raws[0].position, 1)])
