"""A bounded log on disk between whoever observes and the sender: what was not acknowledged is sent again.

One process per folder. The folder holds segments (`<position>.seg`), the lock, and a page of counters, mapped like the
segments. Positions only grow, over restarts too: bytes since the folder was made, with gaps where a segment was left.

To make a file, and to give back what is left of one, is to wait for the file system. So the sender makes the next
segment before it is needed (`prepare`), and who appends only goes over to it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from collectors.clock import Clock, steady
from collectors.errors import SpoolHeld
from collectors.logs import logger
from collectors.segment import HEADER, Kind, Record, Segment

LIMIT = 256 * 2**20
"""Bytes that a spool may take on disk, unless told otherwise."""
SEGMENT = 8 * 2**20
REFUSED = -1
"""What `append` answers when the spool is full."""
_COUNTERS = struct.Struct("<QQ")  # lines refused since the folder was made; of these, settled
_LINES = Kind.lines  # Python 3.11 looks a member up by a call
_END = struct.Struct("<Q")  # the position behind the last record, written after it
_ORPHANED = struct.Struct("<QQ")  # lines that forked children could not put; of these, counted as refused
_ORPHANS_AT = _COUNTERS.size + _END.size


class Spool:
    """An append log of NDJSON lines, at most `limit` bytes on disk. `append`, `offer` and `lost` may be called by any
    number of threads; `prepare`, `read` and `release` by one, the sender. `clock` must not jump
    (`collectors.clock.steady`).

    Raises `SpoolHeld` when another process (or another spool of this one) has the folder.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT, segment: int = SEGMENT, clock: Clock | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.largest = min(segment, max(limit // 4, 4096)) - HEADER
        """Payload bytes that one record may have."""
        self._size, self._clock = self.largest + HEADER, clock or steady()
        self._mutex = threading.RLock()
        self._writing = self._closed = False
        """`_writing`: somebody who has the lock is in the middle of it. A signal handler or a finalizer may run in that
        very thread."""
        self._late: list[tuple[Kind | None, bytes, int]] = []
        self._making = threading.RLock()
        """Held while the next segment is made. Who has it never waits for the other one."""
        self._log = logger("collectors.spool")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(folder)
        self._counters = _counter_page(folder / "counters")
        self._claimed = 0  # refused lines that a report is about to declare
        self._unsettled = 0  # refused lines that neither the log nor a report declares yet
        self._count()
        (written,) = _END.unpack_from(self._counters, _COUNTERS.size)
        self._segments, self._damaged = _left(folder, written)
        self._end = self._segments[-1].end if self._segments else 0
        self._active: Segment | None = None
        self._ready: Segment | None = None
        self.appended = self.backlog = 0
        """Lines appended by this process, and lines not released yet."""
        self.opened_at, self.opened_end = self._clock(), self._end
        """When this process opened it, and the position where its own records begin."""

    # -- writing: any thread -------------------------------------------------------------------------------------

    def append(self, kind: Kind, payload: bytes, lines: int = 0, at: int | None = None) -> int:
        """Write one record; in the log when this returns. The position behind it, or `REFUSED` when there is no
        room: then the lines count as refused. `at` defaults to now."""
        with self._mutex:
            if self._writing:
                self._late.append((kind, payload, lines))
                return self._end
            self._writing = True
            try:
                position = self._append(kind, payload, lines, self._clock() if at is None else at)
                if position == REFUSED and lines and not self._closed:
                    self._count(refused=lines)
            finally:
                self._writing = False
                if self._late:
                    self._catch_up()
            return position

    def offer(self, kind: Kind, payload: bytes, lines: int) -> int:
        """Like `append`, for somebody who can wait and try again: no room is not a loss."""
        with self._mutex:
            if self._writing:
                return REFUSED
            with self._alone():
                return self._append(kind, payload, lines, self._clock())

    def lost(self, lines: int) -> None:
        """Count lines that never got here, for a defect on their way: coverage gets its hole at this place."""
        with self._mutex:
            if self._closed:
                return
            if self._writing:
                self._late.append((None, b"", lines))
                return
            with self._alone():
                self._count(refused=lines)
                self._write_dropped(self._clock())

    def lost_in_child(self, lines: int) -> None:
        """Called in a forked child, which has the map of the counters in common with the process that holds the folder,
        and nothing else that it may touch: a lock may be held for ever there. Of two children at once one may be
        forgotten; that some were lost is not."""
        (lost,) = _END.unpack_from(self._counters, _ORPHANS_AT)
        _END.pack_into(self._counters, _ORPHANS_AT, lost + lines)  # not what was counted: that is the other's

    def orphaned(self) -> tuple[int, int]:
        """(now, lines that forked children lost since this was asked last). They count as refused from here on; the
        caller declares them and then calls `settle`."""
        with self._mutex:
            lost, counted = _ORPHANED.unpack_from(self._counters, _ORPHANS_AT)
            fresh = 0 if lost == counted else max(1, lost - counted)
            if fresh:
                _ORPHANED.pack_into(self._counters, _ORPHANS_AT, lost, lost)
                self._claimed += fresh
                self._count(refused=fresh)
            return self._clock(), fresh

    def give_up(self, lines: int) -> None:
        """Count lines that were in the spool and cannot be delivered; a report on disk declares them already."""
        with self._mutex:
            self.backlog -= lines
            self._count(refused=lines, settled=lines)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Whoever writes meanwhile, in this very thread, waits. Only for those who hold the lock; `append` does the
        same by itself, for it is called per message."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before
            if self._late and not before:
                self._catch_up()

    def _catch_up(self) -> None:
        """A signal handler or a finalizer wrote while this thread did; what it wrote comes after."""
        while self._late:
            kind, payload, lines = self._late.pop(0)
            if kind is None:
                self.lost(lines)
            else:
                self.append(kind, payload, lines)

    def _append(self, kind: Kind, payload: bytes, lines: int, at: int) -> int:
        # Dated now, whatever `at` is: a mark lies before what was refused.
        if self._unsettled and kind is not Kind.dropped and not self._write_dropped(self._clock()):
            return REFUSED
        active = self._active
        if active is None or not active.append(kind, at, lines, payload):
            if len(payload) > self.largest or not self._rotate():
                return REFUSED
            return self._append(kind, payload, lines, at)
        self._end = end = active.base + active.tail
        _END.pack_into(self._counters, _COUNTERS.size, end)
        if kind is _LINES:
            self.appended += lines
            self.backlog += lines
        return end

    def _write_dropped(self, at: int) -> bool:
        """What was refused gets its place in the log, before the first line that is taken again."""
        count = self._unsettled
        if self._append(Kind.dropped, b"", count, at) == REFUSED:
            return False
        self._count(settled=count)
        return True

    def _rotate(self) -> bool:
        """Go over to the next segment; False when the bound or the disk forbids it, or the folder is no longer ours."""
        if self._closed:
            return False
        if self._active is not None and self._active.tail == 0:
            return False
        if self._active is not None:
            self._active.leave()
        if self._ready is None and not self._made():
            return False
        assert self._ready is not None
        self._active, self._ready = self._ready, None
        self._segments.append(self._active)
        return True

    def _made(self) -> bool:
        """The next segment, here and now: nobody has prepared it, or somebody does so right now."""
        for segment in self._segments:
            segment.seal()
        try:
            with self._making:
                self._make(filled=False)
        except OSError as error:
            self._log.error("spool cannot grow: lines are refused", folder=str(self.folder), error=str(error))
        return self._ready is not None

    def _make(self, filled: bool) -> None:
        """The next segment, unless it is there or the bound forbids it. Its position is known before the one that is
        written to now is full."""
        if self._ready is None and not self._closed and self.used + self._size <= self.limit:
            base = self._active.base + self._size if self._active else self._end
            self._ready = Segment.create(self.folder, base, self._size, filled)

    # -- reading: the sender ---------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Have the next segment ready once the present one is half full, and give back what is left of earlier ones."""
        with self._mutex:
            active, ended = self._active, self._segments[: -1 if self._active else None]
            wanted = self._ready is None and (active is None or 2 * active.tail >= self._size)
        for segment in ended:
            segment.seal()
        if wanted:
            with self._making, suppress(OSError):  # a full disk: who needs the segment tries again, and says so
                if self._active is active:
                    self._make(filled=True)

    @property
    def end(self) -> int:
        """The position behind the last record."""
        return self._end

    @property
    def used(self) -> int:
        """Bytes on disk."""
        ready = self._ready
        return sum(segment.size for segment in self._segments) + (ready.size if ready else 0)

    @property
    def refused(self) -> int:
        """Lines refused since the folder was made."""
        return int(_COUNTERS.unpack_from(self._counters)[0])

    def read(self, start: int) -> Iterator[Record]:
        """The records from position `start` to the end as it is now."""
        with self._mutex:
            segments, stop = list(self._segments), self._end
        for segment in segments:
            if segment.end > start:
                yield from segment.records(max(start, segment.base), stop)

    def drained(self, position: int) -> tuple[int, int] | None:
        """(now, lines refused and not declared) when nothing lies behind `position`, else None; in one step, so that
        whatever was appended before `now` lies before `position`. The caller declares these lines and then calls
        `settle`; should it die between the two, the next process declares them again."""
        with self._mutex, self._alone():
            if position < self._end:
                return None
            refused = self._unsettled
            self._claimed += refused
            self._count()
            return self._clock(), refused

    def settle(self, lines: int) -> None:
        """A report that is safely on disk declares `lines` refused lines (less than 0: it was taken back)."""
        with self._mutex:
            self._claimed -= max(0, lines)
            self._count(settled=lines)

    def lacks(self, acknowledged: int) -> bool:
        """True when records behind `acknowledged` that had been appended are not there any more: a disk fault, power
        loss, or somebody deleted files. (A record cut short by a SIGKILL does not count: its append never returned.)"""
        (written,) = _END.unpack_from(self._counters, _COUNTERS.size)
        return bool(written > max(self._end, acknowledged)) or self._damaged

    def resume(self, position: int, undelivered: int) -> None:
        """Take up the folder at `position`, up to which an earlier process had everything acknowledged; what it gave
        up lies between there and `undelivered`."""
        self._end = self.opened_end = max(self._end, position)
        self.backlog = sum(record.lines for record in self.read(undelivered) if record.kind is Kind.lines)
        self.release(position, 0)

    def release(self, position: int, lines: int) -> None:
        """Everything before `position` was acknowledged, `lines` lines more than at the last call: delete it."""
        with self._mutex, self._alone():
            self.backlog -= lines
            done = [s for s in self._segments if s.end <= position and s is not self._active]
            self._segments = [s for s in self._segments if s not in done]
        for segment in done:
            segment.remove()

    def close(self) -> None:
        """Give up the folder. What is not released stays in it, and is on disk, not only in the page cache. What comes
        after that is refused, and counted nowhere: the folder may be another process's by then. A signal handler that
        closes while its thread writes gives up nothing: the record gets its end, and goes with the process."""
        with self._mutex:
            if self._writing:
                return
            self._closed = True
            if self._active is not None:
                self._active.sync()
                self._active = None
            if self._ready is not None:
                self._ready.remove()
                self._ready = None
            for segment in self._segments:
                segment.seal()
            for segment in self._segments:
                segment.close()
            self.unlock()

    def unlock(self) -> None:
        """Let another process have the folder; a forked child does this with the copy of the lock that it got."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _count(self, refused: int = 0, settled: int = 0) -> None:
        total, done = _COUNTERS.unpack_from(self._counters)
        _COUNTERS.pack_into(self._counters, 0, total + refused, done + settled)
        self._unsettled = total + refused - done - settled - self._claimed


def _left(folder: Path, written: int) -> tuple[list[Segment], bool]:
    """What an earlier process left, and whether some of it is damaged. A file without a record goes: it was only
    prepared, or its first record was cut short, and the next one may need its name. `written`: the position behind the
    last record whose append returned."""
    found = [Segment.open(path) for path in sorted(folder.glob("*.seg"))]
    begun = [segment for segment in found if segment.tail or segment.base < written]
    damaged = any(segment.cut for segment in begun[:-1])
    for segment in found:
        if not segment.tail:
            segment.remove()
    return [segment for segment in begun if segment.tail], damaged


def _locked(folder: Path) -> int:
    """Hold the folder for this process. `flock` goes with the process, however it ends; a forked child would keep it
    held after the parent's death, so the child closes its copy."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise SpoolHeld(
            f"spool folder {folder} is held by process {holder}: one process per folder; "
            "stop that process or give this one another folder"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _counter_page(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size < mmap.PAGESIZE:
            os.pwrite(descriptor, bytes(mmap.PAGESIZE), 0)
        return mmap.mmap(descriptor, mmap.PAGESIZE)
    finally:
        os.close(descriptor)
