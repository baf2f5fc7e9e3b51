"""Whether consumer groups have members. All brokers are asked, for the admin client's requests to a group's coordinator
never recover from a broker's restart (seen with librdkafka 2.16)."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from collectors.kafka_client import REQUEST_TIMEOUT
from collectors.kafka_moves import Members

EMPTY = "Empty"
"""The state of a group that has offsets and no members. One of the newer protocol (KIP-848) does not show it to this
question, and so is never called empty."""


def members(admin: AdminClient, group: str) -> Members:
    """Who is in a group now; unknown where a broker does not answer: that must not keep offsets from being read."""
    try:
        found = admin.list_groups(group, timeout=REQUEST_TIMEOUT)
    except KafkaException:
        return Members.unknown
    states = [one for one in found if one.error is None]
    if not states:
        return Members.unknown
    if any(one.members for one in states):
        return Members.some
    if any(one.state != EMPTY for one in states):
        return Members.unknown
    return Members.none if any(one.protocol_type for one in states) else Members.never
