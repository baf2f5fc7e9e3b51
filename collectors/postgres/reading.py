"""Where the reading of a stream stands, and what of it the server may forget. Pure: no I/O."""

from __future__ import annotations

from collections import deque

from collectors.base import Raw
from collectors.postgres.pgoutput import LSN, Begin, Relation, Truncate, parsed
from collectors.postgres.rows import Place


class Reading:
    """Where reading one stream stands in the log, and what of it may be confirmed. Pure. Positions of an earlier
    `stream` say nothing: what was not confirmed there comes again, perhaps from another server."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.relations: dict[int, Relation] = {}
        self.confirmable: LSN = 0
        self._committed = self._last = (0, 0)
        self._begun: Begin | None = None
        self._count = 0
        self._ends: deque[tuple[tuple[LSN, int], LSN]] = deque()
        self._reached: LSN = 0

    def begin(self, begin: Begin) -> None:
        """A transaction comes."""
        self._begun, self._count = begin, 0

    def changes(self, payload: bytes) -> list[Raw]:
        """A change of the transaction under way, as raw records: one, or one per table that was truncated."""
        begun = self._begun
        if begun is None:
            return []
        truncated = parsed(payload) if payload[:1] == b"T" else None
        oids = truncated.oids if isinstance(truncated, Truncate) else (int.from_bytes(payload[1:5], "big"),)
        raws = []
        for relation in (self.relations[oid] for oid in oids if oid in self.relations):  # those of others are not
            self._count += 1
            self._last = (begun.lsn, self._count)
            raws.append(Raw(payload, position=Place(begun.lsn, self._count, begun.at, relation, self.stream)))
        return raws

    def end(self, end: LSN) -> None:
        """The transaction was handed out whole."""
        if self._begun and self._count:
            self._ends.append(((self._begun.lsn, self._count), end))
        self._begun = None
        self.passed(end)

    def passed(self, lsn: LSN) -> None:
        """All in the log before `lsn` was handed out, or is none of ours."""
        if self._begun is None:
            self._reached = max(self._reached, lsn)
            self._settle()

    def done(self, place: Place) -> None:
        """The tracker has everything up to this change."""
        if place.stream == self.stream:
            self._committed = max(self._committed, (place.lsn, place.index))
            self._settle()

    def _settle(self) -> None:
        while self._ends and self._ends[0][0] <= self._committed:
            self.confirmable = max(self.confirmable, self._ends.popleft()[1])
        if not self._ends and self._committed >= self._last:
            self.confirmable = max(self.confirmable, self._reached)
