"""The memory of a tail does not grow with the backlog that it finds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from confluent_kafka import Producer

from tests.brokers.kafka_topic import own_topic

MEMORY_KB, REST_KB = 32_768, 96 * 1024
RECORDS, SIZE = 300_000, 1000
"""300 MB, ten times what may be fetched ahead."""


@pytest.mark.brokers
@pytest.mark.long
def test_a_backlog_of_hundreds_of_megabytes(kafka_server: str) -> None:
    """Beyond `memory_kb` there are the fetches on their way, the remembered ids and what Python itself takes: less than
    96 MB, whatever the backlog."""
    with own_topic(kafka_server, partitions=4) as topic:
        producer = Producer(topic.client(linger_ms=50, queue_buffering_max_messages=RECORDS))
        for number in range(RECORDS):
            producer.produce(topic.name, b"x" * SIZE, headers=[("x-message-id", b"%036d" % number)])
            if number % 10_000 == 0:
                producer.poll(0)
        assert producer.flush(120) == 0
        command = [sys.executable, "-m", "tests.brokers.kafka_reading", kafka_server, topic.name, str(MEMORY_KB)]
        done = subprocess.run([*command, str(RECORDS)], capture_output=True, text=True, timeout=300, check=True)
    before, peak = map(int, done.stdout.split())
    print(f"before {before} kB, at most {peak} kB")
    assert peak - before < MEMORY_KB + REST_KB
