from __future__ import annotations

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from collectors.kafka import tail
from tests.brokers.kafka_topic import own_topic
from tests.contract.suite import CollectorContract

pytestmark = pytest.mark.brokers


class TestKafka(CollectorContract):
    patience = 20.0

    @pytest.fixture(autouse=True)
    def system(self, kafka_server):
        """A topic of two partitions, of which a group of somebody else's has committed a part."""
        with own_topic(kafka_server, partitions=2) as self.topic:
            self.sent = 0
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
        route = {"topic": self.topic.name, "flow": "orders", "hop": "kafka-eu"}
        return tail(f"{self.topic.name}.{name}", {"url": self.topic.url, "topics": [route]})

    def others(self):
        """The log's ends, and what the application's group committed and who its members are."""
        group = f"app-{self.topic.name}"
        asked = self.topic.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        described = self.topic.admin.describe_consumer_groups([group])[group].result(20)
        offsets = [(p.partition, p.offset) for p in asked[group].result(20).topic_partitions]
        return self.topic.ends(), offsets, described.state, len(described.members)
