"""How far apart passes are."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tracker.reconcile import PassResult, Reconciler, reconciler

nothing: Any = None


@pytest.mark.parametrize(
    ("took", "rest"),
    [(0.0, 0.5), (0.1, 0.4), (0.4, 0.24), (1.0, 0.5), (2.0, 0.5), (4.0, 1.2), (12.0, 6.0), (90.0, 10.0)],
)
def test_a_pass_is_followed_by_a_rest(took: float, rest: float) -> None:
    """So that passes begin an interval apart; after longer ones no longer than that as long as they keep up, then in
    proportion."""
    assert reconciler.rest_after(took, 0.5) == pytest.approx(rest)


def test_while_more_comes_than_is_taken_in_passes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it lasts, and no longer than the longest rest."""
    said = [False, True, True, True]
    resting = Reconciler(nothing, nothing, pressed=lambda: said.pop())
    resting._rest(threading.Event(), 0.001)
    assert said == []
    always = Reconciler(nothing, nothing, pressed=lambda: True)
    monkeypatch.setattr(reconciler, "LONGEST_REST", 0.05)
    always._rest(threading.Event(), 0.001)


def test_who_stops_waits_for_nothing() -> None:
    """However pressed it is."""
    stop = threading.Event()
    stop.set()
    Reconciler(nothing, nothing, pressed=lambda: True)._rest(stop, 60)


def test_where_nothing_was_to_do_the_next_look_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is pressed: rests are for those who have worked, and what stood in the way may be gone."""
    looking, waited = Reconciler(nothing, nothing, pressed=lambda: True), list[float]()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            if len(waited) > 2:
                self.set()
            return self.is_set()

    class Alone:
        finish = nothing

        def take(self) -> bool:
            return True

    monkeypatch.setattr(looking, "run_pass", lambda finish: PassResult())
    monkeypatch.setattr(looking, "_sweep", lambda: None)
    looking._run(Alone(), Stop(), 0.5)  # type: ignore[arg-type]
    assert waited == [0.5, 0.5, 0.5]
