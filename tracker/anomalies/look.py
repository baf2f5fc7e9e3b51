"""One look at some flows: their series against what is usual. Asks the store for arrays, and loops over series only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from tracker.anomalies.baseline import Baseline, Floats, compared, noise
from tracker.anomalies.deviation import Series, windows
from tracker.anomalies.episodes import Key, follow
from tracker.anomalies.grid import Grid
from tracker.anomalies.signals import BASELINES, CATCHING_UP, SIGNALS, WINDOWS, Signal
from tracker.anomalies.watched import MINUTE, Place, places
from tracker.model.spec import FlowSpec
from tracker.store import Store
from tracker.store.anomalies import DAY, HOUR, Anomaly, Season

BLOCK = 600
"""Seconds of a block of which the noise is measured."""
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
        seasons = {(one.flow, one.hop, one.stage): one for one in store.seasons(signal.name, flows, now)}
        if signal.name == "volume":
            volume = seasons
        for n, place in enumerate(named):
            season = seasons.get(place) or _nothing(signal, volume.get(place))
            if season is not None:
                found[signal.name, place] = Baseline(season, end, float(deviations[n]), float(block[n]))
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


def look(
    store: Store,
    specs: Sequence[FlowSpec],
    baselines: Baselines,
    opened: Mapping[Key, Anomaly],
    over: Mapping[Key, int],
    start: int,
    end: int,
) -> list[Anomaly]:
    """The anomalies of these flows in the minutes of [start, end), epoch s: those that were `opened`, as they are now,
    and new ones; `over`: when the last one before ended."""
    flows = [spec.flow for spec in specs]
    named = [place for spec in specs for place in places(spec)]
    begin, first = start - BEFORE * MINUTE, BEFORE
    minutes = np.arange(begin, end, MINUTE)
    grid = Grid(named, len(minutes), *store.series(flows, begin, end, MINUTE))
    dim = Grid(named, len(minutes), store.unwatched(flows, begin, end, MINUTE))["missing"]
    grid["unwatched"][:] = np.minimum(dim, MINUTE)
    found: list[Anomaly] = []
    for signal in SIGNALS:
        rows = [n for n, place in enumerate(named) if (signal.name, place) in baselines]
        if not rows:
            continue
        mine = [baselines[signal.name, named[n]] for n in rows]
        top, weight = (array[rows] for array in measured(signal, grid, 1))
        if signal.name == "volume":
            unknown = _unknown(_of_flow(named, dim)[rows] > MINUTE / 10)
            top, weight = np.where(unknown, 0, top), np.where(unknown, 0, weight)
        series = Series(
            signal=signal,
            top=top,
            weight=weight,
            expected=np.stack([one.expected(minutes).T for one in mine]),
            noise=np.array([one.noise for one in mine]),
            block=np.array([one.block for one in mine]),
            spread=np.array([one.spread for one in mine]),
            period=np.array([one.season.period for one in mine]),
        )
        looked = windows(series)
        for way, direction in ((1, "high"), (-1, "low")):
            some = [window for window in looked if window.direction == way]
            off = np.zeros(len(rows), bool)
            for window in some:
                off |= window.begins[:, first:].any(axis=1)
            for r, n in enumerate(rows):
                flow, hop, stage = named[n]
                called = (flow, hop, stage, signal.name, "low" if signal.name == "coverage" else direction)
                if some and (off[r] or called in opened):
                    blank = Anomaly(*called, 0, 0, 0, 0, "", 0, 0, 0, BASELINES[mine[r].season.period])
                    found += follow(some, r, minutes, first, opened.get(called), blank, over.get(called, 0))
    return found


def _of_flow(named: Sequence[Place], dim: Floats) -> Floats:
    """What was not watched of a flow as a whole is what was not where its messages begin. What a checkpoint saw is
    counted when messages are settled, which waits for all of them."""
    flows = {flow: [n for n, place in enumerate(named) if place[0] == flow] for flow, _, _ in named}
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
