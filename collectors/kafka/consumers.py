"""Several consumers of the driver as one: so many topics are read by each that looking one up stays cheap.

librdkafka (2.16) finds a topic by going through all that a client knows (`rd_kafka_topic_find0`), and each answer to a
fetch names all of them, so a consumer of n topics goes through n * n. Measured at rest, with nothing to read: 0.03 of a
core for 1,000 topics, 0.13 for 2,000, 0.56 for 4,000; with 10,000 it does not come to an end: it answers no other
question within 30 s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Set
from typing import Any

import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

MOST = 1_000
"""Topics of one consumer."""
TURN = 0.01
"""Seconds that one of several is waited for before the others are looked after."""
ASSIGNED = 2.0
"""Seconds within which what was assigned can be sought in: until then librdkafka says `_STATE`."""


def _not_yet(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._STATE


class Consumers:
    """What a tail needs of a `Consumer`, by as many as it takes. `make` gives one, told by how many all of them are.

    All partitions of a topic are with the same one. The first is there from the start; it keeps the positions.
    """

    def __init__(self, make: Callable[[int], Consumer]) -> None:
        self._make, self._most = make, MOST
        self._all = [make(1)]
        self._topics = [Counter[str]()]
        self._of: dict[str, int] = {}
        self._turn = 0

    @property
    def first(self) -> Consumer:
        """The one that keeps the positions."""
        return self._all[0]

    def know(self, topics: Set[str], timeout: float) -> Any:
        """Look up these topics, which are to be read: the driver looks for leaders of what is new to it once a second,
        unless it was told of them. Gives the cluster's metadata; `timeout` in seconds for each request."""
        self._share_out(topics)
        found = None
        for number in sorted({self._of[topic] for topic in topics}):
            ours = [topic for topic in topics if self._of[topic] == number]
            found = self._all[number].list_topics(ours[0] if len(ours) == 1 else None, timeout=timeout)
        return found

    def incremental_assign(self, places: Iterable[TopicPartition]) -> None:
        """As the consumer."""
        places = list(places)
        self._share_out({place.topic for place in places})
        for number, some in self._shared(places).items():
            self._topics[number].update(place.topic for place in some)
            self._all[number].incremental_assign(some)

    def incremental_unassign(self, places: Iterable[TopicPartition]) -> None:
        """As the consumer. A topic of which nothing is left may come to another one later."""
        for number, some in self._shared(places).items():
            self._all[number].incremental_unassign(some)
            left = self._topics[number]
            left.subtract(place.topic for place in some)
            for topic in {place.topic for place in some if left[place.topic] <= 0}:
                del left[topic], self._of[topic]

    @tenacity.retry(
        retry=tenacity.retry_if_exception(_not_yet),
        wait=tenacity.wait_fixed(0.02),
        stop=tenacity.stop_after_delay(ASSIGNED),
        reraise=True,
    )
    def seek(self, place: TopicPartition) -> None:
        """As the consumer, once what was just assigned is ready for it."""
        self._all[self._of[place.topic]].seek(place)

    def consume(self, limit: int, wait: float) -> list[Any]:
        """As the consumer, but what there is counts: it does not wait for all of `limit`. None is passed over while
        others have much to give."""
        if len(self._all) == 1:
            return self._all[0].consume(limit, wait)
        until = time.monotonic() + wait
        while True:
            found: list[Any] = []
            for _ in self._all:
                found += self._next().consume(limit - len(found), 0)
                if len(found) >= limit:
                    return found
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            found = self._next().consume(1, min(TURN, left))
            if found:
                return found

    def close(self) -> None:
        """Close all of them."""
        for one in self._all:
            one.close()

    def _next(self) -> Consumer:
        self._turn = (self._turn + 1) % len(self._all)
        return self._all[self._turn]

    def _share_out(self, topics: Iterable[str]) -> None:
        """Give each that nobody has to the one with the fewest; make more where all are full."""
        fresh = sorted(topic for topic in topics if topic not in self._of)
        wanted = -(-(len(self._of) + len(fresh)) // self._most)
        while len(self._all) < wanted:
            self._all.append(self._make(wanted))
            self._topics.append(Counter())
        held = Counter(self._of.values())
        for topic in fresh:
            number = min(range(len(self._all)), key=lambda each: held[each])
            self._of[topic] = number
            held[number] += 1

    def _shared(self, places: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        shared: dict[int, list[TopicPartition]] = {}
        for place in places:
            shared.setdefault(self._of[place.topic], []).append(place)
        return shared
