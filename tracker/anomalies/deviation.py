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
RAREST = 0.001
"""What has never happened may happen to so many messages of 1: nobody knows shares better than that."""


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
    spread2 = series.spread[:, None] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        if signal.scale == "log":
            known, came, expected = weight >= signal.samples, top / weight, bound / weight
            variance = np.maximum(1 / weight, series.noise[:, None] ** 2 * _short(series, weight)) + spread2
            away = (came - expected) / np.sqrt(variance)
            off, apart = came - expected, np.abs(np.exp(came) - np.exp(expected)) / MICROS
        elif signal.scale == "share":
            known, came, expected = weight >= max(signal.samples, 1), top / weight, bound / weight
            usually = np.maximum(expected, RAREST)
            beside = np.maximum(series.noise**2 - 0.25 / series.block, 0)[:, None] * _short(series, weight)
            away = surprise(top, usually * weight, 4 * (beside + spread2) / usually)
            off, apart = np.log((came + TINY) / (expected + TINY)), np.abs(came - expected)
        else:
            known, came, expected = weight >= width * 0.6, top, bound
            samples = np.maximum(bound, 1)
            beside = np.maximum(series.noise**2 - 1 / series.block, 0)[:, None] * _short(series, samples)
            away = surprise(top, samples, beside + spread2)
            off, apart = np.log((came + 1) / (expected + 1)), np.abs(came - expected)
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


def _short(series: Series, samples: Floats) -> Floats:
    """How much larger the variance of a window with so many samples is than that of a block."""
    return np.maximum(series.block[:, None] / samples, 1)


def surprise(came: Floats, expected: Floats, beside: Floats) -> Floats:
    """How many standard deviations of a normal distribution are as improbable as so many events or more (below what is
    expected: or fewer), where the rate itself varies: by its variance in squares of the rate, `beside`.

    Events are then distributed as a negative binomial, without variance as a Poisson. This is the signed root of its
    deviance (McCullagh and Nelder, Generalized Linear Models, 1989), for a value half an event nearer, as is done for
    integers. docs/anomalies.md says how near the exact tails it comes."""
    nearer = np.where(came > expected, np.maximum(came - 0.5, expected), np.minimum(came + 0.5, expected))
    shape = 1 / np.maximum(beside, 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(nearer > 0, nearer * np.log(nearer / expected), 0)
        rate = (nearer + shape) * np.log1p((nearer - expected) / (expected + shape))
    return np.asarray(np.sign(came - expected) * np.sqrt(2 * np.maximum(own - rate, 0)))


def _sums(values: Floats, width: int) -> Floats:
    """Over the last `width` columns, fewer at the beginning."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    ends = np.arange(1, total.shape[1])
    return np.asarray(total[:, ends] - total[:, np.maximum(ends - width, 0)])
