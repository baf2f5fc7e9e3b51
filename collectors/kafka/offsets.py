"""Where the logs of partitions begin."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from collectors.errors import Unavailable
from collectors.kafka.client import REQUEST_TIMEOUT, driver_errors, translated
from collectors.kafka.frontier import Slot


def first_records(admin: AdminClient, what: str, slots: Collection[Slot]) -> dict[Slot, tuple[int, int]]:
    """Offset and timestamp (µs) of the first record that each log holds; empty logs are left out. `what` names the
    cluster in errors: `Unavailable`, `ConfigInvalid`."""
    with driver_errors(what):
        found = {slot: future.result() for slot, future in _ask(admin, slots, OffsetSpec.for_timestamp(0)).items()}
    return {slot: (at.offset, at.timestamp * 1000) for slot, at in found.items() if at.offset >= 0}


def beginnings(admin: AdminClient, what: str, slots: Collection[Slot]) -> dict[Slot, int]:
    """The offset before which each log holds nothing any more. Partitions without a leader are left out for now. Raises
    as `first_records`."""
    found: dict[Slot, int] = {}
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    with driver_errors(what):
        asked = _ask(admin, slots, earliest)
    for slot, future in asked.items():
        try:
            found[slot] = future.result().offset
        except KafkaException as error:
            trouble = translated(error, f"{what}, beginning of {slot[0]}/{slot[1]}")
            if not isinstance(trouble, Unavailable):
                raise trouble from error
    return found


def _ask(admin: AdminClient, slots: Collection[Slot], which: OffsetSpec) -> Mapping[Slot, Future[Any]]:
    if not slots:
        return {}
    asked = admin.list_offsets({TopicPartition(*slot): which for slot in slots}, request_timeout=REQUEST_TIMEOUT)
    return {(place.topic, place.partition): future for place, future in asked.items()}
