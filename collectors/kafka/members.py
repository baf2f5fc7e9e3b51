"""Whether consumer groups have members.

All brokers are asked at once (ListGroups, DescribeGroups), by a method that librdkafka would rather see replaced. What
is to replace it asks a group's coordinator, and with librdkafka 2.16 that ends the process (an assertion in
`rd_kafka_enq_once_del_source_return`) when a broker goes away and comes back a second time.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from collectors.kafka.client import REQUEST_TIMEOUT
from collectors.kafka.moves import Members

EMPTY, DEAD = "Empty", "Dead"
"""States of a group that has offsets and no members, and of one that this question does not reach: a group of the newer
protocol (KIP-848), whoever is in it."""


def members(admin: AdminClient, group: str) -> Members:
    """Who is in a group now; unknown where a broker does not answer: that must not keep offsets from being read."""
    try:
        answers: list[Any] = admin.list_groups(group, timeout=REQUEST_TIMEOUT)
    except KafkaException:
        return Members.unknown
    found = [one for one in answers if one.error is None]
    states = {one.state for one in found}
    if any(one.members for one in found):
        return Members.some
    if states == {DEAD}:
        return Members.hidden
    if states != {EMPTY}:
        return Members.unknown
    return Members.none if any(one.protocol_type for one in found) else Members.hidden
