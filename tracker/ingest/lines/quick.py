"""The walk over lines of JSON, as soon as its code is there: loaded in a second where it was kept on disk, compiled in
some ten where it was not. Nobody waits for that; until then, lines go the patient way."""

from __future__ import annotations

import threading
from collections.abc import Callable

import polars as pl
import structlog

log = structlog.get_logger()

Taken = tuple[pl.DataFrame, dict[str, pl.Series], list[int]]
_FIRST = b'{"flow":"f","digest":"00000000000000ff","observed_at":"2027-01-15T08:00:00Z","size":1}\n'
"""Makes every compiled function run once."""


class Quick:
    """Thread-safe. Begins to get ready when it is told to, or first asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._take: Callable[[bytes, int], Taken] | None = None

    def begin(self) -> None:
        """Get ready, beside whatever the caller does next."""
        self._start()

    def take(self, body: bytes, most: int) -> Taken | None:
        """What `columns.taken` says of a body; None while it cannot be asked."""
        if self._take is None:
            self._start()
        return self._take(body, most) if self._take else None

    def wait(self, seconds: float) -> bool:
        """Whether it is ready, after so many seconds at most."""
        self._start().join(seconds)
        return self._take is not None

    def _start(self) -> threading.Thread:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._compile, name="lines-compile", daemon=True)
                self._thread.start()
            return self._thread

    def _compile(self) -> None:
        try:
            from tracker.ingest.lines.columns import taken  # its compiler takes a second to import

            taken(_FIRST, 1)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is another way
            log.warning("lines_slow", error=str(error), hint="lines of JSON are read, at a third of the speed")
        else:
            self._take = taken
