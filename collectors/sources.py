"""Which sources a collector vouches for at this moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from tracker.model.coverage import SourceRef


class Sources:
    """The sources announced and not signed off. Any thread may call.

    `inherited` are those that an earlier process of the same spool left open. A source announced twice (two wrapped
    clients in one process) ends with the second sign-off.
    """

    def __init__(self, inherited: Iterable[SourceRef] = ()) -> None:
        self._mutex = threading.Lock()
        self._announced: Counter[SourceRef] = Counter()
        self._ending: set[SourceRef] = set()
        self._inherited = set(inherited)

    def add(self, sources: Iterable[SourceRef]) -> None:
        """Announce sources, on top of what there is."""
        with self._mutex:
            for source in sources:
                self._announced[source] += 1
                self._ending.discard(source)
                self._inherited.discard(source)

    def replace(self, sources: Iterable[SourceRef]) -> None:
        """Announce exactly these. Those left out are let go, not signed off: somebody else may watch them now, or
        nobody, and then they are a blind spot."""
        with self._mutex:
            self._announced = Counter(dict.fromkeys(sources, 1))
            self._ending -= self._announced.keys()
            self._inherited = set()

    def end(self, sources: Iterable[SourceRef]) -> list[SourceRef]:
        """Sign off; the answer lists those that nobody in this process announces any more. They stay listed until
        `forget`, which comes when the report that signs them off was stored."""
        ended: list[SourceRef] = []
        with self._mutex:
            for source in sources:
                if self._announced[source] > 1:
                    self._announced[source] -= 1
                elif self._announced.pop(source, 0):
                    self._ending.add(source)
                    ended.append(source)
        return ended

    def still_ending(self, sources: Iterable[SourceRef]) -> list[SourceRef]:
        """Of sources signed off earlier, those that were not announced again since."""
        with self._mutex:
            return [source for source in sources if source in self._ending or source in self._inherited]

    def forget(self, sources: Iterable[SourceRef]) -> None:
        """These were signed off by a stored report."""
        with self._mutex:
            self._ending.difference_update(sources)
            self._inherited.difference_update(sources)

    def announced(self) -> list[SourceRef]:
        """What was announced here, as often as it was."""
        with self._mutex:
            return sorted(self._announced.elements())

    def inherited(self) -> list[SourceRef]:
        """What an earlier process left open and nobody announced since."""
        with self._mutex:
            return sorted(self._inherited)

    def listed(self) -> list[SourceRef]:
        """What a report made now has to list."""
        with self._mutex:
            return sorted(self._announced.keys() | self._ending | self._inherited)
