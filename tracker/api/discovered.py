"""What spans tell of messages that no flow takes: gathered in memory, kept every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from tracker.control import Control
from tracker.control.sightings import KEPT, LONGEST, Sighting
from tracker.model.units import SECOND

EVERY = 5 * SECOND
"""So often the control database is told."""


class Discovered:
    """Thread-safe. `clock` gives µs."""

    def __init__(self, control: Control, clock: Callable[[], int]) -> None:
        self._control, self._clock = control, clock
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, ...], Sighting] = {}
        self._kept_at = 0

    def note(self, seen: Iterable[Sighting]) -> None:
        """Remember these; now and then this call writes what was gathered. Raises what the control database does."""
        with self._lock:
            for one in map(_cut, seen):
                held = self._waiting.get(one.key)
                if held or len(self._waiting) < KEPT:
                    self._waiting[one.key] = held.plus(one) if held else one
            due = bool(self._waiting) and self._clock() - self._kept_at >= EVERY
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._kept_at = self._clock()
        if waiting:
            self._control.sightings.add(waiting.values())

    def all(self) -> list[Sighting]:
        """Everything until now."""
        self.flush()
        return self._control.sightings.all()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._waiting = {}
        self._control.sightings.forget()


def _cut(one: Sighting) -> Sighting:
    return Sighting(
        service=one.service[:LONGEST],
        system=one.system[:LONGEST],
        destination=one.destination[:LONGEST],
        operation=one.operation[:LONGEST],
        reason=one.reason,
        flow=one.flow[:LONGEST],
        count=one.count,
        first_seen=one.first_seen,
        last_seen=one.last_seen,
        samples=[sample[:LONGEST] for sample in one.samples],
    )
