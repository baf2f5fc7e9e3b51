"""Looks at all flows, minute by minute, and keeps what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice

from msgspec.structs import replace

from tracker.anomalies.baseline import Baseline
from tracker.anomalies.episodes import GONE, UNWATCHED, Key, told_once
from tracker.anomalies.look import BEFORE, Look, usual
from tracker.anomalies.signals import WINDOWS
from tracker.anomalies.watched import MINUTE, Place, places, unwatched
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store import Store
from tracker.store.anomalies import DAY, HOUR, Anomaly

SETTLING = 30
"""Seconds after a minute until it is looked at: what happened in it has been reported and passed by then."""
TOGETHER = 400
"""Flows of which series are in memory at once, some 100 MB: counts are stored by time, so a question about few flows
reads as much as one about many."""
LEARNED = 100
"""Flows of which it is learned together what is usual: some seconds of work, in which a look does not get on."""
REFRESH = 10.0
"""Seconds after which a look begins no more seasons; those that it leaves are the first of the next."""
FARTHEST = 60
"""Minutes that a look catches up with at most; after a longer pause the others are not looked at."""
RECENT = 2 * WINDOWS[-1] * MINUTE
"""For so long after it ended an anomaly is what a long window still sees."""


class Watch:
    """The anomalies of an installation. `look` is for one thread; `open` for any. `judged` says until when, µs, all
    that came was judged; `steady` measures how long things take, in seconds; `go_on` is called again and again in a
    look, and raises to end it. A season is worked out anew after `every` seconds."""

    def __init__(
        self,
        store: Store,
        specs: Callable[[], Mapping[str, FlowSpec]],
        judged: Callable[[], int],
        steady: Callable[[], float] = time.monotonic,
        go_on: Callable[[], None] = lambda: None,
        every: int = HOUR,
    ) -> None:
        self._store, self._specs, self._judged, self._steady = store, specs, judged, steady
        self._go_on, self._every = go_on, every
        self._usual: dict[str, tuple[int, FlowSpec, dict[tuple[str, Place], Baseline]]] = {}
        self._until = self._swept = 0
        self._open: dict[Key, Anomaly] | None = None
        self._recent: list[Anomaly] = []

    @property
    def open(self) -> list[Anomaly]:
        """Those that last, as of the last look."""
        return list((self._open or {}).values())

    @property
    def learned(self) -> int:
        """Of how many flows it is known what is usual."""
        return len(self._usual)

    def forget(self) -> None:
        """Others may have looked meanwhile: what was found is read again. What is usual is still so."""
        self._open, self._recent = None, []

    def look(self, now: int) -> list[Anomaly]:
        """Look at the minutes that are over at `now`, µs, and judged, since the last look; what began, went on or
        ended, each as it is in the end. However often one looks, the same is found. Raises TrackerError."""
        end = min(now // SECOND - SETTLING, self._judged() // SECOND) // MINUTE * MINUTE
        if end <= 0:
            return []  # nothing was ever judged
        specs = dict(self._specs())
        first = self._open is None
        if self._open is None:
            self._open = {one.key: one for one in self._store.anomalies(open_=True, limit=100_000)}
            self._until = end - MINUTE
        start = max(self._until, end - FARTHEST * MINUTE)
        if start >= end:
            return []
        before = start - BEFORE * MINUTE
        dark = self._store.unjudged(before, end)
        self._note_unwatched(specs, range(before if first else start, end, MINUTE), dark)
        self._refresh(specs, start)
        changed = self._left(specs)
        known = iter(specs.values())
        recent = list[Anomaly]()
        while some := list(islice(known, TOGETHER)):
            self._go_on()
            told, over = self._look(some, start, end, dark)
            changed, recent = changed + told, recent + over
        self._store.keep_anomalies(changed, now)
        self._open = {key: one for key, one in self._open.items() if key[0] in specs}
        for one in changed:
            self._open.pop(one.key, None)
        self._open |= {one.key: one for one in changed if not one.until}
        self._recent = recent
        self._until = end
        self._sweep(end)
        return changed

    def _note_unwatched(self, specs: Mapping[str, FlowSpec], minutes: range, dark: Set[int]) -> None:
        """Keep what nobody vouches for now; of minutes in which nothing was judged that is known already."""
        rows = unwatched(specs.values(), self._store.runs_since(minutes[0]), self._store.refusals(), minutes)
        self._store.keep_unwatched([row for row in rows if row[3] not in dark])

    def _left(self, specs: Mapping[str, FlowSpec]) -> list[Anomaly]:
        """Those of flows that are no more, and of hops that left their flow, ended."""
        assert self._open is not None
        there = {place for one in self._open.values() if one.flow in specs for place in places(specs[one.flow])}
        gone = [one for one in self._open.values() if (one.flow, one.hop, one.stage) not in there]
        return [replace(one, until=one.last_at, ended_by=GONE) for one in gone]

    def _look(
        self, specs: Sequence[FlowSpec], start: int, end: int, dark: Set[int]
    ) -> tuple[list[Anomaly], list[Anomaly]]:
        """(those of these flows that changed, those that are over since recently), minute by minute."""
        assert self._open is not None
        flows = {spec.flow: set(places(spec)) for spec in specs}
        learned = flows.keys() & self._usual.keys()
        baselines = {key: one for flow in learned for key, one in self._usual[flow][2].items()}
        opened = {key: one for key, one in self._open.items() if key[:3] in flows.get(key[0], ())}
        recent = [one for one in self._recent if one.flow in flows]
        look = Look(self._store, specs, baselines, start, end, dark)
        changed: dict[tuple[Key, int], Anomaly] = {}
        for t in look:
            minute = look.ends(t)
            before = {(one.key, one.since) for one in opened.values()}
            found = look.at(t, opened, {one.key: one.until for one in recent})
            unknown = (one for key, one in opened.items() if key[0] in learned and not look.knows(key))
            found += [replace(one, until=one.last_at, ended_by=UNWATCHED)
                      for one in unknown if minute - one.last_at >= WINDOWS[-1] * MINUTE]  # fmt: skip
            told = told_once(found, before, recent)
            changed |= {(one.key, one.since): one for one in told}
            recent = [one for one in recent if one.until > minute - RECENT] + [one for one in told if one.until]
            for one in told:
                opened.pop(one.key, None)
            opened |= {one.key: one for one in told if not one.until}
        return list(changed.values()), recent

    def _refresh(self, specs: Mapping[str, FlowSpec], now: int) -> None:
        """Work out anew what is usual, of those first that had it longest ago, or never, for a bounded time."""
        self._usual = {flow: one for flow, one in self._usual.items() if specs.get(flow) == one[1]}
        hour, deadline = now // self._every * self._every, self._steady() + REFRESH
        due = sorted((flow for flow in specs if self._age(flow) < hour), key=self._age)
        waiting = iter(due)
        while some := [specs[flow] for flow in islice(waiting, LEARNED)]:
            self._go_on()
            found = usual(self._store, some, now)
            for spec in some:
                mine = {key: one for key, one in found.items() if key[1][0] == spec.flow}
                self._usual[spec.flow] = (hour, spec, mine)
            if self._steady() > deadline:
                return

    def _age(self, flow: str) -> int:
        return self._usual[flow][0] if flow in self._usual else 0

    def _sweep(self, now: int) -> None:
        if now // DAY != self._swept:
            self._store.drop_unwatched(now)
            self._swept = now // DAY
