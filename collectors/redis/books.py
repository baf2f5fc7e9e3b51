"""What each group still owes of a stream. Pure: no I/O, no clock.

An entry is held here from its XADD until every watched group has acked it, so what is trimmed or deleted unread can be
named though the server says no more than "the stream has a thousand entries now".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from collectors.redis.entry import NO_ID, Fields, Id
from tracker.model.event import Stage

TRIMMED, DELETED, RESTARTED = "discarded", "purged", "truncated"
"""Reasons of a drop: there was no room, somebody deleted it, the server came back without it."""


class Said(NamedTuple):
    """One observation. `group` is empty for what happened to the entry in its stream."""

    stage: Stage
    stream: str
    entry: Id
    message_id: str = ""
    group: str = ""
    consumer: str = ""
    attempt: int | None = None
    reason: str = ""
    fields: Fields | None = None


class Owed(msgspec.Struct):
    """An entry that some group has not acked. `pending`: group -> (consumer, deliveries); `gone`: why the stream holds
    it no more; `lost`: some group never gets it."""

    message_id: str
    owed: list[str]
    pending: dict[str, tuple[str, int]] = {}
    gone: str = ""
    lost: bool = False


class Stream(msgspec.Struct):
    """One stream: its last entry that was read, how many it ever had up to there (None: not known), how far each group
    was given entries (None: there is no such group), and what is owed, by id in order."""

    last: Id = NO_ID
    added: int | None = None
    groups: dict[str, Id | None] = {}
    entries: dict[Id, Owed] = {}


class Books:
    """Of the configured streams: name -> its groups. `noack`: (stream, group) that read with NOACK. `named` gives the
    message id of fields, empty where they have none. `fetched` asks the server for an entry.

    After each call `changed` holds what to keep: (stream, id), or (stream, None) for the rest of the stream.
    """

    def __init__(
        self,
        watched: Mapping[str, Iterable[str]],
        noack: frozenset[tuple[str, str]],
        named: Callable[[str, Fields], str],
        fetched: Callable[[str, Id], Fields | None],
    ) -> None:
        self.streams = {key: Stream(groups=dict.fromkeys(groups)) for key, groups in watched.items()}
        self.changed: set[tuple[str, Id | None]] = set()
        self.trimmed: set[str] = set()
        """Trimmed by length since the last look: only the server knows which entries that took."""
        self.unsure: set[tuple[str, str]] = set()
        """(stream, group) of which something happened that cannot be told; group empty: of the stream and all."""
        self.stale: dict[str, bool] = {}
        """Streams to be looked at, for the commands do not tell what they hold now; whether they may be others."""
        self._noack, self.named, self._fetched = noack, named, fetched

    def added(self, key: str, entry: Id, fields: Fields) -> Said:
        """An entry that the stream holds."""
        stream = self.streams[key]
        message_id = self.named(key, fields)
        if entry > stream.last:
            stream.last = entry
            stream.added = None if stream.added is None else stream.added + 1
            self.changed.add((key, None))
        if message_id and stream.groups:
            self.owe(key, entry, message_id)
        return Said(Stage.persist, key, entry, message_id, fields=fields)

    def owe(self, key: str, entry: Id, message_id: str) -> None:
        """Every group owes it, but those that were given entries beyond it already."""
        stream = self.streams[key]
        owed = [group for group, last in stream.groups.items() if last is None or last < entry]
        found = stream.entries.get(entry)
        if found is not None:
            found.owed += [group for group in owed if group not in found.owed]
        elif owed:
            in_order = not stream.entries or next(reversed(stream.entries)) < entry
            stream.entries[entry] = Owed(message_id, owed)
            if not in_order:
                stream.entries = dict(sorted(stream.entries.items()))
        if owed:
            self.changed.add((key, entry))

    def cut(self, key: str, first: Id | None, reason: str = TRIMMED) -> Iterator[Said]:
        """The stream begins with `first` now; None: it holds nothing of what was read."""
        for entry in list(self.streams[key].entries):
            if first is not None and entry >= first:
                return
            yield from self.gone(key, entry, reason)

    def gone(self, key: str, entry: Id, reason: str, unread_only: bool = True) -> Iterator[Said]:
        """The stream holds it no more: whoever was not given it never will be. `unread_only` False: nor can those ack
        it who have it."""
        found = self.streams[key].entries.get(entry)
        if found is None or (found.gone and unread_only):
            return
        found.gone = found.gone or reason
        self.changed.add((key, entry))
        for group in list(found.owed):
            if group not in found.pending or not unread_only:
                found.lost = True
                yield Said(Stage.drop, key, entry, found.message_id, group, reason=reason)
                self._strike(key, entry, found, group)
        yield from self._closed(key, entry, found)

    def deleted(self, key: str) -> Iterator[Said]:
        """The whole stream, with its groups."""
        stream = self.streams[key]
        for entry in list(stream.entries):
            yield from self.gone(key, entry, DELETED, unread_only=False)
        self.begin_anew(key)

    def begin_anew(self, key: str) -> None:
        """There is no such stream."""
        stream = self.streams[key]
        stream.last, stream.added, stream.groups = NO_ID, 0, dict.fromkeys(stream.groups)
        self.changed.add((key, None))

    def acked(self, key: str, entry: Id, group: str) -> Iterator[Said]:
        """A group is done with it."""
        found = self.streams[key].entries.get(entry)
        if found is not None and group in found.owed:
            yield Said(Stage.ack, key, entry, found.message_id, group)
            self._strike(key, entry, found, group)
            yield from self._closed(key, entry, found)

    def taken(self, key: str, entry: Id, group: str, consumer: str, attempt: int) -> Iterator[Said]:
        """A consumer has it. Where the stream holds it no more this was the last word on it: the group never acks."""
        found = self.streams[key].entries.get(entry) or self._remembered(key, entry, group)
        if found is None:
            return
        if found.gone and group in found.pending:
            found.lost = True
            yield Said(Stage.drop, key, entry, found.message_id, group, reason=found.gone)
            self._strike(key, entry, found, group)
            yield from self._closed(key, entry, found)
            return
        if group not in found.owed:
            found.owed.append(group)
        if found.pending.get(group) != (consumer, attempt):
            found.pending = {**found.pending, group: (consumer, attempt)}
            self.changed.add((key, entry))
        yield Said(Stage.deliver, key, entry, found.message_id, group, consumer, attempt)

    def given(self, key: str, group: str, last: Id) -> None:
        """The group was given entries up to here."""
        stream = self.streams[key]
        now = stream.groups[group]
        if now is None or last > now:
            stream.groups[group] = last
            self.changed.add((key, None))

    def forgotten(self, key: str, entry: Id, group: str) -> None:
        """What became of it there nobody knows."""
        found = self.streams[key].entries.get(entry)
        if found is not None and group in found.owed:
            self._strike(key, entry, found, group)
            if not found.owed:
                del self.streams[key].entries[entry]

    def begun(self, key: str, group: str, at: Id) -> None:
        """A new group: what lies before it is not for it; what lies behind it, and others were done with, is looked
        for."""
        stream = self.streams[key]
        for entry in [one for one in stream.entries if one <= at]:
            self.forgotten(key, entry, group)
        stream.groups[group] = at
        self.changed.add((key, None))
        if at < stream.last:
            self.stale.setdefault(key, False)

    def moved(self, key: str, group: str, to: Id) -> Iterator[Said]:
        """The group goes on behind `to`, by somebody's order or a read with NOACK."""
        stream = self.streams[key]
        now = stream.groups[group] or NO_ID
        passed = [entry for entry, found in stream.entries.items()
                  if now < entry <= to and group in found.owed and group not in found.pending]  # fmt: skip
        for entry in passed:
            if (key, group) in self._noack:
                yield Said(Stage.deliver, key, entry, stream.entries[entry].message_id, group)
                yield from self.acked(key, entry, group)
            else:
                self.unsure.add((key, group))
                self.forgotten(key, entry, group)
        stream.groups[group] = to
        self.changed.add((key, None))

    def left(self, key: str, group: str, consumer: str | None) -> Iterator[Said]:
        """A consumer (None: each) is gone with all that it had not acked."""
        for entry, found in list(self.streams[key].entries.items()):
            if group in found.pending and consumer in (None, found.pending[group][0]):
                found.lost = True
                yield Said(Stage.drop, key, entry, found.message_id, group, reason=DELETED)
                self._strike(key, entry, found, group)
                yield from self._closed(key, entry, found)

    def doubt(self, *keys: str) -> None:
        """Something was done to these that is not understood: look at them, and vouch for nothing meanwhile."""
        self.stale |= dict.fromkeys(keys, True)
        self.unsure.update((key, "") for key in keys)

    # -- entries -------------------------------------------------------------------------------------------------------

    def _remembered(self, key: str, entry: Id, group: str) -> Owed | None:
        """An entry that is not held here: all were done with it, or it was there before us."""
        fields = self._fetched(key, entry)
        message_id = self.named(key, fields) if fields else ""
        if not message_id:
            self.unsure.add((key, group))
            return None
        stream = self.streams[key]
        found = stream.entries[entry] = Owed(message_id, [group])
        stream.entries = dict(sorted(stream.entries.items()))
        return found

    def _strike(self, key: str, entry: Id, found: Owed, group: str) -> None:
        found.owed.remove(group)
        found.pending = {name: held for name, held in found.pending.items() if name != group}
        self.changed.add((key, entry))

    def _closed(self, key: str, entry: Id, found: Owed) -> Iterator[Said]:
        """Nobody owes it any more. That the stream holds it no more counts where somebody never got it."""
        if not found.owed:
            if found.gone and found.lost:
                yield Said(Stage.drop, key, entry, found.message_id, reason=found.gone)
            self.streams[key].entries.pop(entry, None)
