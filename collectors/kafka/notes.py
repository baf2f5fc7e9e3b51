"""What a follower of groups remembers beside its position: the topic's id, when the group was there, who was in it, and
where something before that may be unread."""

from __future__ import annotations

from collectors.kafka.moves import Mark, Members
from collectors.kafka.positions import Committed


def note_of(mark: Mark, topic_id: str, at: int) -> str:
    """`<topic id> <at, µs> <members> [<from> <up to>]`."""
    return " ".join(map(str, (topic_id, at, mark.members.value, *(mark.unread or ()))))


def mark_of(kept: Committed, topic_id: str) -> Mark | None:
    """What was remembered; None where that is nothing of this topic. Earlier versions left out who was in the group."""
    found, _, rest = kept.note.partition(" ")
    at, *more = rest.split(" ")
    if found != topic_id or not at.isdigit():
        return None
    unread = (int(more[1]), int(more[2])) if len(more) == 3 else None
    return Mark(kept.offset, int(at), Members(more[0]) if more else Members.unknown, unread=unread)


def who(kept: Committed) -> str:
    """Who was in the group then."""
    return kept.note.split(" ")[2] if kept.note.count(" ") >= 2 else ""
