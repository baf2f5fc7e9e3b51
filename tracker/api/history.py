"""An incident over time: what the tracker saw, what people said, and the replays that were to mend it, as one list."""

from __future__ import annotations

from collections.abc import Iterable

from tracker.control import Books
from tracker.control.incidents import SYSTEM, Entry
from tracker.control.replays import ENDED, Replay


def history(books: Books, incident_id: str, more: Iterable[Replay] = ()) -> list[Entry]:
    """The incident's timeline with the replays that were asked for it, and `more`; oldest first. Raises NotFound."""
    entries = books.incidents.timeline(incident_id)
    named = books.replays.page(incident_id=incident_id, limit=1000).items
    for replay in {one.id: one for one in (*named, *more)}.values():
        entries += _life(books, replay)
    return sorted(entries, key=lambda entry: entry.at)


def _life(books: Books, replay: Replay) -> list[Entry]:
    """Asked for, approved, begun, ended: what is known of each."""
    asked = f"replay {replay.id} asked for: {replay.plan.get('messages', '?')} messages"
    lines = [Entry(replay.created_at, replay.requested_by, asked + (f"; {replay.reason}" if replay.reason else ""))]
    if replay.approved_at is not None:
        lines.append(Entry(replay.approved_at, replay.approved_by, f"replay {replay.id} approved"))
    if replay.started_at is not None:
        lines.append(Entry(replay.started_at, SYSTEM, f"replay {replay.id} began to send"))
    if replay.finished_at is not None and replay.status in ENDED:
        states = ", ".join(f"{n} {state}" for state, n in sorted(books.messages.counts(replay.id).items()) if n)
        lines.append(
            Entry(replay.finished_at, SYSTEM, f"replay {replay.id} {replay.status}: {states or 'no messages'}")
        )
    return lines
