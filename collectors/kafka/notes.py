"""What a follower of groups remembers beside its position: the topic's id, when the group was there, who was in it,
that the log was cut off and the group has not moved since, where something before that may be unread, and where the
group stands when it was set back there."""

from __future__ import annotations

from collectors.kafka.moves import Mark, Members
from collectors.kafka.positions import Committed

NAMED = 16
"""Members that are remembered, of more these: one that is still there is enough."""


def note_of(mark: Mark, topic_id: str, at: int) -> str:
    """`<topic id> <at, µs> <members>[:<digest>,...[:<cut at>@<epoch>]] [<from> <up to> [<stands>]]`."""
    named, cut = ",".join(sorted(mark.who)[:NAMED]), "{}@{}".format(*mark.cut) if mark.cut else ""
    members = ":".join((mark.members.value, named, cut)).rstrip(":")
    unread: tuple[int, ...] = mark.unread or ()
    if unread and mark.stood is not None and mark.stood < unread[1]:
        unread += (mark.stood,)
    return " ".join(map(str, (topic_id, at, members, *unread)))


def mark_of(kept: Committed, topic_id: str) -> Mark | None:
    """What was remembered; None where that is nothing of this topic. Earlier versions left out which members the group
    had, and before that whether it had any."""
    found, _, rest = kept.note.partition(" ")
    at, *more = rest.split(" ")
    if found != topic_id or not at.isdigit():
        return None
    unread = (int(more[1]), int(more[2])) if len(more) in (3, 4) else None
    stood = int(more[3]) if len(more) == 4 else None
    members, named, cut = (more[0] + "::").split(":")[:3] if more else (Members.unknown, "", "")
    known = frozenset(filter(None, named.split(",")))
    log = (kept.offset, kept.epoch) if kept.epoch >= 0 else (-1, -1)
    where, _, epoch = cut.partition("@")
    return Mark(kept.offset, int(at), Members(members), None, stood, unread, known, *log,
                (int(where), int(epoch)) if cut else None)  # fmt: skip


def standing(kept: Committed) -> tuple[str, ...]:
    """What changes of a note while nothing is told: who is in the group, and where it stands when it was set back."""
    parts = kept.note.split(" ")
    return *parts[2:3], *parts[5:]
