"""What the runner knows of an archive of payloads: the port that `collectors.archive` fills. Installs light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collectors.base import Content, Observation, Raw
from tracker.model.coverage import SourceRef
from tracker.model.event import Event

Contents = Callable[[Raw, Event], Content]
"""The message itself, of a record and what was observed by it: a collector's `content`."""


@dataclass(frozen=True)
class Archived:
    """A snapshot. Counters since the start: `records`, `bytes` (as stored) and `segments` are durable, `lost` were
    given up where the archive is not `required`; `failures` of the store. `waiting_*`: not durable yet. `at`: when
    something became durable last, epoch µs, 0 before the first. `error`: why nothing does now."""

    records: int = 0
    bytes: int = 0
    segments: int = 0
    waiting_records: int = 0
    waiting_bytes: int = 0
    failures: int = 0
    lost: int = 0
    at: int = 0
    error: str = ""


class Archiving(Protocol):
    """One thread calls. Everything that raises does so with an error after which trying again is no use."""

    @property
    def durable(self) -> int:
        """What `add` answered up to this number is kept for good."""
        ...

    @property
    def archived(self) -> Archived:
        """For those who ask from outside, from any thread."""
        ...

    def start(self) -> None:
        """Begin; before that nothing is touched."""
        ...

    def add(self, raws: Sequence[Raw], seen: Sequence[Observation]) -> int:
        """Take what was observed, each with the record that it was observed by. The number from which on `durable` says
        that it is kept; `REFUSED` (`collectors.spool`) when there is no room now, and then nothing was taken."""
        ...

    def vouch(self, sources: Sequence[SourceRef], reached: int | None) -> None:
        """As `Emitter.vouch`, after all that was read was added: exactly these sources are watched, until `reached`
        without a gap (epoch µs; None: nothing was shown yet)."""
        ...

    def wait(self, number: int, timeout: float) -> bool:
        """Have all up to `number` written now, and wait for it, at most `timeout` seconds; whether it is durable."""
        ...

    def room(self, timeout: float) -> None:
        """Wait until `add` may have room, at most `timeout` seconds."""
        ...

    def close(self) -> None:
        """End. What is not durable by now comes again from the system."""
        ...
