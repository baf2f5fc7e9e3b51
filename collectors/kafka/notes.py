"""What a follower of groups remembers beside its position: the topic's id, when the group was there, who was in it, and
where something before that may be unread."""

from __future__ import annotations

from collectors.kafka.moves import Mark, Members
from collectors.kafka.positions import Committed

NAMED = 16
"""Members that are remembered, of more these: one that is still there is enough."""


def note_of(mark: Mark, topic_id: str, at: int) -> str:
    """`<topic id> <at, µs> <members>[:<digest>,...] [<from> <up to>]`."""
    members = ":".join(filter(None, (mark.members.value, ",".join(sorted(mark.who)[:NAMED]))))
    return " ".join(map(str, (topic_id, at, members, *(mark.unread or ()))))


def mark_of(kept: Committed, topic_id: str) -> Mark | None:
    """What was remembered; None where that is nothing of this topic. Earlier versions left out which members the group
    had, and before that whether it had any."""
    found, _, rest = kept.note.partition(" ")
    at, *more = rest.split(" ")
    if found != topic_id or not at.isdigit():
        return None
    unread = (int(more[1]), int(more[2])) if len(more) == 3 else None
    members, _, named = more[0].partition(":") if more else (Members.unknown, "", "")
    return Mark(kept.offset, int(at), Members(members), unread=unread, who=frozenset(filter(None, named.split(","))))


def who(kept: Committed) -> str:
    """Who was in the group then."""
    return kept.note.split(" ")[2] if kept.note.count(" ") >= 2 else ""
