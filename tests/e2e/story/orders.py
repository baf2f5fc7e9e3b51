"""The messages of the story: how they are named, and which of them something happens to."""

from __future__ import annotations

COUNT = 10_000


def order(number: int) -> str:
    """The id of an order, which goes through Kafka."""
    return f"order-{number:05}"


def parcel(number: int) -> str:
    """The id of a parcel, which goes through RabbitMQ."""
    return f"parcel-{number:05}"


def number_of(message_id: str) -> int:
    """The number in an id."""
    return int(message_id.rpartition("-")[2])


def skipped(message_id: str) -> bool:
    """The defect of billing: 137 of 10,000."""
    return number_of(message_id) % 73 == 36


def misrouted(number: int) -> bool:
    """The defect of the shop: 53 of 10,000."""
    return number % 187 == 93
