"""The books as the API tells them."""

from __future__ import annotations

from tracker.api.routes.reconciliation import shown
from tracker.model.statement import SPOTS
from tracker.reconcile.books import BlindSpot, Reconciliation


def test_blind_spots_are_bounded() -> None:
    """Of very many the first are told, and how many more there are: one bad line every few seconds makes thousands."""
    for count in (0, SPOTS, SPOTS + 7):
        spots = [BlindSpot("mail", "ack", n, n + 1, "refused") for n in range(count)]
        books = Reconciliation("orders", 0, 0, {}, True, as_of=5, blind_spots=spots, windows=[])
        told = shown(books)
        assert (len(told.blind_spots), told.spots_left) == (min(count, SPOTS), max(0, count - SPOTS))
        assert told.as_of is not None
    assert shown(Reconciliation("orders", 0, 0, {}, True, as_of=0, blind_spots=[], windows=[])).as_of is None
