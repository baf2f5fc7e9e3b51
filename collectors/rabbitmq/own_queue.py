"""A queue of a collector's own that the broker copies messages into: read with manual acks, and canaries in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pika

from collectors.base import Raw
from collectors.errors import CollectorError, Unavailable
from collectors.rabbitmq.canary import Canaries, Owned
from collectors.rabbitmq.config import OwnQueueConfig
from collectors.rabbitmq.connect import closed, opened, shown, working
from collectors.rabbitmq.message import SINCE
from collectors.watch import Watch, mark_of

FIREHOSE = "amq.rabbitmq.trace"
"""The exchange that the broker copies publishes and deliveries to."""

MARKS = 10_000
"""Canaries that are remembered while what came before them is outstanding. With fewer of the oldest, somewhat more
counts as waiting for somewhat longer."""

CANARIES = "publish.tracker.canary.", "publish.tracker.since."
"""How routing keys begin of traces of canaries, and of what is kept of them; of other collectors too."""


class Position(NamedTuple):
    """Where a record was read: tags count anew on each connection."""

    connection: int
    tag: int


class Item(NamedTuple):
    """One message of the queue, before it is known what it is. `exchange`: what it was published to; `properties` as
    `table.told` takes them."""

    position: Position
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


class OwnQueue:
    """Connects when it is read, and again after a failure. Canaries go to `watch`, everything else to the reader, with
    the `headers` that it makes of each."""

    def __init__(
        self,
        owned: Owned,
        config: OwnQueueConfig,
        at: pika.URLParameters,
        watch: Watch,
        headers: Callable[[Item], dict[str, bytes]],
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._owned, self._config, self._at, self._watch = owned, config, at, watch
        self._headers = headers
        self._clock, self._monotonic = clock, monotonic
        self._inbox: deque[Item] = deque()
        self._inbox_bytes = 0
        self._outstanding: dict[int, bool] = {}  # tag -> done; in the order of delivery
        self._marks: deque[tuple[int, int]] = deque(maxlen=MARKS)  # of canaries: the tag, and when it was sent
        self._settled = 0  # when the last canary was sent before which nothing is outstanding
        self._connections = 0
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._canaries: Canaries | None = None

    @property
    def waiting(self) -> int:
        """Records that were not read yet, here and, at the last look, in the queue."""
        return len(self._inbox) + (self._canaries.depth if self._canaries else 0)

    def read(self, limit: int, wait: float) -> list[Raw]:
        """At most `limit` records, oldest first, canaries taken out. Raises `Unavailable`, and `ConfigInvalid` for what
        only an operator can put right; the next call connects again."""
        try:
            return self._read(limit, self._monotonic() + wait)
        except CollectorError:
            self.disconnect()
            raise

    def commit(self, positions: Sequence[Position]) -> None:
        """Acks. Records of an earlier connection are left alone: the broker gives them out again."""
        tags = [each.tag for each in positions if each.connection == self._connections]
        try:
            with working(self._at):
                self._ack([tag for tag in tags if tag in self._outstanding])
        except Unavailable:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close the connections. The queue stays and fills until it expires."""
        connection, canaries = self._connection, self._canaries
        self._connection = self._channel = self._canaries = None
        self._inbox.clear()
        self._inbox_bytes = 0
        self._outstanding.clear()
        self._marks.clear()
        self._watch.broken(self._monotonic())
        closed(connection)
        if canaries is not None:
            canaries.close()

    def _read(self, limit: int, deadline: float) -> list[Raw]:
        canaries = self._connected()
        found: list[Raw] = []
        while True:
            due = canaries.tick(self._settled)
            left = max(0.0, deadline - self._monotonic())
            if self._inbox_bytes <= self._config.memory_mb * 2**20:  # else the broker waits: TCP holds it back
                self._pump(0.0 if self._inbox else min(left, due))
            with working(self._at):
                while self._inbox and len(found) < limit:
                    item = self._inbox.popleft()
                    self._inbox_bytes -= len(item.body)
                    if not self._canary(item):
                        found.append(self._record(item))
            if found or self._monotonic() >= deadline:
                return found

    def _record(self, item: Item) -> Raw:
        """Made before the next canary is looked at: that one says nothing of how late this record is read."""
        headers = self._headers(item)
        since = self._watch.since(self._monotonic(), self._config.prompt)
        if since is not None:
            headers[SINCE] = str(since).encode()
        return Raw(item.body, headers, None, item.position, self._clock())

    def _pump(self, wait: float) -> None:
        """Let pika work: heartbeats, acks out, deliveries in; returns after `wait` seconds or with something."""
        with working(self._at):
            assert self._connection is not None
            self._connection.process_data_events(wait)
            if not self._channel.consumer_tags:
                raise Unavailable(
                    f"rabbitmq {shown(self._at)}: queue {self._owned.queue!r} was deleted under us; "
                    "it is declared again, what it held is lost"
                )

    def _canary(self, item: Item) -> bool:
        """Whether it is a canary; what it proves has been noted then."""
        direct = item.exchange == self._owned.exchange
        if not direct and not (item.exchange == FIREHOSE and item.routing_key.startswith(CANARIES)):
            return False
        mark, tag = mark_of(item.body), item.position.tag
        if mark is not None and direct:
            self._watch.arrived(mark, self._monotonic())
            self._marks.append((tag, mark.sent_at))
        elif mark is not None and item.routing_key == f"publish.{self._owned.exchange}":
            self._watch.traced(mark)
        self._ack([tag])
        return True

    def _ack(self, tags: Sequence[int]) -> None:
        """Ack what is done from the oldest on in one frame; what was done out of order one by one."""
        for tag in tags:
            self._outstanding[tag] = True
        last = 0
        while self._outstanding and self._outstanding[first := next(iter(self._outstanding))]:
            del self._outstanding[first]
            last = first
        if last:
            self._channel.basic_ack(last, multiple=True)
        for tag in tags:
            if self._outstanding.pop(tag, False):
                self._channel.basic_ack(tag)
        oldest = next(iter(self._outstanding), None)
        while self._marks and (oldest is None or self._marks[0][0] < oldest):
            _, self._settled = self._marks.popleft()  # not the latest time: a clock that was ahead is set back

    def _connected(self) -> Canaries:
        if self._canaries is not None:
            return self._canaries
        self._connections += 1
        canaries = Canaries(self._owned, self._config, self._at, self._watch, self._clock, self._monotonic)
        self._canaries = canaries
        with opened(self._at) as connection:
            self._connection, self._channel = connection, connection.channel()
            self._channel.basic_qos(prefetch_count=self._config.prefetch)
            self._channel.basic_consume(self._owned.queue, self._on_message)
        return canaries

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        _, tag, _, exchange, routing_key = method
        self._outstanding[tag] = False
        self._inbox_bytes += len(body)
        self._inbox.append(Item(Position(self._connections, tag), exchange, routing_key, properties, body))
