"""Where accepted batches wait on disk while the store is down or slow: a queue of segments, bounded, crash-safe.

What `append` returned from is on disk, and stays there until `done` says that the store has it. Batches come out in the
order in which they went in, after a restart, too. Each process begins a segment of its own and appends to no other, so
a tail that a crash tore off hides nothing behind it. A segment is removed once all of it is done; what a crash leaves
half done comes out again, and copies of rows count once. See docs/adr/0013-the-spool.md.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from tracker.ingest import segment
from tracker.ingest.batch import Batch
from tracker.ingest.errors import Busy
from tracker.model.errors import Invalid, Unavailable

log = structlog.get_logger()

SEGMENT = 16 << 20
"""Bytes at which the next segment begins: so much is stored twice at most when a crash interrupts the drain."""
FILES = "[0-9]" * 16 + ".spool"
"""Segments, in a folder's `glob`; their names grow."""
MANY = 1000
"""Batches that are taken out at once: a small one needs much more memory than disk."""
ASIDE = "aside"
"""The folder, in the spool's, of what could not be read or stored."""
_NEXT = (
    "its events were answered and are not in the ledger: keep the file, look at the disk, let the senders send "
    "that time again (docs/ingest.md)"
)


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that waits: where it stands in its segment, and what it is."""

    start: int
    end: int
    batch: Batch


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    """Bytes that are known to be good; what lies behind them was answered to nobody."""
    keep: bool = False
    """It is moved aside when all else of it is done, because a part of it could not be copied there."""


class Spool:
    """One process's spool. One thread appends at a time, one takes out; any may ask. Make it with `Spool.open`."""

    def __init__(self, folder: Path, limit: int, fsync: bool, clock: Callable[[], int], each: int = SEGMENT) -> None:
        self.folder, self.limit, self._fsync, self._clock, self._each = folder, limit, fsync, clock, each
        self._lock, self._appending = threading.Lock(), threading.Lock()
        self._segments: list[_Segment] = []
        self._read = 0
        """Bytes of the first segment that are done with."""
        self._file: int | None = None
        self._number = 0
        self._guard = -1
        self._first: tuple[tuple[Path, int], int | None] | None = None
        self.set_aside = 0
        """Records that could not be read or stored, since the start."""

    @classmethod
    def open(
        cls, folder: Path, limit: int, fsync: bool, ledger: str, clock: Callable[[], int], each: int = SEGMENT
    ) -> Spool:
        """The spool in `folder`, with what an earlier process left. At most `limit` bytes; `fsync`: what was appended
        survives power loss. `ledger` is the installation whose batches these are; `clock` gives µs.

        Raises Invalid when another ledger's batches wait there, Unavailable when the folder cannot be used.
        """
        spool = cls(folder, limit, fsync, clock, each)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            spool._hold()
            found = sorted(folder.glob(FILES))
            spool._belongs(ledger, bool(found))
            spool._segments = [_Segment(path, path.stat().st_size) for path in found]
        except OSError as error:
            spool.close()
            raise Unavailable(f"the spool {folder} cannot be used: {error.strerror}; mend it or set TRACKER_SPOOL to "
                              "a folder that can be written") from None  # fmt: skip
        except BaseException:
            spool.close()
            raise
        spool._number = max((int(path.stem) for path in found), default=0)
        if found:
            log.warning("spool_holds_batches", folder=str(folder), bytes=spool.size, next="they are stored now")
        return spool

    def _hold(self) -> None:
        self._guard = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"the spool {self.folder} is held by another tracker: `fuser {self.folder}/lock` names "
                              "it; give each process a TRACKER_SPOOL of its own") from None  # fmt: skip

    def _belongs(self, ledger: str, filled: bool) -> None:
        note = self.folder / "ledger"
        other = note.read_text("utf-8").strip() if note.exists() else ""
        if other == ledger:
            return  # not written again: the disk may be full
        if other and filled:
            raise Invalid(f"in the spool {self.folder} batches wait for the ledger of installation {other}, and this "
                          f"one is of {ledger}: start a tracker on that ledger, which stores them, or set "
                          "TRACKER_SPOOL to another folder")  # fmt: skip
        note.write_text(ledger + "\n", "utf-8")

    # --- what waits -----------------------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """True while anything waits here."""
        return bool(self._segments)

    @property
    def size(self) -> int:
        """Bytes on disk of what waits, and of what is done in segments that are not."""
        with self._lock:
            return sum(part.size for part in self._segments)

    def oldest(self) -> int | None:
        """When the oldest batch that waits was taken, µs; None when nothing waits."""
        with self._lock:
            if not self._segments:
                return None
            first, place = self._segments[0], (self._segments[0].path, self._read)
            if self._first is None or self._first[0] != place:
                with suppress(OSError):  # what cannot be read is told by who takes it out
                    self._first = (place, segment.oldest(first.path, self._read, first.size))
            return self._first[1] if self._first else None

    # --- in ---------------------------------------------------------------------------------------------------------

    def append(self, batches: Sequence[Batch]) -> int:
        """Keep these, in this order, all or none; they share one fsync. The bytes that they take. Raises Busy when they
        do not fit."""
        now = self._clock()
        data = b"".join(segment.record(batch, now) for batch in batches)
        if self.size + len(data) > self.limit:
            raise Busy(f"the spool {self.folder} is full ({self.limit >> 20} MiB, TRACKER_SPOOL_MB): what was "
                       "answered is kept; send this again once the store takes events again")  # fmt: skip
        try:
            with self._appending:
                self._write(self._writable(), data)
        except OSError as error:
            hint = "free space on its disk or set TRACKER_SPOOL to another; what was answered is kept"
            log.error("spool_write_failed", folder=str(self.folder), reason=error.strerror, next=hint)
            raise Busy(f"the spool {self.folder} cannot be written: {error.strerror}; "
                       "what was answered is kept") from None  # fmt: skip
        return len(data)

    def _writable(self) -> _Segment:
        """The last segment, or a new one where there is none of ours or it is large enough."""
        if self._file is not None and self._segments and self._segments[-1].size < self._each:
            return self._segments[-1]
        self._leave()
        self._number = max(self._number + 1, self._clock())  # a name that no file that was set aside has
        path = self.folder / f"{self._number:016d}.spool"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return _Segment(path, 0)

    def _write(self, part: _Segment, data: bytes) -> None:
        """Behind what is good. A failed fsync says nothing of later ones, so nothing is appended behind it."""
        assert self._file is not None
        try:
            _all(self._file, data)
            if self._fsync:
                os.fdatasync(self._file)
                if not part.size:
                    _sync_folder(self.folder)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, part.size)
            self._leave()
            if not part.size:
                with suppress(OSError):
                    part.path.unlink()
            raise
        with self._lock:
            if not part.size:
                self._segments.append(part)
            part.size += len(data)

    def _leave(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    # --- out --------------------------------------------------------------------------------------------------------

    def peek(self, rows: int) -> list[Held]:
        """The oldest batches, of `rows` rows together or one, all of one segment. What cannot be read is set aside on
        the way. Empty when nothing waits. Raises OSError when it cannot be read now."""
        while self._segments:
            with self._lock:
                part, start, until = self._segments[0], self._read, self._segments[0].size
            try:
                found = _good(part.path, start, until, rows)
                if found:
                    return found
                self._skip(part, start, until)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._lose(part)
        return []

    def done(self, last: Held) -> None:
        """The store has everything up to `last`, which `peek` gave."""
        self._past(self._segments[0], last.end)

    def reject(self, held: Held, reason: str) -> None:
        """The store will never take this batch: it is set aside, so that it is in nobody's way, and done."""
        self._aside(self._segments[0], held.start, held.end, f"the store refuses it: {reason}")
        self.done(held)

    def _past(self, part: _Segment, end: int) -> None:
        """Go on behind `end`; a segment that is done with is removed, also the one that is appended to."""
        with self._appending, self._lock:
            self._read = end
            if end < part.size:
                return
            if len(self._segments) == 1:
                self._leave()
            self._segments.pop(0)
            self._read = 0
        with suppress(OSError):  # a file that stays is stored again after a restart
            if part.keep:
                part.path.rename(self._shelf() / part.path.name)
            else:
                part.path.unlink()

    def _skip(self, part: _Segment, start: int, until: int) -> None:
        """Past the first record, which is none that can be read."""
        one = next(segment.records(part.path, start, until), None)
        if one is None:
            self._past(part, until)
            return
        if one.torn:
            why = "the tracker or the machine ended while it was written; nobody was told that it was kept"
            log.warning("spool_tail_dropped", file=str(part.path), at=one.start, bytes=one.end - one.start, why=why)
        else:
            self._aside(part, one.start, one.end, "its checksum does not fit: the disk changed it")
        self._past(part, one.end)

    def _lose(self, part: _Segment) -> None:
        """The disk does not give this segment any more: it leaves the way as a whole."""
        self.set_aside += 1
        part.keep = True
        kept, reason = str(self._shelf() / part.path.name), "its disk cannot read it"
        log.error("spool_segment_set_aside", file=kept, bytes=part.size, reason=reason, next=_NEXT)
        self._past(part, part.size)

    def _aside(self, part: _Segment, start: int, end: int, reason: str) -> None:
        """Keep the bytes in a file of their own."""
        self.set_aside += 1
        kept = self._shelf() / f"{part.path.stem}-{start}.batch"
        try:
            with part.path.open("rb") as file:
                file.seek(start)
                kept.write_bytes(file.read(end - start))
        except OSError:
            kept, part.keep = self._shelf() / part.path.name, True
        log.error("spool_batch_set_aside", file=str(kept), at=start, bytes=end - start, reason=reason, next=_NEXT)

    def _shelf(self) -> Path:
        shelf = self.folder / ASIDE
        with suppress(OSError):
            shelf.mkdir(exist_ok=True)
        return shelf

    def close(self) -> None:
        """Let go of the folder; what waits stays. Idempotent."""
        self._leave()
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1


def _good(path: Path, start: int, until: int, rows: int) -> list[Held]:
    """The batches from `start` on, up to `rows` rows or the first that cannot be read."""
    found: list[Held] = []
    taken = 0
    for one in segment.records(path, start, until):
        if one.batch is None or len(found) == MANY or (found and taken + one.rows > rows):
            break
        found.append(Held(one.start, one.end, one.batch))
        taken += one.rows
    return found


def _all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
