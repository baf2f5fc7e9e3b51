"""Whether logs are still those that were known: asked of partitions that have another leader than before.

A leader that was out of sync when it was elected lacks the log's end (see `collectors.kafka.truncated`). Whoever only
follows offsets of groups reads no record, and so is told nothing: this asks, by seeking to a known place with the epoch
of the record before it, and reading no further than the first answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from collectors.errors import Unavailable
from collectors.kafka.client import ADVICE, REQUEST_TIMEOUT, Cluster, driver_errors, translated
from collectors.kafka.frontier import Slot
from collectors.kafka.positions import Position, placed
from collectors.kafka.truncated import cut_of

AT_ONCE = 200
"""Partitions that are asked about at a time, each by a record or two that nobody wants."""


class Cuts:
    """Asks one cluster, named `what` in errors. Nothing is open between two questions."""

    def __init__(self, cluster: Cluster, what: str) -> None:
        self._what = what
        self._settings = cluster.member(
            "tracker.cuts", enable_partition_eof=True, auto_offset_reset="error", queued_max_messages_kbytes=1024,
            fetch_message_max_bytes=1, fetch_wait_max_ms=100,
        )  # fmt: skip

    def of(self, known: Mapping[Slot, Position]) -> tuple[dict[Slot, int], set[Slot]]:
        """By partition, where the log ends that was known up to these positions, of those that are not as they were;
        and those whose leader did not answer. Raises `ConfigInvalid`, and `Unavailable` when none did."""
        found: dict[Slot, int] = {}
        silent: set[Slot] = set()
        slots = sorted(known)
        for start in range(0, len(slots), AT_ONCE):
            silent |= self._asked({slot: known[slot] for slot in slots[start : start + AT_ONCE]}, found)
        if silent and silent == known.keys():
            raise Unavailable(f"{self._what}: no leader says whether logs are as they were; {ADVICE}")
        return {slot: end for slot, end in found.items() if slot not in silent}, silent

    def _asked(self, known: dict[Slot, Position], found: dict[Slot, int]) -> set[Slot]:
        until = time.monotonic() + REQUEST_TIMEOUT
        with driver_errors(self._what):
            consumer = Consumer(self._settings)
            try:
                waiting: set[tuple[Any, Any]] = set(known)
                for slot, at in known.items():
                    self._seek(consumer, slot, at)
                while waiting and time.monotonic() < until:
                    message: Any = consumer.poll(0.1)
                    if message is None or (slot := (message.topic(), message.partition())) not in waiting:
                        continue
                    cut = self._cut(message.error())
                    if cut is None:
                        waiting.remove(slot)
                        consumer.incremental_unassign([TopicPartition(*slot)])
                    else:  # a log that was cut twice was cut there, or before
                        found[slot] = cut.offset
                        consumer.incremental_unassign([TopicPartition(*slot)])
                        self._seek(consumer, slot, cut)
            finally:
                consumer.close()
        return waiting

    def _seek(self, consumer: Consumer, slot: Slot, at: Position) -> None:
        consumer.incremental_assign([placed(slot, at.offset, at.epoch)])
        consumer.seek(placed(slot, at.offset, at.epoch))  # without it librdkafka 2.16 does not compare epochs

    def _cut(self, error: Any) -> Position | None:
        """Where the driver says that the log ends; None for a record, the end of the log, or a place that it has no
        longer for another reason."""
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return None
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            cut = cut_of(error.str())
            return Position(cut.offset, cut.epoch) if cut else None
        raise translated(error, self._what)
