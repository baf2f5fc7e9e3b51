"""What a group's committed offset shows, held against the poll before: what it read, what it was moved past, what was
deleted before it came there, and what nobody can tell. Pure.

A consumer that joins a group that has no members shows in it for `group.initial.rebalance.delay.ms` before it can
commit (GroupCoordinator: the first rebalance waits that long), and tools may set offsets only while there are none. So
between two polls that lie closer together than that, and both show none, nobody has read; unless the commit itself says
so, by the epoch of the record that its consumer had read last (OffsetCommit, KIP-320), which tools leave out. Where
polls lie further apart, after one that showed nobody, that says too little: the consumer may have begun anywhere. So it
does when those who are there now are all others than those who were: in between there may have been nobody. Who was
there all the time (a member keeps its id until it leaves) proves that no tool has set offsets.

A log whose end was cut off gives its offsets again: what a group had moved past there it has moved past no longer. A
consumer that finds out goes back by itself (KIP-320: Java's to the cut, librdkafka's to where `auto.offset.reset`
says), others go on and skip what is new. By the first commit after the cut nobody can tell which.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Members(StrEnum):
    """Who was in a group at a poll: somebody; nobody, though members is how it reads; `hidden`, for its consumers
    assign partitions to themselves, or its protocol does not show them; or it is not known. `first`: nobody has looked
    before."""

    some = "some"
    none = "none"
    hidden = "hidden"
    unknown = "unknown"
    first = "first"


class How(StrEnum):
    """What became of a stretch of the log, for one group."""

    read = "read"
    skipped = "skipped"
    truncated = "truncated"
    expired = "expired"
    unknown = "unknown"


class Mark(msgspec.Struct, frozen=True):
    """A group at a poll, which began at `at` (µs of the clock). All before `offset` was told. `members`, as last known,
    at `tick` (None: by another process); `who`: some of them, none where that was not told. It `stood` there (None: not
    known). What it was moved past and did not read, or may not have read, lies in `unread`. The log is known up to
    `known` (-1: not at all) by the leader epoch `epoch` of the record before. `cut`: where it was cut off, and the
    newest epoch of what was, until the group has moved since."""

    offset: int
    at: int
    members: Members = Members.unknown
    tick: int | None = None
    stood: int | None = None
    unread: tuple[int, int] | None = None
    who: frozenset[str] = frozenset()
    known: int = -1
    epoch: int = -1
    cut: tuple[int, int] | None = None


class Seen(msgspec.Struct, frozen=True):
    """The next poll, which began at `at` and `tick` and ended at tick `end`: where the log began (asked first), who was
    in the group (`who`: all of them), and then what it had committed (-1: nothing); `by_reader`: with the epoch of a
    record, `epoch`. `leader`: the epoch of the partition's leader, and `log_end` where the log ends, asked before.
    `cut`: where the log ends that was `known` to the mark, when it was cut off."""

    at: int
    tick: int
    end: int
    start: int
    members: Members
    offset: int
    by_reader: bool
    who: frozenset[str] = frozenset()
    epoch: int = -1
    leader: int = -1
    log_end: int = 0
    cut: int | None = None


class Stretch(msgspec.Struct, frozen=True):
    """From `start` up to, not including, `end`."""

    start: int
    end: int
    how: How


def moved(mark: Mark, seen: Seen, delay: int) -> tuple[list[Stretch], Mark]:
    """What is new since `mark`, and the mark of this poll. `delay`: µs that a first rebalance takes.

    What was deleted between two polls while the group moved past it may have been read just before, or jumped over:
    that is unknown. Going back is nothing new, but for what the group then reads of what it had skipped.
    """
    cut = mark.cut if seen.cut is None else (seen.cut, mark.epoch)
    if _of_before(cut, seen):
        seen = msgspec.structs.replace(seen, offset=_stood(mark))
    since = cut is not None and seen.offset != _stood(mark)
    there = max(seen.offset, mark.offset)
    how = How.unknown if since and seen.cut is not None else _how(mark, seen, delay)  # that may be of before the cut
    found = [
        Stretch(mark.offset if seen.cut is None else seen.cut, mark.offset, How.truncated),
        Stretch(cut[0] if cut and since else there, min(seen.offset, mark.offset), How.unknown),
        *([] if since else _read_again(mark, seen, how)),
        Stretch(mark.offset, min(seen.offset, seen.start), How.unknown),
        Stretch(max(mark.offset, seen.start), seen.offset, how),
        Stretch(there, seen.start, How.expired),
    ]
    found = [one for one in found if one.start < one.end]
    unread = [(one.start, one.end) for one in found if one.how in (How.skipped, How.truncated, How.unknown)]
    unread += [mark.unread] if mark.unread else []
    hull = (min(start for start, _ in unread), max(end for _, end in unread)) if unread else None
    stood = seen.offset if seen.offset >= 0 else None
    last = mark if seen.members is Members.unknown else seen
    known = _known(mark, seen)
    return found, Mark(max(there, seen.start), seen.at, last.members, last.tick, stood, hull, last.who, *known,
                       None if since else cut)  # fmt: skip


def _how(mark: Mark, seen: Seen, delay: int) -> How:
    if Members.hidden in (mark.members, seen.members) or mark.members is Members.first:
        return How.read
    closely = mark.tick is not None and seen.end - mark.tick <= delay
    if mark.members is Members.none:
        if not closely:  # whoever commits now may have begun behind what somebody skipped
            return How.unknown
        if seen.by_reader:
            return How.read
        return How.skipped if seen.members is Members.none else How.unknown
    if not closely and mark.who and seen.who and mark.who.isdisjoint(seen.who):
        return How.unknown
    here = Members.some in ((mark.members, seen.members) if closely else (seen.members,))
    return How.read if here or seen.by_reader else How.unknown


def _read_again(mark: Mark, seen: Seen, how: How) -> list[Stretch]:
    """It had been set back, and has read what it had passed over before. (Told again of what it had read then, nothing
    changes.)"""
    if mark.unread is None or mark.stood is None or how is not How.read:
        return []
    start, end = mark.unread
    return [Stretch(max(mark.stood, start), min(seen.offset, mark.offset, end), How.read)]


def _of_before(cut: tuple[int, int] | None, seen: Seen) -> bool:
    """The group has committed what it had read before the log was cut off, as a consumer does that has it still."""
    if cut is None or seen.offset <= cut[0]:
        return False
    return seen.offset > seen.log_end or (seen.by_reader and seen.epoch <= cut[1])


def _known(mark: Mark, seen: Seen) -> tuple[int, int]:
    """How far the log is known, and by which epoch: by the newest commit; by one of long ago only how far."""
    moved = seen.offset != _stood(mark)
    if seen.cut is not None:
        return seen.cut, seen.leader
    if seen.offset >= mark.known and (moved or mark.epoch < 0):
        return seen.offset, seen.epoch if moved and seen.by_reader else seen.leader
    return mark.known, mark.epoch


def _stood(mark: Mark) -> int:
    """Where the group stood."""
    return mark.offset if mark.stood is None else mark.stood
