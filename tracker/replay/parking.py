"""A message that is parked ends its findings as parked, too: nobody tries any further, and somebody has to know."""

from __future__ import annotations

from collections.abc import Iterable

from tracker.control import Books
from tracker.control.messages import Claimed, ReplayMessage
from tracker.control.rulings import REPLAY, Ruling
from tracker.replay.kept import route_of
from tracker.store.findings import PARKED


def park(books: Books, flow: str, rows: Iterable[Claimed | ReplayMessage], now: int) -> None:
    """Have the next pass park what these messages were sent for, where it is still open; in the transaction that marks
    them. Sorted by place, so that the store is asked once for each."""
    found = {(one.hop, one.stage, row.message_id) for row in rows for one in route_of(row).missing}
    books.rulings.add(
        [Ruling(flow=flow, status=PARKED, by=REPLAY, message_id=m, hop=h, stage=s) for h, s, m in sorted(found)], now
    )
