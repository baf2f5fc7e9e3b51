"""What a run cost: seconds per step, processor time, memory, and how busy the machine was meanwhile."""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


def cpu_s() -> float:
    """Processor seconds of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> int:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def load() -> float:
    """Load average of the last minute: above the number of cores, other work has slowed this down."""
    return round(os.getloadavg()[0], 2)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile; of few samples that is the worst."""
    return {"p50": round(float(np.quantile(seconds, 0.5)), 4), "p99": round(float(np.quantile(seconds, 0.99)), 4)}


class Watch:
    """Seconds by name. `around` times a block, `on` every call of a method."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Add the time of this block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def on(self, holder: Any, attribute: str, name: str | Callable[..., str]) -> None:
        """Add the time of every call of `holder.attribute` from now on; `name` may depend on its arguments."""
        called = getattr(holder, attribute)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.around(name if isinstance(name, str) else name(*arguments, **options)):
                return called(*arguments, **options)

        setattr(holder, attribute, timed)

    def taken(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        taken, self.seconds = {name: round(s, 4) for name, s in self.seconds.items()}, defaultdict(float)
        return taken
