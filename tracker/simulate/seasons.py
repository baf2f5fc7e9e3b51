"""Weeks of a flow as counts by the minute, with anomalies that are known: what a detector is tried on.

Messages of weeks would take days to send. So this makes what passes would have counted of them. A flow has a shop
(produce), a log (persist) and a billing (ack) behind it. Its volume has a season of the week, noise that lasts for an
hour, noise of single minutes, and a trend; its latency follows its load. All is made from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MINUTE, DAY, WEEK = 60, 1440, 10_080
"""A minute in seconds; a day and a week in minutes."""
HOPS = (("shop", "produce"), ("log", "persist"), ("billing", "ack"))
KINDS = ("drop", "surge", "latency", "loss", "duplicates", "blind")
SIGNAL = {"drop": "volume", "surge": "volume", "latency": "latency", "loss": "loss", "duplicates": "duplicates",
          "blind": "coverage"}  # fmt: skip
DURATION = (10, 120)
"""Minutes that an anomaly lasts."""
APART = 360
"""Minutes of calm between two."""
SIGMA = 0.6
"""Of the logarithm of single latencies."""


@dataclass(frozen=True, slots=True)
class Label:
    """What was done to a flow in minutes [start, end): `effect` is the factor on volume or latency, the share of
    messages that were lost or came twice besides, or 1 for a hop that nobody watched."""

    kind: str
    start: int
    end: int
    effect: float
    hop: int

    @property
    def signal(self) -> str:
        """Where it shows."""
        return SIGNAL[self.kind]


@dataclass(frozen=True, slots=True)
class Weeks:
    """By minute: messages begun, settled, missing, duplicated; by hop and minute: due, seen, the median latency in µs
    (hop 0: from end to end), minutes that were not watched."""

    labels: tuple[Label, ...]
    begun: Floats
    settled: Floats
    missing: Floats
    duplicated: Floats
    due: Floats
    seen: Floats
    took: Floats
    blind: npt.NDArray[np.bool_]


def weeks(seed: int, rate: float, count: int, calm: int) -> Weeks:
    """`count` weeks of a flow with about `rate` messages a minute; anomalies begin after `calm` weeks."""
    random = np.random.default_rng(seed)
    n = count * WEEK
    labels = _labels(random, n, calm * WEEK)
    load = _load(random, n)
    factor, slow = np.ones(n), np.ones((len(HOPS), n))
    shares = {"loss": np.zeros((len(HOPS), n)), "duplicates": np.zeros(n)}
    blind = np.zeros((len(HOPS), n), bool)
    shares["loss"][1:] += random.uniform(0, 0.003, (len(HOPS) - 1, 1))
    shares["duplicates"] += random.uniform(0, 0.003)
    for label in labels:
        span = slice(label.start, label.end)
        if label.kind in ("drop", "surge"):
            factor[span] *= label.effect
        elif label.kind == "latency":
            slow[label.hop, span] *= label.effect
        elif label.kind == "loss":
            shares["loss"][label.hop, span] += label.effect
        elif label.kind == "duplicates":
            shares["duplicates"][span] += label.effect
        else:
            blind[label.hop, span] = True
    begun = random.poisson(rate * load * factor * random.gamma(150, 1 / 150, n)).astype(float)
    return _counted(random, labels, begun, load, slow, shares["loss"], shares["duplicates"], blind)


def _counted(random: np.random.Generator, labels: tuple[Label, ...], begun: Floats, load: Floats, slow: Floats,
             lost: Floats, twice: Floats, blind: npt.NDArray[np.bool_]) -> Weeks:  # fmt: skip
    begun = _kept_back(begun, blind[0])
    due, seen = [begun], [begun]
    for hop in range(1, len(HOPS)):
        due.append(seen[-1])
        seen.append(seen[-1] - random.binomial(seen[-1].astype(int), lost[hop]))
    n, base = len(begun), random.uniform(10_000, 1_000_000, len(HOPS))
    wander = np.exp(0.03 * _wandering(random, n, 60))
    middle = base[:, None] * load[None, :] ** random.uniform(0, 0.3) * slow * wander
    middle[0] = middle[1:].sum(axis=0)
    with np.errstate(divide="ignore"):
        error = 1.25 * SIGMA / np.sqrt(np.maximum(np.array(seen), 1))
    took = middle * np.exp(error * random.standard_normal(middle.shape))
    duplicated = random.binomial(seen[-1].astype(int), twice).astype(float)
    return Weeks(labels, begun, begun, begun - seen[-1], duplicated, np.array(due), np.array(seen), took, blind)


def _kept_back(begun: Floats, blind: npt.NDArray[np.bool_]) -> Floats:
    """What a collector that was cut off tells comes in the first minute after it."""
    told, back = np.where(blind, 0, begun), 0.0
    for t in np.flatnonzero(blind):
        back += begun[t]
        if t + 1 < len(begun) and not blind[t + 1]:
            told[t + 1] += back
            back = 0.0
    return told


def _load(random: np.random.Generator, n: int) -> Floats:
    """Around 1: hours of the day, a weekend, noise, a trend."""
    t = np.arange(n)
    phase, second = random.uniform(0, 2 * np.pi, 2)
    day = random.uniform(0.2, 0.7) * np.sin(2 * np.pi * t / DAY + phase)
    day += random.uniform(0, 0.25) * np.sin(4 * np.pi * t / DAY + second)
    weekend = np.where(t % WEEK >= 5 * DAY, np.log(random.uniform(0.4, 1.0)), 0.0)
    ramp = np.ones(181) / 181
    weekend = np.convolve(np.pad(weekend, 90, mode="edge"), ramp, "valid")
    trend = random.uniform(-0.02, 0.05) * t / WEEK
    return np.asarray(np.exp(day + weekend + trend + 0.04 * _wandering(random, n, 60)))


def _wandering(random: np.random.Generator, n: int, minutes: int) -> Floats:
    """Noise of variance 1 that forgets itself within so many minutes (AR(1))."""
    keep = np.exp(-1 / minutes)
    found, steps, value = np.empty(n), random.standard_normal(n) * np.sqrt(1 - keep**2), random.standard_normal()
    for t in range(n):
        value = keep * value + steps[t]
        found[t] = value
    return found


def _labels(random: np.random.Generator, n: int, first: int) -> tuple[Label, ...]:
    """About four a week, each of another kind than the one before."""
    found: list[Label] = []
    at, kinds = first + int(random.integers(APART, 2 * APART)), list(KINDS)
    while at < n - 2 * DURATION[1]:
        if not kinds:
            kinds = list(KINDS)
        kind = kinds.pop(int(random.integers(len(kinds))))
        lasting = int(np.exp(random.uniform(*np.log(DURATION))))
        low, high = {"drop": (0.0, 0.7), "surge": (1.3, 3.0), "latency": (1.3, 5.0), "blind": (1.0, 1.0)}.get(
            kind, (0.03, 0.5)
        )
        hop = 0 if kind in ("drop", "surge", "duplicates") else int(random.integers(0 if kind == "blind" else 1, 3))
        found.append(Label(kind, at, at + lasting, float(random.uniform(low, high)), hop))
        at += lasting + APART + int(random.exponential(WEEK / 4 - APART))
    return tuple(found)
