"""The sources and publishers that this tracker is connected to. Used by one thread at a time each."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import msgspec

from tracker.control.errors import Unavailable
from tracker.model.carry import Copy, Finder, Locator, Missing, Publisher, Sent, Settler, Source
from tracker.replay.plan import Connected
from tracker.replay.routes import Keeper


class Ports:
    """A dry run looks at copies while a worker fetches others: each port has a lock, because drivers ask for one."""

    def __init__(self, sources: Mapping[Keeper, Source], publishers: Mapping[str, Publisher]) -> None:
        self._sources, self._publishers = dict(sources), dict(publishers)
        self._locks = {id(port): threading.Lock() for port in [*sources.values(), *publishers.values()]}

    @property
    def connected(self) -> Connected:
        """Who there is."""
        return Connected(frozenset(self._sources), frozenset(self._publishers))

    def knows_itself(self, keeper: Keeper) -> bool:
        """Whether this source says by itself what it holds; else the ledger does."""
        return isinstance(self._sources.get(keeper), Finder)

    def hands_out(self, keeper: Keeper) -> bool:
        """Whether this source gives out what it is asked for, so that others do not get it meanwhile."""
        return isinstance(self._sources.get(keeper), Settler)

    def find(self, keeper: Keeper, flow: str, message_ids: Sequence[str]) -> dict[str, Locator]:
        """Where the source holds these messages, by message; at the hop that it is of, whatever it calls itself. Raises
        what the source raises."""
        port = self._sources[keeper]
        assert isinstance(port, Finder)
        with self._locks[id(port)]:
            found = port.find(flow, message_ids)
        return {place.message_id: msgspec.structs.replace(place, hop=keeper.hop) for place in found}

    def fetch(self, keeper: Keeper, locators: Sequence[Locator]) -> dict[Locator, Copy | Missing]:
        """An answer for each locator; one that the source did not answer for counts as missing. Raises what the
        source raises, `Unavailable` for one that is not connected."""
        port = self._sources.get(keeper)
        if port is None:
            raise Unavailable("this tracker is not connected to it: add it to the file that TRACKER_HOPS names")
        with self._locks[id(port)]:
            answers = {answer.locator: answer for answer in port.fetch(locators)}
        return {place: answers.get(place) or Missing(place, "the source gave no answer") for place in locators}

    def settle(self, keeper: Keeper, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """Tell a source that hands out what it holds which copies were `sent`, and which it keeps. Raises as `fetch`;
        what it does not learn it gives out again."""
        port = self._sources.get(keeper)
        if isinstance(port, Settler):
            with self._locks[id(port)]:
                port.settle(sent, kept)

    def publish(self, hop: str, copies: Sequence[Copy]) -> dict[Locator, Sent]:
        """What became of each copy; raises what the publisher raises, and then nobody knows."""
        port = self._publishers[hop]
        with self._locks[id(port)]:
            answers = {answer.locator: answer for answer in port.publish(copies)}
        nothing = "the publisher gave no answer"
        return {one.locator: answers.get(one.locator) or Sent(one.locator, nothing) for one in copies}
