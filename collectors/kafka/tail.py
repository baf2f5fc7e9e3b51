"""Kafka: `persist` by tailing topics, and `replicate` where they are copies of another cluster's.

All partitions are assigned, not subscribed to: no group is joined, nobody is rebalanced, nothing changes for others
but one more group in the list, `tracker.<name>`, that holds our positions and never has a member.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import Field, model_validator

from collectors.base import Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.kafka.aborted import Aborts
from collectors.kafka.arrivals import Arrivals
from collectors.kafka.client import ADVICE, PASSING, REQUEST_TIMEOUT, Cluster, driver_errors, translated
from collectors.kafka.done import Done
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.gone import drop_of
from collectors.kafka.positions import Position, Positions, placed
from collectors.kafka.recall import Recall
from collectors.kafka.records import Decoder, Place, Route, Routes, raw_of
from collectors.kafka.truncated import Cut, cut_of
from collectors.kafka.watch import View, Watch
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

AT_ONCE = 200
"""Records of one read: what becomes of so many stays in a processor's cache on its way to the spool. Of a thousand each
took half as long again, or longer."""

APART = 10
"""Looks at the logs' ends that may be missing between two before a copy that came in between has a span for its time."""

HOLE_TICKS = 10_000_000
"""How long a partition that lost records unread is not vouched for: longer than the time between two reports."""

BEGINNING = Position(OFFSET_BEGINNING)


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
    remember: int = Field(100_000, ge=0)
    transactions: bool = False

    @model_validator(mode="after")
    def _seen_at_all(self) -> TailConfig:
        if self.transactions and self.isolation == "read_committed":
            raise ValueError(
                "transactions: with isolation read_committed what is taken back is never seen; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _one_stage(self) -> TailConfig:
        if len({route.stage for route in self.topics}) > 1:
            raise ValueError(
                "topics: some are `stage: replicate` and some are not; the times of copies are this host's, those of "
                "other records are not, so give the copies a collector of their own"
            )
        if self.copies and self.id == "offset":
            raise ValueError("id: a copy has another offset than its original; it is told by its id's header")
        return self

    @property
    def copies(self) -> bool:
        """Whether it tails what a mirror wrote."""
        return self.topics[0].stage == "replicate"


def tail(name: str, config: Mapping[str, Any]) -> KafkaTail:
    """A tail as the configuration file describes it. Raises `ConfigInvalid` that names the key."""
    return KafkaTail(name, settings(TailConfig, config, f"collector {name}"))


class KafkaTail:
    """Reads every record of the configured topics and says `persist`, or `replicate`, for each. One thread at a time.

    `clock` dates copies, and records that carry no timestamp; `ticks` (microseconds, never jumping) measures the lag.
    """

    def __init__(self, name: str, config: TailConfig, clock: Clock = now_micros, ticks: Clock | None = None) -> None:
        self.group = f"tracker.{name}"
        self._config, self._clock, self._ticks = config, clock, ticks or steady()
        self._what = f"Kafka {config.servers}"
        with driver_errors(self._what):
            self._consumer = Consumer(self._driver(config.isolation))
            self._admin = AdminClient(config.driver() | {"error_cb": self._fail})
            second = Consumer(self._driver("read_committed")) if config.transactions else None
        self._positions = Positions(self._consumer, f"{self._what}, group {self.group}")
        topics, look_every = [route.topic for route in config.topics], int(config.look_every * 1_000_000)
        self._watch = Watch(self._what, self._admin, topics, config.isolation == "read_committed")
        aborts = Aborts(self._what, second, self._admin, topics, config.remember, look_every) if second else None
        self._recall = Recall(config.remember, aborts, clock)
        self._done = Done(self._positions, self._recall.decided, self._ticks)
        self._frontier = Frontier()
        self._arrivals = Arrivals(APART * look_every) if config.copies else None
        self._asked_at = 0
        self._routes = Routes(config.topics)
        identity = config.identity_header if config.id == "header" else None
        self._decoder = Decoder(self._routes, identity, config.key == "plain", config.region)
        self._decoder.node, self._decoder.reused = config.node, self._positions.reused
        self._stopped: dict[Slot, str] = {}
        self._ids: dict[str, str] = {}
        self._named: dict[str, tuple[str, str]] = {}
        self._vouched_from: dict[Slot, int] = {}
        self._look_at = 0
        self._answered = self._looked = self._missing = False
        self._trouble: CollectorError | None = None
        self._closed = False

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`; until a cluster has answered once it waits for as long as a request may take. A
        partition that was added is read from its beginning within `look_every` seconds."""
        until = time.monotonic() + wait
        with driver_errors(self._what):
            self._start_again()
            self._recall.step(self._ticks(), self._frontier)
            if back := self._recall.back(limit):
                return back
            self._look(0.0 if self._frontier.reach else wait if self._answered else REQUEST_TIMEOUT)
            if not self._answered:  # to return would be to say that there is nothing that we vouch for
                silent = Unavailable(f"{self._what} does not answer within {REQUEST_TIMEOUT:.0f} s; {ADVICE}")
                raise self._refused() or silent
            if not self._frontier.reach:
                return []
            left = max(0.0, until - time.monotonic())
            if self._recall.full:  # one record more could be taken back and would not be: first those that wait
                self._recall.wait(left)
            raws = [] if self._recall.full else self._sorted_out(self._next(limit, left))
        self._frontier.settle()
        self._look_again()
        if self._trouble and not raws:
            trouble, self._trouble = self._trouble, None
            raise trouble
        return raws

    def decode(self, raw: Raw) -> tuple[Event]:
        """One `persist` or `replicate`, which is remembered. A backlog of ours never looks like lateness: the time is
        the record's own timestamp, that of a copy when it can have come at the earliest. Or the `drop` of one that the
        log no longer holds."""
        (event,) = self.decode_all((raw,))
        return (event,)

    def decode_all(self, raws: Sequence[Raw]) -> list[Event]:
        """As `decode` of each. Nothing is remembered where one of them cannot be decoded."""
        events = [self._event_of(raw) for raw in raws]
        self._recall.add_all(raws, events)
        return events

    def ends_of(self, raws: Sequence[Raw]) -> list[Raw]:
        """The last of each partition, which are all that `commit` needs: a position stands for what lies before it."""
        found: dict[Slot, Raw] = {}
        last = None
        for raw in reversed(raws):
            place = raw.position
            if isinstance(place, Place) and (
                last is None or place.partition != last.partition or place.topic != last.topic
            ):
                found.setdefault((place.topic, place.partition), raw)
                last = place
        return list(found.values())

    def _event_of(self, raw: Raw) -> Event:
        if isinstance(raw.position, Place):
            return self._decoder.event_of(raw)
        return drop_of(raw, self._routes, self._decoder.node, self._config.region)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep the position behind the last of `raws` in each partition, never one before it. What waits for the end
        of its transaction is kept when that is known."""
        for raw in raws:
            place = raw.position
            if isinstance(place, Place) and self._ids.get(place.topic) == place.topic_id and not self._recall.gone(place):
                self._done.add((place.topic, place.partition), place)
        self._done.keep_soon()

    def sources(self) -> list[SourceRef]:
        """One per partition that is read. Left out, so that coverage has a hole: one that lost records before we read
        them, for a while; one that is read from its end, until reading is known to be past where it began."""
        done = self._frontier.complete_to or 0
        self._vouched_from = {slot: tick for slot, tick in self._vouched_from.items() if done < tick}
        return [
            SourceRef(route.flow, route.hop, route.stage, f"{topic}/{number}")
            for topic, number in sorted(self._frontier.reach.keys() - self._vouched_from.keys())
            if (route := self._routes.of(topic))
        ]

    def lag(self) -> Lag:
        """See `Collector.lag`: the age of the newest look at the logs' ends that reading has passed altogether."""
        return self._frontier.lag(self._ticks())

    def close(self) -> None:
        """Keep what was committed a moment ago, and close the connections. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._done.keep_last()
            with driver_errors(self._what):
                self._consumer.close()
                self._recall.close()

    def _next(self, limit: int, wait: float) -> list[Any]:
        """What the driver hands out."""
        messages = self._consumer.consume(1, wait)
        if messages and limit > 1:  # a single call would wait its full time for all `limit`
            messages += self._consumer.consume(min(limit, AT_ONCE) - 1, 0)
        return messages

    def _driver(self, isolation: str) -> dict[str, Any]:
        ours = self._config.member(
            self.group,
            enable_partition_eof=True,
            auto_offset_reset="error",  # a position that is gone means lost records: never pass over it in silence
            isolation_level=isolation,
            queued_max_messages_kbytes=self._config.memory_kb,
            fetch_wait_max_ms=100,
            fetch_queue_backoff_ms=20,
        )
        return {**ours, "error_cb": self._fail}

    def _refused(self) -> CollectorError | None:
        """Whether we are not let in: to whoever asks that looks as if nobody answered; the driver says it beside."""
        self._admin.poll(0)  # its callback, no record: those are the consumer's
        return self._trouble if isinstance(self._trouble, ConfigInvalid) else None

    def _look(self, wait: float) -> None:
        """Ask for partitions and ends when it is time, and follow what the answer says."""
        now = self._ticks()
        if not self._watch.asking and now >= self._look_at:
            self._look_at, self._asked_at = now + int(self._config.look_every * 1_000_000), self._clock()
            self._watch.ask(now)
            self._done.keep()
            self._positions.keep_alive(now)
            self._admin.poll(0)  # or what it has to say would pile up
        try:
            view = self._watch.answer(wait) if self._watch.asking else None
        except Unavailable as error:
            raise self._refused() or error from None
        if view is None:
            return
        self._follow(view)
        missing, self._missing = self._missing, not view.partitions
        if self._missing and not missing:  # said once: it may be long until somebody makes one
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
        self._ids, self._answered = dict(view.topics), True
        self._named = {name: (name, known) for name, known in view.topics.items()}
        if self._arrivals:
            self._arrivals.found(self._asked_at, self._clock(), view.ends)
        self._begin(view.ends.keys() - followed, view)  # those without a leader begin when they have one
        if view.whole:
            self._looked = True
        if view.whole and view.partitions:  # of nothing, nothing is vouched for
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
            # Or the next start, before the first record, would take its own end.
            self._positions.keep({slot: Position(end) for slot, end in new.items()})
            self._vouched_from |= dict.fromkeys(new, self._ticks())
        starts = {slot: self._positions.kept.get(slot, BEGINNING) for slot in slots}
        self._assign(starts)
        for slot, at in starts.items():
            self._recall.begin(slot, max(at.offset, 0))

    def _assign(self, positions: Mapping[Slot, Position]) -> None:
        """Read from there. The `seek` asks whether the log before is still the one that was read: with an assignment
        alone librdkafka 2.16 does not compare epochs."""
        self._consumer.incremental_assign([placed(slot, at.offset, at.epoch) for slot, at in positions.items()])
        for slot, at in positions.items():
            self._frontier.follow(slot, max(at.offset, 0))
            if at.epoch >= 0:
                self._consumer.seek(placed(slot, at.offset, at.epoch))

    def _leave(self, slots: set[Slot]) -> None:
        if slots:
            self._consumer.incremental_unassign([TopicPartition(*slot) for slot in slots])
            self._frontier.forget(slots)
            self._positions.forget(slots)
            self._recall.forget(slots)
            self._done.forget(slots)
            for slot in slots:
                self._stopped.pop(slot, None)
            if self._arrivals:
                self._arrivals.forget(slots)

    def _sorted_out(self, messages: Iterable[Any]) -> list[Raw]:
        """Records as `Raw`; of what else the driver hands out (ends of partitions, errors) note is taken."""
        raws: list[Raw] = []
        now = self._clock()
        for message in messages:
            error = message.error()
            if error is None:
                raws.append(raw_of(message, self._named, now))
            else:
                self._note(error, (message.topic(), message.partition()), message.offset())
        for raw in self.ends_of(raws):
            place: Place = raw.position
            self._frontier.passed((place.topic, place.partition), place.offset + 1)
        return [self._arrivals.dated(raw, now) for raw in raws] if self._arrivals else raws

    def _note(self, error: KafkaError, slot: Slot, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._frontier.passed(slot, offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._stopped[slot] = error.str()
        else:
            self._fail(error)

    def _start_again(self) -> None:
        """Go on in partitions whose position is gone. Not before all that was read of them has been decoded."""
        for slot, said in list(self._stopped.items()):
            cut = cut_of(said)
            start = self._cut_off(slot, cut) if cut else self._lost(slot)
            self._done.forget([slot])
            self._consumer.incremental_unassign([TopicPartition(*slot)])
            self._assign({slot: start})
            self._frontier.again(slot, max(start.offset, 0))
            del self._stopped[slot]

    def _lost(self, slot: Slot) -> Position:
        """Retention took the position away: what was unread there is lost to us as well."""
        self._vouched_from[slot] = self._ticks() + HOLE_TICKS
        self._positions.kept.pop(slot, None)
        self._recall.begin(slot, 0)
        return BEGINNING

    def _cut_off(self, slot: Slot, cut: Cut) -> Position:
        """Take back what was read behind the end of a log that was cut off."""
        self._recall.cut(slot, cut, self._frontier.reach[slot])
        if self._arrivals:
            self._arrivals.cut(slot, cut.offset)
        start = Position(cut.offset, cut.epoch)
        self._positions.back(slot, start)
        return start

    def _fail(self, error: KafkaError) -> None:
        """Kept until a read has nothing to return: an exception now would lose the records beside it."""
        if error.code() not in PASSING:
            self._trouble = translated(error, self._what)
