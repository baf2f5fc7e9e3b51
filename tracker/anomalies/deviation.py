"""How far series are from what is usual, minute by minute, in windows that end there. Pure, over arrays of series by
minutes; no loop over series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.anomalies.baseline import Floats, shown
from tracker.anomalies.signals import FAR, STAYS, WIDER, WINDOWS, Signal

MICROS = 1_000_000
TINY = 1e-6
"""A share that is none."""


@dataclass(frozen=True, slots=True)
class Series:
    """One signal of many places: `top` and `weight` by series and minute. Of counts messages and whether the minute is
    known; of shares the messages concerned and all; of times the sum of logarithms of µs and their number. `expected`
    has a third dimension: the candidates of `Baseline.expected`. `noise`, `block`, `spread`, `period` by series."""

    signal: Signal
    top: Floats
    weight: Floats
    expected: Floats
    noise: Floats
    block: Floats
    spread: Floats
    period: Floats


@dataclass(frozen=True, slots=True)
class Window:
    """By series and minute, of the window that ends there: how many usual distances (nan: not known), whether it is as
    far off as it has to be to begin, and to stay, and what was expected and came. For `direction` 1 or -1."""

    minutes: int
    direction: int
    distance: Floats
    begins: np.ndarray
    stays: np.ndarray
    expected: Floats
    came: Floats


def windows(series: Series) -> list[Window]:
    """Every window and direction that the signal has."""
    directions = (1, -1) if series.signal.low else (1,)
    return [_window(series, width, way) for width in WINDOWS for way in directions]


def _window(series: Series, width: int, way: int) -> Window:
    signal = series.signal
    top, weight = _sums(series.top, width), _sums(series.weight, width)
    usual = shown(signal.scale, series.expected) * series.weight[:, :, None]
    sums = np.stack([_sums(usual[:, :, k], width) for k in range(usual.shape[2])], axis=2)
    bound = sums.max(axis=2) if way > 0 else sums.min(axis=2)
    wider = np.array([WIDER[int(period)] for period in series.period])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        if signal.scale == "count":
            known = weight >= width * 0.6
            came, expected, samples, floor = top, bound, np.maximum(bound, 1), 1.0
        else:
            known = weight >= max(signal.samples, 1)
            came, expected, samples = top / weight, bound / weight, weight
            floor = 1.0 if signal.scale == "log" else 0.25
        short = np.maximum(series.block[:, None] / samples, 1)
        variance = np.maximum(floor / samples, series.noise[:, None] ** 2 * short) + series.spread[:, None] ** 2
        if signal.scale == "count":
            away = 2 * (np.sqrt(came) - np.sqrt(expected)) / np.sqrt(np.maximum(expected, 1) * variance)
            off, apart = np.log((came + 1) / (expected + 1)), np.abs(came - expected)
        elif signal.scale == "share":
            away = (np.sqrt(came) - np.sqrt(expected)) / np.sqrt(variance)
            off, apart = np.log((came + TINY) / (expected + TINY)), np.abs(came - expected)
        else:
            away = (came - expected) / np.sqrt(variance)
            off, apart = came - expected, np.abs(np.exp(came) - np.exp(expected)) / MICROS
        far = np.log(signal.ratio if way > 0 else 1 / signal.drop) * wider
        away, off = np.where(known, away * way, np.nan), off * way
        begins = (away >= FAR) & (off >= far) & (apart >= signal.least)
        stays = (away >= STAYS) & (off >= far / 2) & (apart >= signal.least / 2)
        if signal.scale == "log":
            came, expected = np.exp(came) / MICROS, np.exp(expected) / MICROS
        elif signal.scale == "count":
            came, expected = came / weight, expected / weight
    if signal.name == "coverage":
        came, expected = 1 - came, 1 - expected
    return Window(width, way, away, begins, stays, expected, came)


def _sums(values: Floats, width: int) -> Floats:
    """Over the last `width` columns, fewer at the beginning."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    ends = np.arange(1, total.shape[1])
    return np.asarray(total[:, ends] - total[:, np.maximum(ends - width, 0)])
