"""Kafka: `persist` by tailing topics, and `replicate` where they are copies of another cluster's.

All partitions are assigned, not subscribed to: no group is joined, nobody is rebalanced, nothing changes for others
but one more group in the list, `tracker.<name>`, that holds our positions and never has a member.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from collectors.base import Content, Lag, Raw
from collectors.clock import Clock, now_micros, steady
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.kafka.aborted import Aborts
from collectors.kafka.arrivals import Arrivals
from collectors.kafka.client import ADVICE, REQUEST_TIMEOUT, driver_errors
from collectors.kafka.done import Done
from collectors.kafka.following import Following
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.gone import drop_of
from collectors.kafka.positions import Positions
from collectors.kafka.reader import Reader, driver
from collectors.kafka.recall import Recall
from collectors.kafka.records import Decoder, Place, Routes, ends_of
from collectors.kafka.tail_config import TailConfig
from collectors.kafka.watch import Watch
from collectors.part import settings
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

LOOK_TICKS = 1000
"""At least so long, for each partition, from one look to the next: of ten thousand a look takes two seconds of work."""
APART = 10
"""So many times `look_every` two looks may lie apart before a copy that came in between has a span for its time."""


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
        self._frontier, self._routes = Frontier(), Routes(config.topics)
        with driver_errors(self._what):
            self._reader = Reader(config, self.group, self._what, self._frontier, clock)
            self._admin = AdminClient(config.driver() | {"error_cb": self._reader.fail})
            self._recall = Recall(config.remember, self._aborts() if config.transactions else None, clock)
        self._watch = Watch(self._what, self._admin, config.names, config.isolation == "read_committed")
        self._positions = Positions(self._reader.consumer.first, f"{self._what}, group {self.group}")
        self._done = Done(self._positions, self._recall.decided, self._ticks)
        self._arrivals = Arrivals(APART * config.look_ticks) if config.copies else None
        self._following = Following(
            self._reader, self._frontier, self._positions, self._recall, self._done, self._arrivals,
            from_end=config.from_ == "latest", ticks=self._ticks,
        )  # fmt: skip
        identity = config.identity_header if config.id == "header" else None
        self._decoder = Decoder(self._routes, identity, config.key == "plain", config.region)
        self._decoder.node, self._decoder.reused = config.node, self._positions.reused
        self._listed: tuple[frozenset[Slot], list[SourceRef]] | None = None
        self._look_at = self._asked_at = 0
        self._missing = self._closed = False

    def read(self, limit: int, wait: float) -> list[Raw]:
        """See `Collector.read`; until a cluster has answered once it waits for as long as a request may take. A
        partition that was added is read from its beginning within `look_every` seconds."""
        until = time.monotonic() + wait
        with driver_errors(self._what):
            self._following.start_again()
            self._recall.step(self._ticks(), self._frontier)
            if back := self._recall.back(limit):
                return back
            answered = self._following.topics is not None
            self._look(0.0 if self._frontier.reach else wait if answered else REQUEST_TIMEOUT)
            if self._following.topics is None:  # to return would be to say that there is nothing that we vouch for
                silent = Unavailable(f"{self._what} does not answer within {REQUEST_TIMEOUT:.0f} s; {ADVICE}")
                raise self._refused() or silent
            if not self._frontier.reach:
                return []
            raws = self._read(limit, max(0.0, until - time.monotonic()))
        self._look_again()
        if self._reader.trouble and not raws:
            trouble, self._reader.trouble = self._reader.trouble, None
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
        return ends_of(raws)

    def content(self, raw: Raw, event: Event) -> Content:
        """The record: of a name that headers have twice, the last."""
        place: Place = raw.position
        return Content(raw.key, None if place.tombstone else raw.value, raw.headers)

    def commit(self, raws: Sequence[Raw]) -> None:
        """Keep the position behind the last of `raws` in each partition, never one before it; that of a moment after
        another one with the next. What waits for the end of its transaction is kept when that is known."""
        topics = self._following.topics or {}
        for raw in raws:
            place = raw.position
            ours = isinstance(place, Place) and topics.get(place.topic) == (place.topic, place.topic_id)
            if ours and not self._recall.gone(place):
                self._done.add(place)
        self._done.keep_soon()

    def sources(self) -> list[SourceRef]:
        """One per partition that is read and vouched for; the same list while these are the same: the runner asks
        often, and of ten thousand that is much."""
        vouched = self._following.vouched()
        if self._listed is None or self._listed[0] is not vouched:
            listed = [
                SourceRef(route.flow, route.hop, route.stage, f"{topic}/{number}")
                for topic, number in sorted(vouched)
                if (route := self._routes.of(topic))
            ]
            self._listed = vouched, listed
        return self._listed[1]

    def lag(self) -> Lag:
        """See `Collector.lag`: the age of the newest look at the logs' ends that reading has passed altogether."""
        return self._frontier.lag(self._ticks())

    def close(self) -> None:
        """Keep what was committed a moment ago, and close the connections. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._done.keep_last()
            with driver_errors(self._what):
                self._reader.close()
                self._recall.close()

    def _aborts(self) -> Aborts:
        """Reads a second time, for itself."""
        second = driver(self._config, self.group, "read_committed") | {"error_cb": self._reader.fail}
        config = self._config
        return Aborts(self._what, Consumer(second), self._admin, config.names, config.remember, config.look_ticks)

    def _read(self, limit: int, wait: float) -> list[Raw]:
        if self._recall.full:  # one record more could be taken back and would not be: first those that wait
            self._recall.wait(wait)
        raws = [] if self._recall.full else self._reader.read(limit, wait, self._following.topics or {})
        now = self._clock()
        return [self._arrivals.dated(raw, now) for raw in raws] if self._arrivals else raws

    def _event_of(self, raw: Raw) -> Event:
        if isinstance(raw.position, Place):
            return self._decoder.event_of(raw)
        return drop_of(raw, self._routes, self._decoder.node, self._config.region)

    def _refused(self) -> CollectorError | None:
        """Whether we are not let in: to whoever asks that looks as if nobody answered; the driver says it beside."""
        self._admin.poll(0)  # its callback, no record: those are the consumer's
        return self._reader.trouble if isinstance(self._reader.trouble, ConfigInvalid) else None

    def _look(self, wait: float) -> None:
        """Ask for partitions and ends when it is time, and follow what the answer says."""
        now = self._ticks()
        if not self._watch.asking and now >= self._look_at:
            pause = max(self._config.look_ticks, LOOK_TICKS * len(self._frontier.reach))
            self._look_at, self._asked_at = now + pause, self._clock()
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
        self._following.follow(view)
        if self._arrivals:
            self._arrivals.found(self._asked_at, self._clock(), view.ends)
        self._decoder.node = self._decoder.node or self._following.cluster_id
        missing, self._missing = self._missing, not view.partitions
        if self._missing and not missing:  # said once: it may be long until somebody makes one
            names = ", ".join(self._config.names)
            raise Unavailable(f"{self._what}: none of the topics exists: {names}; create them or correct `topics`")

    def _look_again(self) -> None:
        """The answer may have come while the records did. Its errors wait, or they would take the records along."""
        try:
            with driver_errors(self._what):
                self._look(0.0)
        except CollectorError as error:
            self._reader.trouble = error
