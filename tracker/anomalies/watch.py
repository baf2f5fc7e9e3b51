"""Looks at all flows, minute by minute, and keeps what it finds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import structlog
from msgspec.structs import replace

from tracker.anomalies.baseline import Baseline
from tracker.anomalies.episodes import GONE, Key, told_once
from tracker.anomalies.look import look, usual
from tracker.anomalies.signals import WINDOWS
from tracker.anomalies.watched import MINUTE, Place, unwatched
from tracker.model.errors import Unavailable
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store import Store
from tracker.store.anomalies import DAY, HOUR, Anomaly

log = structlog.get_logger()

SETTLING = 30
"""Seconds after a minute until it is looked at: what happened in it has been reported and passed by then."""
TOGETHER = 400
"""Flows of which series are in memory at once, some 100 MB: counts are stored by time, so a question about few flows
reads as much as one about many."""
REFRESH = 10.0
"""Seconds after which a look begins no more seasons; those that it leaves are the first of the next."""
FARTHEST = 60
"""Minutes that a look catches up with at most; after a longer pause the others are not looked at."""
RECENT = 2 * WINDOWS[-1] * MINUTE
"""For so long after it ended an anomaly is what a long window still sees."""


class Watch:
    """The anomalies of an installation. `look` is for one thread; `open` for any. `steady` measures how long things
    take, in seconds; a season is worked out anew after `every` seconds."""

    def __init__(
        self,
        store: Store,
        specs: Callable[[], Mapping[str, FlowSpec]],
        steady: Callable[[], float],
        closing: threading.Event | None = None,
        every: int = HOUR,
    ) -> None:
        self._store, self._specs, self._steady = store, specs, steady
        self._closing, self._every = closing or threading.Event(), every
        self._usual: dict[str, tuple[int, FlowSpec, dict[tuple[str, Place], Baseline]]] = {}
        self._until = self._swept = 0
        self._open: dict[Key, Anomaly] | None = None
        self._recent: list[Anomaly] = []

    @property
    def open(self) -> list[Anomaly]:
        """Those that last, as of the last look."""
        return list((self._open or {}).values())

    def look(self, now: int) -> list[Anomaly]:
        """Look at the minutes that are over at `now`, µs, since the last look; what began, went on or ended. Raises
        TrackerError."""
        end = (now // SECOND - SETTLING) // MINUTE * MINUTE
        specs = dict(self._specs())
        if self._open is None:
            self._open = {one.key: one for one in self._store.anomalies(open_=True, limit=100_000)}
            self._until = end - MINUTE
        start = max(self._until, end - FARTHEST * MINUTE)
        if start >= end:
            return []
        minutes = range(start, end, MINUTE)
        rows = unwatched(specs.values(), self._store.runs(), self._store.refusals(), minutes)
        self._store.keep_unwatched(rows)
        self._refresh(specs, end)
        changed: list[Anomaly] = []
        known = iter(specs.values())
        while some := list(islice(known, TOGETHER)):
            if self._closing.is_set():
                raise Unavailable("the tracker is about to stop")
            changed += self._look(some, start, end)
        gone = [one for one in self._open.values() if one.flow not in specs]
        changed += [replace(one, until=one.last_at, ended_by=GONE) for one in gone]
        self._store.keep_anomalies(changed, now)
        self._take(changed, end)
        self._until = end
        self._sweep(end)
        return changed

    def _look(self, specs: Sequence[FlowSpec], start: int, end: int) -> list[Anomaly]:
        assert self._open is not None
        flows = {spec.flow for spec in specs}
        baselines = {key: one for flow in flows if flow in self._usual for key, one in self._usual[flow][2].items()}
        opened = {key: one for key, one in self._open.items() if one.flow in flows}
        recent = [one for one in self._recent if one.flow in flows]
        over = {one.key: one.until for one in recent}
        found = look(self._store, specs, baselines, opened, over, start, end)
        before = {(one.key, one.since) for one in opened.values()}
        return told_once(found, before, recent)

    def _refresh(self, specs: Mapping[str, FlowSpec], now: int) -> None:
        """Work out anew what is usual, of those first that had it longest ago, or never, for a bounded time."""
        self._usual = {flow: one for flow, one in self._usual.items() if specs.get(flow) == one[1]}
        hour, deadline = now // self._every * self._every, self._steady() + REFRESH
        due = sorted((flow for flow in specs if self._age(flow) < hour), key=self._age)
        waiting = iter(due)
        while some := [specs[flow] for flow in islice(waiting, TOGETHER // 2)]:
            found = usual(self._store, some, now)
            for spec in some:
                mine = {key: one for key, one in found.items() if key[1][0] == spec.flow}
                self._usual[spec.flow] = (hour, spec, mine)
            if self._steady() > deadline or self._closing.is_set():
                return

    def _age(self, flow: str) -> int:
        return self._usual[flow][0] if flow in self._usual else 0

    def _take(self, changed: Sequence[Anomaly], now: int) -> None:
        assert self._open is not None
        ended = {one.key for one in changed if one.until}
        self._open = {key: one for key, one in self._open.items() if key not in ended}
        self._open |= {one.key: one for one in changed if not one.until}
        self._recent = [one for one in self._recent if one.until > now - RECENT]
        self._recent += [one for one in changed if one.until]

    def _sweep(self, now: int) -> None:
        if now // DAY != self._swept:
            self._store.drop_unwatched(now)
            self._swept = now // DAY
