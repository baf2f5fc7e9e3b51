"""Where a collector stands with the tracker, kept beside its spool so that the next process goes on from there.

The file is replaced (rename) before each send and after each answer. So a report that was sent and not answered is
sent again with the same sequence and the same lines after a SIGKILL, and the tracker sees one contiguous sequence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from collectors.logs import logger
from tracker.model.coverage import Report, SourceRef

STANDING = "standing.json"
"""In the spool folder."""


class Pending(msgspec.Struct, kw_only=True):
    """A report on its way. Its lines lie in the spool from `start` to `end`; all that happened until `reached`
    (epoch µs of the collector's steady clock) is in it or in earlier ones; None: it vouches for nothing yet. Lines
    are missing until `blind_until`; `settles` of its `dropped` lines are known from the spool's counter only.
    `clocked`: what the report says of the clock stays, however often it is sent, so that copies have equal times.
    `last`: it ends what was watched, alone in its epoch, and whoever comes after it begins another one."""

    report: Report
    start: int
    end: int
    reached: int | None
    blind_until: int = 0
    settles: int = 0
    let_go: list[SourceRef] = msgspec.field(default_factory=list)
    clocked: bool = False
    last: bool = False


class Standing(msgspec.Struct, kw_only=True):
    """`sequence` is the last report the tracker said yes to, `acknowledged` the spool position behind its lines.
    Nothing is vouched for until `blind_until`: lines are missing there; nor for a source before its moment in `begins`,
    however late the report is dated. `boot` names the host's run in which this was written; empty after an orderly
    close. `run` names it always, and `base` is that of the clock of all these moments (`collectors.clock.base_of`).
    `wall` is the difference between wall clock and ticks then (µs), and lines before the position `clocked_from` were
    dated by a wall clock that has been set since."""

    collector: str
    epoch: int
    sequence: int = 0
    acknowledged: int = 0
    reached: int | None = None
    blind_until: int = 0
    sources: list[SourceRef] = msgspec.field(default_factory=list)
    begins: list[tuple[SourceRef, int]] = msgspec.field(default_factory=list)
    pending: Pending | None = None
    boot: str = ""
    run: str = ""
    base: int = 0
    wall: int | None = None
    clocked_from: int = 0

    @property
    def undelivered(self) -> int:
        """The spool position from which lines have still to be delivered."""
        given_up = self.pending is not None and not self.pending.report.events
        return self.pending.end if self.pending and given_up else self.acknowledged


def base_before(path: Path) -> int:
    """The base of the clock by which an earlier process noted its moments in this run of the host; 0: none did."""
    old = _read(path)
    return old.base if old and old.run and old.run == _boot() else 0


def clocked(standing: Standing, base: int) -> Standing:
    """With the base of this process's clock."""
    return msgspec.structs.replace(standing, run=_boot(), base=base)


def load(path: Path, collector: str, now: int, lacks: Callable[[int], bool]) -> Standing:
    """The standing that an earlier process of this collector left, or a new one.

    The epoch goes on as long as nothing was lost: then the span in which no process ran is vouched for as soon as the
    spool is drained. It is a new one (start time in ms, always growing) at the first start, for another collector
    name, where the spool lacks records behind a position (`lacks`), and where the host went down without an orderly
    close, for then records may be missing without a trace: the tracker then shows a hole that ends `now` (epoch µs).
    """
    old = _not_ahead(_read(path), now)
    epoch = now // 1000
    if old is None:
        return Standing(collector=collector, epoch=epoch, blind_until=now if lacks(0) else 0, boot=_boot())
    reason = _break(old, collector, lacks)
    if not reason:
        return msgspec.structs.replace(old, boot=_boot())
    logger("collectors.spool").warning(
        "coverage starts anew: there is a hole since the last report", folder=str(path.parent), reason=reason
    )
    return Standing(
        collector=collector,
        epoch=max(epoch, old.epoch + 1),
        acknowledged=old.acknowledged,
        sources=old.sources if old.collector == collector else [],
        begins=old.begins if old.collector == collector else [],
        blind_until=now,
        boot=_boot(),
        wall=old.wall,
        clocked_from=old.clocked_from,
    )


def _not_ahead(old: Standing | None, now: int) -> Standing | None:
    """What an earlier process noted with a clock that has been set back since lies in the future. How far it had read
    is not known then; what it did not vouch for until such a moment, it does from now on."""
    if old is None:
        return None
    pending = old.pending
    if pending is not None:
        pending = msgspec.structs.replace(
            pending, reached=_past(pending.reached, now), blind_until=min(pending.blind_until, now)
        )
    return msgspec.structs.replace(
        old,
        reached=_past(old.reached, now),
        blind_until=min(old.blind_until, now),
        begins=[(source, min(begin, now)) for source, begin in old.begins],
        pending=pending,
    )


def _past(moment: int | None, now: int) -> int | None:
    return None if moment is None or moment > now else moment


def _break(old: Standing, collector: str, lacks: Callable[[int], bool]) -> str:
    if old.collector != collector:
        return f"the spool was written by {old.collector}"
    if lacks(old.acknowledged):
        return "the spool lacks records"
    if old.boot not in ("", _boot()):
        return "the host went down while the collector ran"
    return ""


def _boot() -> str:
    """What names this run of the host; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def save(path: Path, standing: Standing) -> None:
    """Replace the file in one step; a SIGKILL leaves the old or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(standing))
    os.replace(fresh, path)


def _read(path: Path) -> Standing | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        logger("collectors.spool").error("standing unreadable: starting anew", file=str(path), error=str(error))
        return None
