"""The collectors of one process: started, stopped and exchanged as a configuration says, each in a thread of its own.

One thread calls `apply`, `tick` and `stop`; nothing here waits for a collector. One that has to end first is told to
stop, and `tick` puts its successor into its place once it has: a spool folder has one holder at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from collectors.archiving import Archiving
from collectors.base import Collector
from collectors.clock import Clock
from collectors.config import CollectorAt, Config, Located
from collectors.emitter import Emitter
from collectors.errors import CollectorError, ConfigInvalid
from collectors.logs import logger
from collectors.registry import KINDS, archive, factory
from collectors.retirement import Retirement
from collectors.runner import Bounds, Health, Runner
from collectors.sender import Counts, Pace
from collectors.status import Seen


@dataclass(frozen=True)
class Wanted:
    """All that a collector is made of. Two that are equal are the same collector: it is left alone."""

    at: CollectorAt
    url: str
    token: str
    timeout: float
    folder: Path
    limit: int
    heartbeat: float

    def emitter(self) -> Emitter:
        """Its emitter. Raises `SpoolHeld`, and `ConfigInvalid` when the folder cannot be used."""
        own_clock = not self.at.retired and KINDS[self.at.kind].own_clock(self.at.settings)
        try:
            return Emitter(
                self.url, self.token, collector=self.at.name, spool=self.folder, reader=True, own_clock=own_clock,
                limit=self.limit,
                timeout=self.timeout, pace=Pace(heartbeat=self.heartbeat),
            )  # fmt: skip
        except OSError as error:
            raise ConfigInvalid(f"collector {self.at.name}: spool {self.folder}: {error.strerror}") from error


class Made(NamedTuple):
    """A collector, not connected yet, and the archive that it fills, if it does."""

    collector: Collector
    archive: Archiving | None = None


class Member:
    """A collector that runs, or will once its predecessor has ended. `made`: None for one that is retired."""

    def __init__(self, wanted: Wanted, made: Made | None, clock: Clock) -> None:
        self.wanted, self._made, self._clock = wanted, made, clock
        self._emitter: Emitter | None = None
        self._body: Runner | Retirement | None = None
        self._thread: threading.Thread | None = None
        self._failed: Health | None = None

    @property
    def health(self) -> Health:
        """As it is now."""
        return self._failed or (self._body.health if self._body else Health(self.wanted.at.name))

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def seen(self) -> Seen:
        """For those who ask from outside."""
        counts = self._emitter.counts if self._emitter else Counts(spool_limit=self.wanted.limit)
        archived = self._made.archive.archived if self._made and self._made.archive else None
        return Seen(self.wanted.at.name, self.wanted.at.kind, self.health, counts, archived)

    def take_spool(self) -> None:
        """Hold the spool folder from now on. Raises `SpoolHeld`, `ConfigInvalid`."""
        self._emitter = self._emitter or self.wanted.emitter()

    def start(self) -> None:
        """Run in a thread. What cannot even begin is failed, like what ends for good."""
        name, rejects = self.wanted.at.name, self.wanted.folder / "undecodable.ndjson"
        try:
            self.take_spool()
        except CollectorError as error:
            logger("collectors.main").error("collector cannot start", collector=name, error=str(error))
            self._failed = replace(self.health, state="failed", last_error=str(error))
            self.discard()
            return
        assert self._emitter is not None
        self._body = (
            Runner(name, self._made.collector, self._emitter, rejects, archive=self._made.archive, clock=self._clock)
            if self._made
            else Retirement(name, self._emitter)
        )
        self._thread = threading.Thread(target=self._run, args=(self._body,), name=name)
        self._thread.start()

    def stop(self) -> None:
        """Finish. From any thread."""
        if self._body:
            self._body.stop()

    def discard(self) -> None:
        """Let go of one that never ran."""
        if self._emitter:
            self._emitter.close(timeout=0.0)
        if self._made:
            self._made.collector.close()

    def _run(self, body: Runner | Retirement) -> None:
        try:
            body.run()
        except Exception as error:  # noqa: BLE001 - the top of a collector's thread; logged, and the exit code tells
            logger("collectors.main").exception("collector ended", collector=self.wanted.at.name)
            self._failed = replace(body.health, state="failed", last_error=str(error) or repr(error))


class Fleet:
    """`clock` must not jump. `path` names the configuration in errors."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._members: dict[str, Member] = {}
        self._next: dict[str, Member | None] = {}
        """Of those that have to end: who comes after them, or nobody."""
        self._log = logger("collectors.main")

    def apply(self, located: Located) -> None:
        """Run what the configuration names, and nothing else: what is new or has failed is started, what is gone is
        stopped, what has changed is exchanged, what is the same is left alone. Raises `CollectorError`, and then
        nothing has changed."""
        wanted = all_wanted(located.config)
        fresh = self._prepared({name: each for name, each in wanted.items() if not self._has(each)}, located)
        new, again = [name for name in fresh if name not in self._members], [n for n in fresh if n in self._members]
        gone = [name for name in self._members if name not in wanted]
        self._log.info(
            "configuration in force", started=new, stopped=gone, restarted=again,
            unchanged=len(wanted) - len(fresh),
        )  # fmt: skip
        for name in [*gone, *again]:
            self._exchange(name, fresh.get(name))
        for name in new:
            self._members[name] = fresh[name]
            fresh[name].start()
        self.tick()

    def tick(self) -> bool:
        """Put successors into the places of those that have ended; whether any collector runs, or will."""
        for name in [name for name in self._next if not self._members[name].alive]:
            following = self._next.pop(name)
            if following is None:
                del self._members[name]
                self._log.info("collector is gone", collector=name)
            else:
                self._members[name] = following
                following.start()
        return any(member.alive for member in self._members.values())

    def stop(self) -> None:
        """Finish all, and start no successor."""
        for following in filter(None, self._next.values()):
            following.discard()
        self._next.clear()
        for member in self._members.values():
            member.stop()

    def seen(self) -> list[Seen]:
        """All collectors. From any thread."""
        return [member.seen for member in list(self._members.values())]

    @property
    def failed(self) -> bool:
        """Whether one of them ended because trying again would not help."""
        return any(member.health.state == "failed" for member in self._members.values())

    def _has(self, wanted: Wanted) -> bool:
        name = wanted.at.name
        if name in self._next:
            following = self._next[name]
            return following is not None and following.wanted == wanted
        member = self._members.get(name)
        return member is not None and member.wanted == wanted and member.health.state != "failed"

    def _prepared(self, wanted: Mapping[str, Wanted], located: Located) -> dict[str, Member]:
        """All of them, or none. A spool folder that nobody here holds is taken now."""
        found = made(wanted, located, self._path)
        members = {name: Member(each, found[name], self._clock) for name, each in wanted.items()}
        try:
            for name, member in members.items():
                if name not in self._members:
                    member.take_spool()
        except BaseException:
            for member in members.values():
                member.discard()
            raise
        return members

    def _exchange(self, name: str, following: Member | None) -> None:
        """Let `following` come after the one that runs, in place of whoever should have."""
        waiting = self._next.get(name)
        if waiting:
            waiting.discard()
        self._next[name] = following
        self._members[name].stop()


def all_wanted(config: Config) -> dict[str, Wanted]:
    """Each collector with what it shares with the others. Raises `ConfigInvalid` when the token cannot be read."""
    at, token = config.tracker, config.tracker.secret()
    return {
        each.name: Wanted(
            each, at.url, token, at.timeout, config.spool / each.name, config.spool_mb * 2**20, config.heartbeat
        )
        for each in config.collectors
    }


def made(wanted: Mapping[str, Wanted], located: Located, path: Path) -> dict[str, Made | None]:
    """The collectors, none of them connected yet; None for what is retired. All or none: raises `CollectorError`, which
    names file and line where the configuration is wrong."""
    found: dict[str, Made | None] = {}
    try:
        for name, each in wanted.items():
            try:
                make = factory(each.at.kind, each.folder)
                found[name] = None if each.at.retired else Made(make(name, each.at.settings))
                found[name] = _with_archive(each, found[name])
            except ConfigInvalid as error:
                raise ConfigInvalid(f"{path}:{located.lines[name]}: {error}") from error
    except BaseException:
        for each_made in filter(None, found.values()):
            each_made.collector.close()
        raise
    return found


def _with_archive(wanted: Wanted, made: Made | None) -> Made | None:
    """The same, with the archive that the configuration asks for. Of what may be under way half is gathered while the
    other half is written, or a system that waits for commits would stand still."""
    config = wanted.at.archive
    if config is None or made is None:
        return made
    contents = getattr(made.collector, "content", None)
    if contents is None:
        raise ConfigInvalid(f"collector {wanted.at.name}: archive: kind {wanted.at.kind!r} sees no messages to keep")
    window = min(Bounds.in_flight, getattr(made.collector, "window", Bounds.in_flight))
    return made._replace(archive=archive()(wanted.at.name, config, contents, wanted.folder, max(1, window // 2)))
