"""Up to when all of it was read, of a system that pushes what it has and drops what it has no room for.

Such a system gives out at most `window` records that are not acknowledged. What comes meanwhile waits in a queue, which
has an end: the rest is dropped in silence, and counted, for all clients together. It answers questions in order, so
what it gave out before a question lies before the answer. Hence what it had given out at any moment between two answers
is known: at most what came before the second, without what was acknowledged before the first was asked. As long as that
is less than `window` nothing waited, and nothing was dropped. Otherwise there is a doubt, as after each absence, until
the system tells its count once more: the same count as before, in the same run of the system, and nothing is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from collectors.clock import Clock
from collectors.inbox import Inbox

EVERY = 200_000
"""Microseconds between two questions."""
ROOM = 500
"""Records on their way to us from which on the system may have found no room even for what it could give out."""
SLACK = 3_000_000
"""Microseconds by which the start of a run may seem to move: it is told in whole seconds, and that comes late."""
WRITE = 1_000_000
"""Microseconds between two writes of what only moved on."""


class Count(msgspec.Struct, frozen=True):
    """When this run of the system began (µs), what it had dropped for anybody, and until when we had all of it (µs).
    `dropped` None: it does not say, which means that it dropped nothing since `still` (µs)."""

    began: int
    dropped: int | None
    reached: int
    still: int = 0

    def lost_nothing_since(self, before: Count) -> bool:
        """The same run, and the same count, or none since."""
        same = self.still <= before.reached if self.dropped is None else self.dropped == before.dropped
        return same and abs(self.began - before.began) < SLACK


class Known(msgspec.Struct, frozen=True):
    """What the next process has to know. `what` is watched. `heard`: something of it came, so we are let to read it.
    `fleeting`: some of it is not kept for who is away, as was promised; `expiring`: some of it is forgotten after a
    while, and not counted then. `count`: None while it is not known how much was dropped when we had all of it."""

    what: str
    heard: bool = False
    fleeting: bool = False
    expiring: bool = False
    count: Count | None = None


class _Question(NamedTuple):
    number: int
    at: int
    came: int
    acknowledged: int


class Pushed:
    """Puts what it finds out as marks into `inbox`. `keeps`: everything is kept for who is away, so we were told;
    where it is not, it is vouched for as far as the count goes, and each connection is a hole. `longest`: for how long
    (µs) it is kept. What is `known` is in the file `path`, where there is one. Times are those of `clock` (µs)."""

    def __init__(
        self, what: str, inbox: Inbox, window: int, keeps: bool, longest: int, clock: Clock, path: Path | None
    ) -> None:
        self._inbox, self._window, self._keeps, self._longest = inbox, window, keeps, longest
        self._clock, self._path, self._written = clock, path, 0
        before = _read(path)
        self.other = before is not None and before.what != what
        """Whether something else was watched before."""
        self.known = before if before and not self.other else Known(what)
        count = self.known.count
        self._emptied = count.reached if count and count.reached <= clock() else None
        self.connection = 0
        """How many there were: part of what a record is known by."""
        self.begins()

    @property
    def _fleeting(self) -> bool:
        return self.known.fleeting or not self._keeps

    def begins(self) -> None:
        """A connection begins. Nothing is settled on it yet."""
        self.began, self.connection = self._clock(), self.connection + 1
        self.held: set[int] = set()
        """Not acknowledged."""
        self._came = self._kept = self._acknowledged = 0  # on this connection
        self._asked: _Question | None = None
        self._last_asked = 0
        self._before = _Question(0, 0, 0, 0)  # the last one that was answered
        self._answered: int | None = None
        self._counted: int | None = None  # what was dropped until this moment is in the count that is told now
        self._told: Count | None = None  # of which it is not known yet what was ours
        self._resumes = 0  # what was dropped before this moment is told
        self._doubt: int | None = self.began

    def goes_on(self, same: bool) -> None:
        """Whether the system knows us: then it kept what came while we were away, as far as it had room."""
        if not same:
            self._emptied = self.began
        elif self._emptied is None:
            self._emptied = self.began - self._longest
        self.other = False
        if not same or self._fleeting or self.known.expiring or self.known.count is None:
            self._doubt = None
            self._know(count=None)
            self._inbox.hole()

    def came(self, number: int) -> None:
        """A record, by its number on this connection; 0: it is not to be acknowledged."""
        self._came += 1
        if number:
            self._kept += 1
            self.held.add(number)

    def settled(self, records: Iterable[tuple[int, int]]) -> set[int]:
        """Which of these, by connection and number, are acknowledged now. What came on a connection that is gone comes
        again on the next one."""
        found = self.held & {number for connection, number in records if connection == self.connection}
        self.held -= found
        self._acknowledged += len(found)
        return found

    def learned(self, heard: bool = False, fleeting: bool = False, expiring: bool = False) -> None:
        """See `Known`."""
        known = self.known
        news = (fleeting and not self._fleeting) or (expiring and not known.expiring)
        if news:
            self._inbox.hole()
        if news or (heard and not known.heard):
            fleeting = known.fleeting or (fleeting and self._keeps)
            self._know(heard=heard or known.heard, fleeting=fleeting, expiring=expiring or known.expiring)

    def since(self, prompt: int) -> int | None:
        """For how long (µs) what comes now may have waited; None: less than `prompt`."""
        waited = self._clock() - (self._emptied or self.began)
        return waited if waited > prompt else None

    @property
    def waits(self) -> int | None:
        """For how long (µs) a question has been without its answer; None: none is."""
        return self._clock() - self._asked.at if self._asked else None

    @property
    def due(self) -> bool:
        """Whether to ask."""
        many = self._came - self._before.came >= ROOM // 5
        return self._asked is None and (many or self._clock() - self._last_asked >= EVERY)

    def asks(self, number: int) -> None:
        """A question is on its way; what was not answered before does not count any more."""
        self._last_asked = self._clock()
        self._asked = _Question(number, self._last_asked, self._came, self._acknowledged)

    def answered(self, number: int, proves: bool) -> None:
        """The answer came; `proves`: in its order."""
        asked, before = self._asked, self._before
        if asked is None or asked.number != number:
            return
        self._asked, self._before = None, asked
        if self._kept - before.acknowledged >= self._window or self._came - before.came >= ROOM:
            self._doubt = self._clock()
        if not proves or not self.known.heard:
            return
        self._answered = asked.at
        if self._doubt is None or self._doubt == self.began:
            self._emptied = asked.at
        if self._doubt is None and not self._fleeting:
            self._inbox.complete(asked.at)
            count = self.known.count
            if self._told:  # what was dropped until then was others'
                count, self._told = self._told, None
            if count and (count is not self.known.count or asked.at - self._written > WRITE):
                self._know(count=msgspec.structs.replace(count, reached=asked.at))

    def counts(self) -> None:
        """The system counts now, and tells it next."""
        self._counted = self._answered

    def told(self, began: int, dropped: int | None, still: int = 0) -> bool:
        """Its count, as `Count` has it. Whether to connect anew: what it found no room for on this connection it may
        give on the next one."""
        counted, self._counted = self._counted, None
        if counted is None or (self._doubt is not None and self._doubt > counted):
            return False
        count, last, doubt = Count(began, dropped, counted, still), self.known.count, self._doubt
        moved = last is None or not count.lost_nothing_since(last)
        hole = moved and (self._fleeting or doubt is not None)
        hole = hole or (doubt is not None and (self._fleeting or self.known.expiring))
        self._doubt = None
        if hole:
            self._inbox.hole()
        elif (doubt is not None or self._fleeting) and counted >= self._resumes:
            self._inbox.complete(counted)
        if last is not None and not moved:
            self._know(count=msgspec.structs.replace(last, reached=max(counted, last.reached)))
        elif self._fleeting:
            self._resumes = self._clock()
            self._know(count=count)
        else:
            self._told = count
        return hole and doubt is not None and doubt > self.began

    def _know(self, **changes: Any) -> None:
        self.known = msgspec.structs.replace(self.known, **changes)
        self._written = self._clock()
        if self._path:
            # The next process would not tell a hole that this one did not come to tell.
            kept = msgspec.structs.replace(self.known, count=None) if self._inbox.untold else self.known
            with suppress(OSError):  # an older one may make a hole, and hides none
                self._path.write_bytes(msgspec.json.encode(kept))


def _read(path: Path | None) -> Known | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Known) if path else None
    return None
