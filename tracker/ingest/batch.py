"""What one request brings to the store: columns, and what to answer about the lines that were no good."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from tracker.store.columns import EVENTS, QUARANTINE, RANGES, REPORTS

MAX_ERRORS = 1000
"""So many bad lines are listed in an answer; all of them are in quarantine."""


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that went to quarantine. `line` counts from 1; 0 is the coverage header."""

    line: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a request whose good lines are stored. `errors` lists the first `MAX_ERRORS`."""

    accepted: int
    quarantined: int
    errors: list[LineError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one request, not stored yet, and the answer to give once they are."""

    answer: Accepted
    events: pa.Table = field(default_factory=EVENTS.empty_table)
    ranges: pa.Table = field(default_factory=RANGES.empty_table)
    quarantine: pa.Table = field(default_factory=QUARANTINE.empty_table)
    reports: pa.Table = field(default_factory=REPORTS.empty_table)

    @property
    def rows(self) -> int:
        """Rows of all kinds."""
        return int(self.events.num_rows + self.ranges.num_rows + self.quarantine.num_rows + self.reports.num_rows)

    @property
    def size(self) -> int:
        """Bytes of memory that the rows hold."""
        return int(self.events.nbytes + self.ranges.nbytes + self.quarantine.nbytes + self.reports.nbytes)
