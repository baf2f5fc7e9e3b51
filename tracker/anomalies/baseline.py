"""What is usual, as arrays over series: from the seasons of the store and the noise of the last day. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracker.anomalies.signals import Scale
from tracker.store.anomalies import HOUR, Season

Floats = npt.NDArray[np.float64]
BLOCK = 600
"""Seconds of a block of which the noise is measured."""
CHANCE: dict[Scale, float] = {"count": 1.0, "share": 0.25, "log": 0.0}
"""The variance of one message's worth by chance alone, as it is compared: it is in what hours are apart, and
again in each window."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Of one series, on the scale on which it is compared. `end`: the end, epoch s, of the hours that `season` knows.
    `noise`: the standard deviation of blocks of ten minutes with `block` samples each. `chance`: as in `CHANCE`."""

    season: Season
    end: int
    noise: float
    block: float
    chance: float = 0.0

    def expected(self, minutes: npt.NDArray[np.int64]) -> Floats:
        """What is usual in these minutes (epoch s): four rows, with the level of the last day and of the last week,
        each from hour to hour in a line, and hour by hour."""
        period, seasonal = self.season.period, np.asarray(self.season.seasonal)
        place = (minutes + 30 - self.end) / HOUR - 0.5
        left = np.floor(place).astype(np.int64)
        part = place - left
        line = seasonal[left % period] * (1 - part) + seasonal[(left + 1) % period] * part
        flat = seasonal[(minutes - self.end) // HOUR % period]
        return np.stack([shape + level for level in (self.season.short, self.season.long) for shape in (line, flat)])

    @property
    def spread(self) -> float:
        """The usual distance of the rate in an hour that is to come: what hours of k periods are beside a mean of k is
        less than what they were made with by 1 - 1/k, and the next one is beside that mean by 1 + 1/k (both variances).
        Without what is chance in the messages of one hour, which each window has of its own."""
        periods = max(self.season.hours / self.season.period, 2)
        told = self.season.spread**2 * (1 + 1 / periods) / (1 - 1 / periods)
        return float(np.sqrt(max(told - self.chance / (HOUR // BLOCK * self.block), 0)))


def noise(blocks: Floats) -> Floats:
    """The standard deviation of blocks (series by blocks, nan where there is none) around whatever they follow: from
    the differences of neighbours, by their median, so that neither a season nor an anomaly counts."""
    steps = np.abs(np.diff(blocks, axis=1))
    known = np.isfinite(steps).sum(axis=1) >= 6
    found = np.full(len(blocks), np.nan)
    if known.any():
        found[known] = np.nanmedian(steps[known], axis=1) * 1.4826 / np.sqrt(2)
    return found


def compared(scale: Scale, values: Floats) -> Floats:
    """Values (messages a minute, log of µs, share) on the scale on which they are compared with hours."""
    if scale == "count":
        return np.log(values + 1 / 60)
    return np.sqrt(values) if scale == "share" else values


def shown(scale: Scale, values: Floats) -> Floats:
    """The way back: messages a minute, log of µs, share."""
    if scale == "count":
        return np.maximum(np.exp(values) - 1 / 60, 0)
    return np.clip(values, 0, 1) ** 2 if scale == "share" else values
