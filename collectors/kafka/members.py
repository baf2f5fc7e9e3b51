"""Whether consumer groups have members, and which.

All brokers are asked at once (ListGroups, DescribeGroups), by a method that librdkafka would rather see replaced. What
is to replace it asks a group's coordinator, and with librdkafka 2.16 that ends the process (an assertion in
`rd_kafka_enq_once_del_source_return`) when a broker goes away and comes back a second time.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from xxhash import xxh32_hexdigest

from collectors.kafka.client import REQUEST_TIMEOUT
from collectors.kafka.moves import Members

EMPTY, DEAD = "Empty", "Dead"
"""States of a group that has offsets and no members, and of one that this question does not reach: a group of the newer
protocol (KIP-848), whoever is in it."""


def members(admin: AdminClient, group: str) -> tuple[Members, frozenset[str]]:
    """Who is in a group now, and a short digest of each one's id; unknown where a broker does not answer: that must not
    keep offsets from being read."""
    try:
        answers: list[Any] = admin.list_groups(group, timeout=REQUEST_TIMEOUT)
    except KafkaException:
        return Members.unknown, frozenset()
    found = [one for one in answers if one.error is None]
    states = {one.state for one in found}
    who = frozenset(xxh32_hexdigest(each.id.encode()) for one in found for each in one.members)
    if who:
        return Members.some, who
    if states == {DEAD}:
        return Members.hidden, who
    if states != {EMPTY}:
        return Members.unknown, who
    return Members.none if any(one.protocol_type for one in found) else Members.hidden, who
