"""The archive of one collector while it runs: takes what it read, and says when that is durable.

What is read is gathered (a generation) and written by a thread of its own, one segment and one index for each flow and
hop of it. While one generation is written the next one fills up; when that is full, there is no room. So memory is
bounded by two generations, and what does not fit stays in the system that is watched.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectors.archive.config import ArchiveConfig
from collectors.archive.gathering import Gathered, Gathering, Place, gather
from collectors.archive.lost import Lost, Untold
from collectors.archive.manifest import Books, Hole
from collectors.archive.shelf import Shelf
from collectors.archiving import Archived, Contents
from collectors.base import Observation, Raw
from collectors.clock import Clock, now_micros
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.logs import logger
from collectors.part import settings
from collectors.spool import REFUSED
from tracker.model.coverage import SourceRef


@dataclass(frozen=True)
class Pace:
    """Seconds. `backoff`: first and longest pause while the store is away, full jitter; `patience`: how long one that
    is not required is tried; `idle`: between two manifests while nothing comes, in times of `every`; `prune`: between
    two looks for old segments."""

    backoff: tuple[float, float] = (0.2, 30.0)
    patience: float = 30.0
    idle: float = 6.0
    prune: float = 3600.0


class Generation:
    """What is written at one time. `left`: what of it is not written yet; `told`: the manifests that hold once it is,
    and `holes`: how many of the untold holes stand in them."""

    def __init__(self, number: int, gathered: Gathered) -> None:
        self.number, self.gathered, self.left = number, gathered, dict(gathered.rows)
        self.sequences: dict[Place, int] = {}
        self.told: list[tuple[str, bytes]] = []
        self.holes = 0
        self.bytes = self.segments = 0


def archive(name: str, config: Mapping[str, Any], contents: Contents, folder: Path, most: int) -> Archive:
    """The archive of collector `name`, as `archive` of its configuration says. `contents`: what a record holds;
    `folder`: the collector's own; `most`: records of one generation. Raises `ConfigInvalid`, `MissingExtra`."""
    return Archive(name, settings(ArchiveConfig, config, f"collector {name}: archive"), contents, folder, most)


class Archive:
    """Implements `Archiving`."""

    def __init__(
        self,
        name: str,
        config: ArchiveConfig,
        contents: Contents,
        folder: Path,
        most: int,
        *,
        pace: Pace | None = None,
        clock: Clock = now_micros,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._config, self._contents, self._folder = config, contents, folder
        self._pace, self._clock, self._chance = pace or Pace(), clock, chance
        self._flows, self._shelf = frozenset(config.flows), Shelf(name, config)
        self._changed = threading.Condition()
        self._open = Gathering(config.every, most, config.segment_mb * 2**20, time.monotonic)
        self._books = Books(name, config.flows)
        self._untold: Untold
        self._wanted = self._durable = self._tries = 0
        self._vouched: Sequence[SourceRef] | None = None
        self._reached: int | None = None
        self._stopping = False
        self._fatal: CollectorError | None = None
        self._archived = Archived()
        self._told_at = self._prune_at = self._failing_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"archive {name}", daemon=True)
        self._log = logger("collectors.archive").bind(collector=name)

    @property
    def durable(self) -> int:
        """See `Archiving`."""
        return self._durable

    @property
    def archived(self) -> Archived:
        """See `Archiving`."""
        return self._archived

    def start(self) -> None:
        """See `Archiving`. Raises `ConfigInvalid`."""
        self._untold = Untold(self._folder)
        self._thread.start()

    def add(self, raws: Sequence[Raw], seen: Sequence[Observation]) -> int:
        """See `Archiving`. 0 when there is nothing to keep."""
        with self._changed:
            self._raise()
            if self._open.full:
                return REFUSED
        gathered = gather(raws, seen, self._flows, self._contents)  # only this thread adds: the room stays
        if not gathered.records:
            return 0
        with self._changed:
            self._open.add(gathered)
            self._count(waiting_records=gathered.records, waiting_bytes=gathered.size)
            self._changed.notify_all()
            return self._open.number

    def vouch(self, sources: Sequence[SourceRef], reached: int | None) -> None:
        """See `Archiving`. A list that is given again is looked at when the manifests are told."""
        with self._changed:
            if sources is self._vouched:
                self._reached = self._reached if reached is None else reached
                return
            self._catch_up()
            self._books.vouch(sources, reached)
            self._vouched = sources

    def _catch_up(self) -> None:
        if self._vouched is not None and self._reached is not None:
            self._books.vouch(self._vouched, self._reached)
            self._reached = None

    def wait(self, number: int, timeout: float) -> bool:
        """See `Archiving`."""
        with self._changed:
            self._wanted = max(self._wanted, number)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._durable >= number or self._fatal, timeout)
            self._raise()
            return self._durable >= number

    def room(self, timeout: float) -> None:
        """See `Archiving`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open.full or self._fatal, timeout)
            self._raise()

    def close(self, timeout: float = 5.0) -> None:
        """See `Archiving`. A file that is being written is waited for, at most `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _raise(self) -> None:
        if self._fatal:
            raise self._fatal

    def _run(self) -> None:
        """The thread. What ends it is raised where the collector runs."""
        try:
            self._until_done(self._load)  # before anything is read: a key that does not fit is told at once
            while (generation := self._next()) is not None:
                self._settle(generation)
            self._last_word()
        except CollectorError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - must not look as if all were kept; its text may hold a payload
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._end(CollectorError(f"archive: defect: {type(error).__name__} in {where.name}, line {where.lineno}"))

    def _end(self, error: CollectorError) -> None:
        self._log.error("archive ended: the collector stops with it", error=str(error))
        with self._changed:
            self._fatal = error
            self._archived = replace(self._archived, error=str(error))
            self._changed.notify_all()

    def _next(self) -> Generation | None:
        """What is to be written next, when it is time; with nothing in it, only the manifest. None: it is over."""
        with self._changed:
            while not self._stopping:
                wanted = self._open.records and self._wanted >= self._open.number
                due = 0.0 if wanted else self._open.due_in()
                idle = self._told_at + self._pace.idle * self._config.every - time.monotonic()
                if due <= 0 or (idle <= 0 and not self._open.records):
                    return self._taken()
                self._changed.wait(min(due, max(idle, 0.01)))
        return None

    def _taken(self) -> Generation:
        """The open generation, closed; the next one has room. What was vouched for until now is in the manifests."""
        generation = Generation(*self._open.close()) if self._open.records else Generation(0, Gathered({}, 0, 0))
        if self._books.loaded:
            self._numbered(generation)
            self._catch_up()
            generation.told, generation.holes = self._books.told(), len(self._untold.holes)
        self._told_at = time.monotonic()
        self._changed.notify_all()
        return generation

    def _numbered(self, generation: Generation) -> None:
        for place in generation.left:
            generation.sequences[place] = self._books.next(*place)

    def _settle(self, generation: Generation) -> None:
        """Write it until it is durable, was given up, or all is over."""
        kept = True
        while generation.left and kept and not self._until_done(lambda: self._write(generation)):
            if self._stopping:
                return  # not committed, so it comes again
            kept = not self._given_up(generation)
        if generation.number:
            self._close(generation)
        if kept:
            self._once(lambda: self._tell(generation))
        if self._config.keep and time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + self._pace.prune
            self._once(self._prune)

    def _load(self) -> None:
        if self._books.loaded:
            return
        manifests, newest = self._shelf.found()
        with self._changed:
            self._books.load(manifests, newest)
            for flow, hop, hole in self._untold.holes:
                self._books.missed(flow, hop, hole)

    def _write(self, generation: Generation) -> None:
        """What is left of it."""
        self._load()
        if not generation.sequences:
            with self._changed:
                self._numbered(generation)
        for place, rows in list(generation.left.items()):
            generation.bytes += self._shelf.write(*place, generation.sequences[place], rows)
            generation.segments += 1
            del generation.left[place]

    def _tell(self, generation: Generation) -> None:
        self._load()
        for flow, manifest in generation.told:
            self._shelf.tell(flow, manifest)
        self._untold.told(generation.holes)

    def _prune(self) -> None:
        deleted = self._shelf.prune(self._clock())
        if deleted:
            self._log.info("segments deleted: older than `keep`", segments=deleted)

    def _last_word(self) -> None:
        """Up to when it was complete, at an orderly end."""
        if self._books.loaded and not self._open.records and not self._archived.error:
            with self._changed:
                generation = self._taken()
            self._once(lambda: self._tell(generation))

    def _given_up(self, generation: Generation) -> bool:
        """Note what is left of it as holes; whether that is durable."""
        lost: list[Lost] = []
        for (flow, hop), rows in generation.left.items():
            times = [row.observed_at for row in rows]
            sequence = generation.sequences.get((flow, hop), 0)
            lost.append((flow, hop, Hole(min(times), max(times), len(rows), sequence, "the store was away")))
        try:
            self._untold.add(lost)
        except Unavailable as error:
            self._failed(error)
            return False
        with self._changed:
            for flow, hop, hole in lost:
                self._books.missed(flow, hop, hole)
        return True

    def _close(self, generation: Generation) -> None:
        """It is durable, or told as lost."""
        lost = sum(map(len, generation.left.values()))
        if lost:
            self._log.error("not archived: given up, and noted as a hole", records=lost, error=self._archived.error)
        with self._changed:
            records, size = generation.gathered.records, generation.gathered.size
            self._durable = max(self._durable, generation.number)
            self._count(
                records=records - lost, lost=lost, bytes=generation.bytes, segments=generation.segments,
                waiting_records=-records, waiting_bytes=-size,
            )  # fmt: skip
            if generation.segments:
                self._archived = replace(self._archived, at=self._clock())
            self._changed.notify_all()

    def _until_done(self, step: Callable[[], None]) -> bool:
        """Try until it is done: not when all is over, nor, where the archive is not required, for longer than
        patience."""
        while not self._once(step):
            tired = time.monotonic() - self._failing_since >= self._pace.patience
            if (tired and not self._config.required) or not self._paused():
                return False
        return True

    def _once(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (Unavailable, ConfigInvalid) as error:  # the second: a key that was there, and may be there again
            self._failed(error)
            return False
        if self._tries:
            self._log.info("archive: the store answers again")
            self._tries = 0
            with self._changed:
                self._archived = replace(self._archived, error="")
        return True

    def _failed(self, error: CollectorError) -> None:
        if str(error) != self._archived.error:
            self._log.warning("archive: not now; will try again", error=str(error))
        self._failing_since = self._failing_since if self._tries else time.monotonic()
        self._tries += 1
        with self._changed:
            self._count(failures=1)
            self._archived = replace(self._archived, error=str(error))

    def _paused(self) -> bool:
        """A pause, the longer the more often it failed; whether to go on."""
        first, longest = self._pace.backoff
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping, self._chance() * min(longest, first * 2 ** min(self._tries, 20))
            )
            return not self._stopping

    def _count(self, **more: int) -> None:
        now = self._archived
        self._archived = replace(now, **{name: getattr(now, name) + count for name, count in more.items()})
