"""The course of an application's life: a steady pace, and an orderly end on SIGTERM."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

STEP = 20
"""Messages between two looks at the clock."""


class Stopping:
    """True once SIGTERM came."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked


def paced(count: int, rate: float) -> Iterator[int]:
    """0, 1, ... at `rate` per second; one that fell behind catches up."""
    began = time.monotonic()
    for number in range(count):
        if number % STEP == 0:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number
