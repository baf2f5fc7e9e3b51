"""States and timers of a pass until they are stored: of many flows together, for every insert is a part of its own."""

from __future__ import annotations

import pyarrow as pa

from tracker.reconcile import rows
from tracker.store import Store

ENOUGH = 200_000
"""Rows that are worth a part."""


class Drafts:
    """Of one pass. What a state follows from is stored before it is added here: a message whose state is stored may not
    be looked at again when the pass is done again."""

    def __init__(self, store: Store, now: int) -> None:
        self._store, self._now = store, now
        self._states: list[pa.Table] = []
        self._rows = 0

    def add(self, states: pa.Table) -> None:
        """Store these states soon, and a timer for each that is to be looked at earlier than by a timer it has."""
        self._states.append(states)
        self._rows += states.num_rows
        if self._rows >= ENOUGH:
            self.store()

    def store(self) -> None:
        """Store all that is left."""
        if self._rows:
            states = pa.concat_tables(self._states)
            self._store.keep("states", states)
            self._store.keep("timers", rows.timers(states, self._now))
        self._states, self._rows = [], 0
