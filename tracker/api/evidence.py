"""What is vouched for in a flow, as the last pass left it, read from the store once per pass.

Whoever judges asks for this *before* the events: coverage is stored after the events it vouches for, so events that are
read later hold all that it speaks of.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tracker.control import Control
from tracker.model.coverage import Coverage
from tracker.model.spec import FlowSpec
from tracker.store import Store


@dataclass(frozen=True)
class Vouched:
    """Of one flow: its coverage, and whether range evidence was ever stored for it."""

    coverage: Coverage
    ranged: bool


class Evidence:
    """Thread-safe; asks the control database one cheap question per use."""

    def __init__(self, store: Store, control: Control) -> None:
        self._store, self._control = store, control
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, FlowSpec, Vouched]] = {}

    def of(self, spec: FlowSpec) -> Vouched:
        """What the last finished pass knew of the spec's flow."""
        last = self._control.passes.last_finished()
        number = last.number if last else 0
        with self._lock:
            known = self._known.get(spec.flow)
        if known is None or known[0] != number or known[1] is not spec:
            found = Vouched(self._store.coverage(spec), self._store.has_ranges(spec.flow))
            known = (number, spec, found)
            with self._lock:
                self._known[spec.flow] = known
        return known[2]
