"""Kafka: `persist` by tailing topics.

All partitions are assigned, not subscribed to: no group is joined, nobody is rebalanced, nothing changes for others
but one more group in the list, `tracker.<name>`, that holds our positions and never has a member.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import Field

from collectors.base import Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, Unavailable
from collectors.kafka_client import GONE, REQUEST_TIMEOUT, Cluster, driver_errors, translated
from collectors.kafka_frontier import Frontier, Slot
from collectors.kafka_positions import Positions
from collectors.kafka_records import Decoder, Place, Route, Routes, raw_of
from collectors.kafka_watch import View, Watch
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

HOLE_TICKS = 10_000_000
"""How long a partition that lost records unread is not vouched for: longer than the time between two reports."""

PASSING = GONE | {KafkaError._TRANSPORT, KafkaError._RESOLVE}
"""Errors that mend themselves, or show in the next look at the cluster: one broker of several, a deleted topic."""


class TailConfig(Cluster):
    """The `config` of a `kafka` collector; `docs/collectors/kafka.md` explains each key."""

    topics: tuple[Route, ...] = Field(min_length=1)
    from_: Literal["earliest", "latest"] = Field("earliest", alias="from")
    id: Literal["header", "offset"] = "header"
    identity_header: str = MESSAGE_ID
    key: Literal["omit", "plain"] = "omit"
    isolation: Literal["read_committed", "read_uncommitted"] = "read_uncommitted"
    node: str = ""
    region: str = ""
    look_every: float = Field(0.5, gt=0)
    memory_kb: int = Field(32_768, ge=1024)


def tail(name: str, config: Mapping[str, Any]) -> KafkaTail:
    """A tail as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return KafkaTail(name, settings(TailConfig, config, f"collector {name}"))


class KafkaTail:
    """Reads every record of the configured topics and says `persist` for each. One thread at a time.

    `clock` dates records that carry no timestamp; `ticks` (microseconds, never jumping) measures the lag.
    """

    def __init__(self, name: str, config: TailConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self.group = f"tracker.{name}"
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        self._what = f"Kafka {config.servers}"
        with driver_errors(self._what):
            self._consumer = Consumer(self._driver())
            admin = AdminClient(config.driver())
        self._positions = Positions(self._consumer, f"{self._what}, group {self.group}")
        self._watch = Watch(self._what, admin, [r.topic for r in config.topics], config.isolation == "read_committed")
        self._frontier = Frontier()
        self._routes = Routes(config.topics)
        identity = config.identity_header if config.id == "header" else None
        self._decoder = Decoder(self._routes, identity, config.key == "plain", config.region)
        self._decoder.node = config.node
        self._ids: dict[str, str] = {}
        self._vouched_from: dict[Slot, int] = {}
        self._look_at = 0
        self._looked = False
        self._trouble: CollectorError | None = None
        self._closed = False

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`. A partition that was added is read from its beginning within `look_every` seconds."""
        until = time.monotonic() + wait
        with driver_errors(self._what):
            self._look(0.0 if self._frontier.reach else wait)
            if not self._frontier.reach:
                return []
            messages = self._consumer.consume(1, max(0.0, until - time.monotonic()))
            if messages and limit > 1:  # a single call would wait its full time for all `limit`
                messages += self._consumer.consume(limit - 1, 0)
            raws = self._sorted_out(messages)
        self._frontier.settle()
        self._look_again()
        if self._trouble and not raws:
            trouble, self._trouble = self._trouble, None
            raise trouble
        return raws

    def decode(self, raw: Raw) -> tuple[Event]:
        """One `persist`. Its time is the record's own timestamp: a backlog of ours never looks like lateness."""
        return (self._decoder.event_of(raw),)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep the position behind the last of `raws` in each partition, never one before it."""
        kept, ahead = self._positions.kept, dict[Slot, int]()
        for raw in raws:
            place: Place = raw.position
            slot, after = (place.topic, place.partition), place.offset + 1
            if after > ahead.get(slot, kept.get(slot, 0)) and self._ids.get(place.topic) == place.topic_id:
                ahead[slot] = after
        self._positions.keep(ahead)

    def sources(self) -> list[SourceRef]:
        """One per partition that is read. Left out, so that coverage has a hole: one that lost records before we read
        them, for a while; one that is read from its end, until reading is known to be past where it began."""
        done = self._frontier.complete_to or 0
        self._vouched_from = {slot: tick for slot, tick in self._vouched_from.items() if done < tick}
        return [
            SourceRef(route.flow, route.hop, Stage.persist.value, f"{topic}/{number}")
            for topic, number in sorted(self._frontier.reach.keys() - self._vouched_from.keys())
            if (route := self._routes.of(topic))
        ]

    def lag(self) -> Lag:
        """See `Collector.lag`: the age of the newest look at the logs' ends that reading has passed altogether."""
        return self._frontier.lag(self._ticks())

    def close(self) -> None:
        """Close the connections; nothing is committed. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            with driver_errors(self._what):
                self._consumer.close()

    def _driver(self) -> dict[str, Any]:
        ours = self._config.member(
            self.group,
            enable_partition_eof=True,
            auto_offset_reset="error",  # a position that is gone means lost records: never pass over it in silence
            isolation_level=self._config.isolation,
            queued_max_messages_kbytes=self._config.memory_kb,
            fetch_wait_max_ms=100,
        )
        return {**ours, "error_cb": self._fail}

    def _look(self, wait: float) -> None:
        """Ask for partitions and ends when it is time, and follow what the answer says."""
        now = self._ticks()
        if not self._watch.asking and now >= self._look_at:
            self._look_at = now + int(self._config.look_every * 1_000_000)
            self._watch.ask(now)
            self._positions.keep_alive(now)
        view = self._watch.answer(wait) if self._watch.asking else None
        if view is None:
            return
        self._follow(view)
        if not view.partitions:
            names = ", ".join(route.topic for route in self._config.topics)
            raise Unavailable(f"{self._what}: none of the topics exists: {names}; create them or correct `topics`")

    def _look_again(self) -> None:
        """The answer may have come while the records did. Its errors wait, or they would take the records along."""
        try:
            self._look(0.0)
        except CollectorError as error:
            self._trouble = error

    def _follow(self, view: View) -> None:
        remade = {topic for topic, known in view.topics.items() if self._ids.get(topic, known) != known}
        followed = self._frontier.reach.keys()
        self._leave({slot for slot in followed if slot not in view.partitions or slot[0] in remade})
        self._ids = dict(view.topics)
        self._begin(view.ends.keys() - followed, view)  # those without a leader begin when they have one
        if view.whole:
            self._looked = True
            self._frontier.found(view.at, view.ends)

    def _begin(self, slots: Set[Slot], view: View) -> None:
        """Read these from where we were; else, at the first start, from where `from` says; else from their beginning:
        a partition that was added since holds nothing old."""
        if not slots:
            return
        topics = {topic for topic, _ in slots}
        # The driver looks for leaders of partitions that are new to it once a second, unless it was told of them.
        cluster = self._consumer.list_topics(topics.pop() if len(topics) == 1 else None, timeout=REQUEST_TIMEOUT)
        self._decoder.node = self._decoder.node or cluster.cluster_id or ""
        known = self._positions.load(slots, self._ids)
        if self._config.from_ == "latest" and not self._looked:  # what comes into being later is new from its beginning
            new = {s: end for s, end in view.ends.items() if s in slots and s[0] not in known}
            self._positions.keep(new)  # or the next start, before the first record, would take its own end
            self._vouched_from |= dict.fromkeys(new, self._ticks())
        self._assign({slot: self._positions.kept.get(slot, OFFSET_BEGINNING) for slot in slots})

    def _assign(self, positions: Mapping[Slot, int]) -> None:
        self._consumer.incremental_assign([TopicPartition(*slot, offset) for slot, offset in positions.items()])
        for slot, offset in positions.items():
            self._frontier.follow(slot, max(offset, 0))

    def _leave(self, slots: set[Slot]) -> None:
        if slots:
            self._consumer.incremental_unassign([TopicPartition(*slot) for slot in slots])
            self._frontier.forget(slots)
            self._positions.forget(slots)

    def _sorted_out(self, messages: Iterable[Any]) -> list[Raw]:
        """Records as `Raw`; of what else the driver hands out (ends of partitions, errors) note is taken."""
        raws: list[Raw] = []
        passed: dict[Slot, int] = {}
        now = self._clock()
        for message in messages:
            error = message.error()
            if error is None:
                raws.append(raw_of(message, self._ids, now))
                passed[message.topic(), message.partition()] = message.offset() + 1
            else:
                self._note(error, (message.topic(), message.partition()), message.offset())
        for slot, position in passed.items():
            self._frontier.passed(slot, position)
        return raws

    def _note(self, error: KafkaError, slot: Slot, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._frontier.passed(slot, offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            # Retention or truncation took the position away: what was unread there is lost to us as well.
            self._vouched_from[slot] = self._ticks() + HOLE_TICKS
            self._leave({slot})
            self._assign({slot: OFFSET_BEGINNING})
        else:
            self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        """Kept until a read has nothing to return: an exception now would lose the records beside it."""
        if error.code() not in PASSING:
            self._trouble = translated(error, self._what)
