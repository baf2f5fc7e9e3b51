"""The process of `collectors run`: a fleet of collectors, what is shown of it, and the signals that steer it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from collectors.clock import steady
from collectors.config import Config, Located, read_config
from collectors.fleet import Fleet, all_wanted, made
from collectors.listener import Answer, Listener, words
from collectors.logins import without_logins
from collectors.logs import logger
from collectors.metrics import Sample, samples
from collectors.registry import exposition
from collectors.status import readiness

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PAUSE = 0.2
"""Seconds between two looks whether collectors have ended."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""Of metrics: https://prometheus.io/docs/instrumenting/exposition_formats/."""


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Signals of this block's threads wait until somebody takes them: no handler runs in between, and two that are
    alike and not taken yet are one. To be entered before threads are started, which inherit it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def checked(located: Located, path: Path) -> None:
    """Make every collector and let go of it again. Raises `CollectorError` that names what is wrong, and where."""
    for each in filter(None, made(all_wanted(located.config), located, path).values()):
        each.collector.close()
    if located.config.listen:
        exposition()


class Service:
    """Runs what the configuration in `path` says. One thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._clock = path, steady()
        self._fleet = Fleet(path, self._clock)
        self._listener: Listener | None = None
        self._within = 0
        self._refused = ""
        self._read_at = 0
        self._version = version("message-tracker")
        self._log = logger("collectors.main")

    def run(self, located: Located) -> bool:
        """Until a signal ends it, or no collector runs any more; whether none of them failed for good. Raises
        `CollectorError` when it cannot begin."""
        try:
            self._take(located)
            self._log.info("running", collectors=[seen.name for seen in self._fleet.seen()])
            self._until_stopped()
        finally:  # whatever ends this thread ends the collectors: nobody would hear a signal for them any more
            self._fleet.stop()
            if self._listener:
                self._listener.close()
        return not self._fleet.failed

    def _until_stopped(self) -> None:
        stopping = False
        while self._fleet.tick():
            taken = signal.sigtimedwait(SIGNALS, PAUSE)
            if taken is None:
                continue
            if taken.si_signo != signal.SIGHUP:
                self._log.info("stopping", signal=signal.Signals(taken.si_signo).name)
                stopping = True
                self._fleet.stop()
            elif not stopping:
                self.reload()

    def reload(self) -> None:
        """Read the configuration again. One that is wrong changes nothing."""
        try:
            self._take(read_config(self._path))
            self._refused = ""
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the present one is to go on
            self._refused = without_logins(str(error) or repr(error))
            self._log.error("configuration refused: everything goes on as before", error=self._refused)

    def _take(self, located: Located) -> None:
        """All of it or, with an error, nothing."""
        config, before = located.config, self._listener
        listener = self._listening(config, before)
        try:
            self._fleet.apply(located)
        except BaseException:
            if listener and listener is not before:
                listener.close()
            raise
        self._listener, self._within = listener, int(config.unready_after * 1e6)
        self._read_at = self._clock()
        if before and before is not listener:
            before.close()

    def _listening(self, config: Config, before: Listener | None) -> Listener | None:
        if not config.listen or (before and before.address == config.listen):
            return before if config.listen else None
        written = exposition()(self._samples)
        pages = {"/healthz": _alive, "/readyz": self._ready, "/metrics": _metrics(written)}
        listener = Listener(config.listen, pages)
        self._log.info("health and metrics are shown", address=config.listen, port=listener.port)
        return listener

    def _ready(self) -> Answer:
        ready, body = readiness(self._fleet.seen(), self._clock(), self._within, self._refused)
        return Answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body)

    def _samples(self) -> Iterable[Sample]:
        return samples(self._fleet.seen(), self._clock(), not self._refused, self._read_at, self._version)


def _alive() -> Answer:
    return words(HTTPStatus.OK, "alive")


def _metrics(written: Callable[[], bytes]) -> Callable[[], Answer]:
    return lambda: Answer(HTTPStatus.OK, TEXT, written())
