"""The sources and publishers that this tracker is connected to, by hop. Used by one thread at a time each."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from tracker.model.carry import Copy, Locator, Missing, Publisher, Sent, Source
from tracker.replay.plan import Connected


class Ports:
    """A dry run looks at copies while a worker fetches others: each port has a lock, because drivers ask for one."""

    def __init__(self, sources: Mapping[str, Source], publishers: Mapping[str, Publisher]) -> None:
        self._sources, self._publishers = dict(sources), dict(publishers)
        self._locks = {id(port): threading.Lock() for port in [*sources.values(), *publishers.values()]}

    @property
    def connected(self) -> Connected:
        """Which hops there are."""
        return Connected(frozenset(self._sources), frozenset(self._publishers))

    def fetch(self, hop: str, locators: Sequence[Locator]) -> dict[Locator, Copy | Missing]:
        """An answer for each locator; one that the source did not answer for counts as missing. Raises what the
        source raises, `KeyError` for a hop that is not connected."""
        port = self._sources[hop]
        with self._locks[id(port)]:
            answers = {answer.locator: answer for answer in port.fetch(locators)}
        return {place: answers.get(place) or Missing(place, "the source gave no answer") for place in locators}

    def publish(self, hop: str, copies: Sequence[Copy]) -> dict[Locator, Sent]:
        """What became of each copy; raises as `fetch` does, and then nobody knows."""
        port = self._publishers[hop]
        with self._locks[id(port)]:
            answers = {answer.locator: answer for answer in port.publish(copies)}
        nothing = "the publisher gave no answer"
        return {one.locator: answers.get(one.locator) or Sent(one.locator, nothing) for one in copies}
