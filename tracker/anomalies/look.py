"""One look at some flows: their series against what is usual. Asks the store for arrays, and loops over series only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import msgspec
import numpy as np

from tracker.anomalies.baseline import BLOCK, CHANCE, Baseline, Floats, compared, noise
from tracker.anomalies.deviation import Series, Window, windows
from tracker.anomalies.episodes import Key, follow
from tracker.anomalies.grid import Grid
from tracker.anomalies.signals import BASELINES, CATCHING_UP, SIGNALS, WINDOWS, Signal
from tracker.anomalies.watched import MINUTE, Place, places
from tracker.model.spec import FlowSpec
from tracker.store import Store
from tracker.store.anomalies import DAY, HOUR, Anomaly, Season

BEFORE = WINDOWS[-1] + CATCHING_UP
"""Minutes before the first that is looked at which windows, and catching up, reach back."""
Baselines = Mapping[tuple[str, Place], Baseline]
"""By signal and place."""
Pair = tuple[Floats, Floats]


def usual(store: Store, specs: Sequence[FlowSpec], now: int) -> dict[tuple[str, Place], Baseline]:
    """What is usual for these flows at `now`, epoch s. What has no row of its own, for nothing was ever lost, is 0 as
    long as there is volume."""
    flows, end = [spec.flow for spec in specs], now // HOUR * HOUR
    named = [place for spec in specs for place in places(spec)]
    start = now // BLOCK * BLOCK - DAY
    grid = Grid(named, DAY // BLOCK, *store.series(flows, start, start + DAY, BLOCK))
    zones: dict[str, list[str]] = {}
    for spec in specs:
        zones.setdefault(spec.time_zone, []).append(spec.flow)
    found: dict[tuple[str, Place], Baseline] = {}
    volume: dict[Place, Season] = {}
    for signal in SIGNALS:
        top, weight = measured(signal, grid, BLOCK // MINUTE)
        with np.errstate(divide="ignore", invalid="ignore"):
            given = (top if signal.scale == "count" else weight) > 0
            blocks = np.where(given, compared(signal.scale, top / weight), np.nan)
        samples = top if signal.scale == "count" else weight
        block = np.array([np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in samples])
        deviations = np.nan_to_num(noise(blocks))
        asked = (store.seasons(signal.name, some, now, name) for name, some in zones.items())
        seasons = {(one.flow, one.hop, one.stage): one for some in asked for one in some}
        if signal.name == "volume":
            volume = seasons
        for n, place in enumerate(named):
            season = seasons.get(place) or _nothing(signal, volume.get(place))
            if season is not None:
                of = float(deviations[n]), float(block[n])
                found[signal.name, place] = Baseline(season, end, *of, CHANCE[signal.scale])
    return found


def _nothing(signal: Signal, volume: Season | None) -> Season | None:
    if signal.scale != "share" or volume is None:
        return None
    return msgspec.structs.replace(volume, seasonal=[0.0] * volume.period, long=0.0, short=0.0, spread=0.0)


def measured(signal: Signal, grid: Grid, step: int) -> Pair:
    """(`top`, `weight`) of `Series`, of steps of so many minutes."""
    whole = np.array([place[1] == "" for place in grid.places])[:, None]
    if signal.name == "volume":
        return np.where(whole, grid["begun"], grid["seen"]), np.full_like(grid["begun"], step)
    if signal.name == "latency":
        samples = np.where(whole, grid["settled"] - grid["missing"], grid["seen"])
        known = np.isfinite(grid["took"]) & (samples > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(known, samples * np.log(np.maximum(grid["took"], 1)), 0), np.where(known, samples, 0)
    if signal.name == "loss":
        return (np.where(whole, grid["missing"], grid["due"] - grid["seen"]),
                np.where(whole, grid["settled"], grid["due"]))  # fmt: skip
    if signal.name == "duplicates":
        return np.where(whole, grid["duplicated"], 0), np.where(whole, grid["settled"], 0)
    return np.where(whole, 0, grid["unwatched"]), np.where(whole, 0, np.full_like(grid["unwatched"], step * MINUTE))


@dataclass(frozen=True, slots=True)
class _Sight:
    """One signal and direction: the windows over its series, their rows by key, what names and judges each, and the
    rows that are off, minute by minute."""

    windows: Sequence[Window]
    rows: Mapping[Key, int]
    blanks: Sequence[Anomaly]
    off: np.ndarray


class Look:
    """What there is to see of these flows in the minutes of [start, end), epoch s; read once. In the minutes `dark`
    nothing was judged."""

    def __init__(
        self, store: Store, specs: Sequence[FlowSpec], baselines: Baselines, start: int, end: int, dark: Set[int]
    ) -> None:
        self._first = BEFORE
        self._minutes = np.arange(start - BEFORE * MINUTE, end, MINUTE)
        self._sights = list(self._seen(store, specs, baselines, dark))
        self._keys = {key for sight in self._sights for key in sight.rows}

    def __iter__(self) -> Iterator[int]:
        """The places of the minutes to look at, in order."""
        return iter(range(self._first, len(self._minutes)))

    def ends(self, t: int) -> int:
        """The end, epoch s, of the minute at this place."""
        return int(self._minutes[t]) + MINUTE

    def knows(self, key: Key) -> bool:
        """Whether this may be off at all."""
        return key in self._keys

    def at(self, t: int, opened: Mapping[Key, Anomaly], over: Mapping[Key, int]) -> list[Anomaly]:
        """The anomalies of the minute at this place: those that were `opened`, as they are now, and new ones; `over`:
        when the last one before ended."""
        found: list[Anomaly] = []
        until = self._minutes[: t + 1]
        for sight in self._sights:
            rows = {int(row) for row in np.flatnonzero(sight.off[:, t])}
            rows |= {sight.rows[key] for key in opened if key in sight.rows}
            for row in sorted(rows):
                blank = sight.blanks[row]
                found += follow(sight.windows, row, until, t, opened.get(blank.key), blank, over.get(blank.key, 0))
        return found

    def _seen(self, store: Store, specs: Sequence[FlowSpec], baselines: Baselines, dark: Set[int]) -> Iterator[_Sight]:
        flows, minutes = [spec.flow for spec in specs], self._minutes
        named = [place for spec in specs for place in places(spec)]
        begin, end = int(minutes[0]), int(minutes[-1]) + MINUTE
        grid = Grid(named, len(minutes), *store.series(flows, begin, end, MINUTE))
        dim = Grid(named, len(minutes), store.unwatched(flows, begin, end, MINUTE))["missing"]
        grid["unwatched"][:] = np.minimum(dim, MINUTE)
        unjudged = np.isin(minutes, list(dark))
        for signal in SIGNALS:
            rows = [n for n, place in enumerate(named) if (signal.name, place) in baselines]
            if not rows:
                continue
            mine = [baselines[signal.name, named[n]] for n in rows]
            top, weight = (array[rows] for array in measured(signal, grid, 1))
            unknown = np.broadcast_to(unjudged, top.shape)
            if signal.name == "volume":
                unknown = _unknown((_of_flow(named, dim)[rows] > MINUTE / 10) | unknown)
            series = Series(
                signal=signal,
                top=np.where(unknown, 0, top),
                weight=np.where(unknown, 0, weight),
                expected=np.stack([one.expected(minutes).T for one in mine]),
                noise=np.array([one.noise for one in mine]),
                block=np.array([one.block for one in mine]),
                spread=np.array([one.spread for one in mine]),
                period=np.array([one.season.period for one in mine]),
            )
            looked = windows(series)
            for way, direction in ((1, "high"), (-1, "low")):
                some = [window for window in looked if window.direction == way]
                if some:
                    called = "low" if signal.name == "coverage" else direction
                    blanks = [
                        Anomaly(*named[n], signal.name, called, 0, 0, 0, 0, "", 0, 0, 0, BASELINES[one.season.period])
                        for n, one in zip(rows, mine, strict=True)
                    ]
                    keys = {blank.key: row for row, blank in enumerate(blanks)}
                    yield _Sight(some, keys, blanks, np.any([window.begins for window in some], axis=0))


def _of_flow(named: Sequence[Place], dim: Floats) -> Floats:
    """What was not watched of a flow as a whole is what was not where its messages begin. What a checkpoint saw is
    counted when messages are settled, which waits for all of them."""
    flows: dict[str, list[int]] = {}
    for n, (flow, _, _) in enumerate(named):
        flows.setdefault(flow, []).append(n)
    found = dim.copy()
    for rows in flows.values():
        found[rows[1:]] = dim[rows].max(axis=0)
    return found


def _unknown(dim: np.ndarray) -> np.ndarray:
    """Minutes that were not watched, and those after them in which what was kept back comes."""
    spread = dim.copy()
    for late in range(1, CATCHING_UP + 1):
        spread[:, late:] |= dim[:, :-late]
    return spread
