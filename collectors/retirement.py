"""Signs off what a collector watched that is not coming back: the operator says that nothing happens there any more."""

from __future__ import annotations

import threading
from dataclasses import replace

from collectors.emitter import Emitter
from collectors.logs import logger
from collectors.runner import Health

PAUSE = 0.2
"""Seconds between two looks whether it is done."""


class Retirement:
    """`emitter`, a reader, has the spool folder of the collector that ran: it delivers what is left there, then it
    signs off what was watched. Runs like a `Runner`; the system itself is not asked."""

    def __init__(self, name: str, emitter: Emitter) -> None:
        self.health = Health(name, "retiring")
        self._emitter = emitter
        self._stopping = threading.Event()
        self._log = logger("collectors.runner").bind(collector=name)

    def run(self) -> None:
        """Until the tracker knows, or `stop`: then the next start goes on."""
        ending = len(self._emitter.sources)
        self._emitter.retire()
        while not (done := self._done()) and not self._stopping.wait(PAUSE):
            pass
        self._emitter.close(timeout=0.1)
        self.health = replace(self.health, state="retired" if done else "stopped")
        if ending and done:
            self._log.info("signed off: what was watched is over", sources=ending)

    def stop(self) -> None:
        """Return from `run`."""
        self._stopping.set()

    def _done(self) -> bool:
        return self._emitter.flush(PAUSE) and not self._emitter.sources
