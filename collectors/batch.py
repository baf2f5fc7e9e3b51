"""The next report: which records it takes from the spool and up to what time it may vouch.

Coverage must never run ahead of events. So a report vouches for the time before the first record that it does *not*
hold was appended (for an instrumented client), or for the last mark that it does hold (for a reader, whose marks say
what it had seen). Lines that were refused are declared by the report that comes to their place in the log; reports
vouch for nothing then until they reach past the moment of the refusal.
"""

from __future__ import annotations

import msgspec

from collectors.segment import Kind, Record
from collectors.spool import Spool
from collectors.standing import Standing
from tracker.model.coverage import SourceRef


class Bounds(msgspec.Struct, frozen=True):
    """How much one report may hold. A single record that is larger goes alone. (Each report costs two writes of the
    standing and a way to the tracker and back; a proxy that takes less answers 413, and then they are halved.)"""

    lines: int = 20_000
    bytes: int = 8 * 2**20


class Batch(msgspec.Struct, kw_only=True):
    """What one report holds. `reached`: all that happened until then (epoch µs) is in it or before it, except the
    `declared` lines and earlier ones that were refused until `blind_until`. `settles` of the declared lines are known
    by the spool's counter only. `drained`: nothing lay behind it at that moment; None: something does. Sources `let_go`
    in its span must not be listed in it, whatever became of them."""

    end: int
    reached: int | None
    blind_until: int
    events: int = 0
    size: int = 0
    declared: int = 0
    settles: int = 0
    drained: int | None = None
    signed_off: list[SourceRef] = msgspec.field(default_factory=list)
    let_go: list[SourceRef] = msgspec.field(default_factory=list)
    parts: list[bytes] = msgspec.field(default_factory=list)
    following: Record | None = None

    @property
    def payload(self) -> bytes:
        """Its NDJSON lines."""
        return b"".join(self.parts)


def next_batch(spool: Spool, standing: Standing, bounds: Bounds, reader: bool) -> Batch:
    """The batch behind what was acknowledged; without events when there is nothing to send."""
    batch = Batch(end=standing.acknowledged, reached=standing.reached, blind_until=standing.blind_until)
    for record in spool.read(standing.acknowledged):
        if record.kind is Kind.lines and batch.events and not _fits(record, batch, bounds):
            batch.following = record
            break
        _take(record, batch, spool)
    now, orphaned = spool.orphaned()  # they have no place in the log: the next report declares them
    batch.settles = orphaned
    _declare(batch, now, orphaned)
    tail = None if batch.following else spool.drained(batch.end)
    if tail is not None:
        batch.drained = tail[0]
        batch.settles += tail[1]
        _declare(batch, *tail)
    if not reader:
        batch.reached = tail[0] if tail else _appended(batch.following or next(iter(spool.read(batch.end))), spool)
    return batch


def _fits(record: Record, batch: Batch, bounds: Bounds) -> bool:
    return batch.events + record.lines <= bounds.lines and batch.size + len(record.payload) <= bounds.bytes


def _take(record: Record, batch: Batch, spool: Spool) -> None:
    batch.end = record.end
    if record.kind is Kind.lines:
        batch.events += record.lines
        batch.size += len(record.payload)
        batch.parts.append(record.payload)
    elif record.kind is Kind.dropped:
        _declare(batch, _appended(record, spool), record.lines)
    elif record.kind is Kind.signed_off:
        batch.signed_off += msgspec.json.decode(record.payload, type=list[SourceRef])
    elif record.kind is Kind.let_go:
        batch.let_go += msgspec.json.decode(record.payload, type=list[SourceRef])
    elif record.at == _appended(record, spool):
        batch.reached = record.at
    else:  # the clock was set back since: nobody knows how far that was
        batch.reached = None


def _declare(batch: Batch, at: int, lines: int) -> None:
    if lines:
        batch.declared, batch.blind_until = batch.declared + lines, at


def _appended(record: Record, spool: Spool) -> int:
    """When the record was appended; those of an earlier process not after this one began, whatever its clock said."""
    return min(record.at, spool.opened_at) if record.end <= spool.opened_end else record.at


def payload(spool: Spool, start: int, end: int) -> bytes:
    """The NDJSON lines from `start` to `end`."""
    parts: list[bytes] = []
    for record in spool.read(start):
        if record.end > end:
            break
        if record.kind is Kind.lines:
            parts.append(record.payload)
    return b"".join(parts)
