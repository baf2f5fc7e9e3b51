"""Which sources a collector vouches for at this moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from collectors.errors import ConfigInvalid
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage
from tracker.model.spec import NAME

MOST = 10_000
"""How many sources a report may list."""


def checked(sources: Iterable[SourceRef], count: int) -> None:
    """Raise `ConfigInvalid` for what no tracker takes, here where it can be said, not in the background."""
    if count > MOST:
        raise ConfigInvalid(f"{count} sources are more than the {MOST} of one collector: share them out to several")
    for source in sources:
        wrong = [name for name in (source.flow, source.hop) if not NAME.fullmatch(name)]
        if wrong:
            raise ConfigInvalid(f"source {source}: {wrong[0]!r} is no name; use letters, digits, '.', '_' and '-'")
        if source.stage not in Stage.__members__:
            raise ConfigInvalid(f"source {source}: there is no stage {source.stage!r}")
        if not 0 < len(source.source.encode()) <= 512:
            raise ConfigInvalid(f"source {source}: its name must have 1 to 512 bytes")


class Sources:
    """The sources announced and not signed off. Any thread may call.

    `inherited` are those that an earlier process of the same spool left open, `begins` what it said of when they begin
    (epoch µs). A source announced twice (two wrapped clients in one process) ends with the second sign-off.
    """

    def __init__(self, inherited: Iterable[SourceRef] = (), begins: Iterable[tuple[SourceRef, int]] = ()) -> None:
        self._mutex = threading.Lock()
        self._announced: Counter[SourceRef] = Counter()
        self._ending: set[SourceRef] = set()
        self._inherited = set(inherited)
        self._untold: set[SourceRef] = set()
        self._replaced: Iterable[SourceRef] | None = None
        self._begin = dict(begins)

    def add(self, sources: Iterable[SourceRef]) -> None:
        """Announce sources, on top of what there is."""
        checked(sources := list(sources), len(sources))
        with self._mutex:
            self._replaced = None
            for source in sources:
                self._announced[source] += 1
                self._ending.discard(source)
                self._inherited.discard(source)

    def replace(self, sources: Iterable[SourceRef], reached: int) -> list[SourceRef]:
        """Announce exactly these, the new ones as vouched for from `reached` on; of these, what was let go before, not
        from before that, whatever is said. The answer lists those left out since the last `told`, also where they have
        come back since: they are let go, not signed off, for somebody else may watch them now, or nobody, and then they
        are a blind spot. A list that is given again must not have been changed."""
        if sources is self._replaced:  # a reader says this often, and mostly it is the same list
            return []
        announced = Counter(dict.fromkeys(sources, 1))
        with self._mutex:
            fresh = announced.keys() - self._announced.keys() - self._inherited
            checked(fresh, len(announced))
            gone = (self._announced.keys() | self._inherited) - announced.keys()
            self._announced, self._inherited = announced, set()
            self._ending -= announced.keys()
            self._untold = (self._untold | gone) - self._ending
            self._begin.update({source: max(reached, self._begin.get(source, reached)) for source in fresh})
            self._replaced = None if self._untold else sources
            return sorted(self._untold)

    def told(self) -> None:
        """What `replace` answered has its place in the log."""
        with self._mutex:
            self._untold = set()

    def end(self, sources: Iterable[SourceRef]) -> list[SourceRef]:
        """Sign off; the answer lists those that nobody in this process announces any more. They stay listed until
        `forget`, which comes when the report that signs them off was stored."""
        ended: list[SourceRef] = []
        with self._mutex:
            self._replaced = None
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

    def unsaid(self, sources: Iterable[SourceRef]) -> None:
        """The report that should have signed these off could not say so: they stay open, as if an earlier process had
        left them."""
        with self._mutex:
            self._replaced = None
            self._inherited |= self._ending.intersection(sources)
            self._ending -= self._inherited

    def announced(self) -> list[SourceRef]:
        """What was announced here, as often as it was."""
        with self._mutex:
            return sorted(self._announced.elements())

    def inherited(self) -> list[SourceRef]:
        """What an earlier process left open and nobody announced since."""
        with self._mutex:
            return sorted(self._inherited)

    def let_go(self, sources: Iterable[SourceRef], now: int) -> None:
        """A stored report left these out: those announced again since begin anew, not before `now`."""
        with self._mutex:
            self._inherited.difference_update(sources)
            self._begin.update(dict.fromkeys(sources, now))

    def listed(self) -> list[SourceRef]:
        """What is announced, signed off and not reported as such, or inherited."""
        with self._mutex:
            return sorted(self._announced.keys() | self._ending | self._inherited)

    def begins(self, reached: int | None) -> list[tuple[SourceRef, int]]:
        """Those that begin at a moment of their own, each with it. What was let go is among them, and remembered, until
        reports have `reached` that moment: none that comes later is dated before it."""
        with self._mutex:
            listed = self._announced.keys() | self._ending | self._inherited
            self._begin = {s: at for s, at in self._begin.items() if s in listed or reached is None or at > reached}
            return sorted(self._begin.items())

    def begun(self, sources: Iterable[SourceRef], dated: int) -> list[SourceRef]:
        """Of these, the ones that a report dated `dated` may list: it must not reach back before their beginning."""
        with self._mutex:
            return [source for source in sources if self._begin.get(source, 0) <= dated]
