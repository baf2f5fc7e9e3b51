from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from tracker.anomalies.deviation import Window
from tracker.anomalies.episodes import SUPERSEDED, UNWATCHED, USUAL, follow, told_once
from tracker.store.anomalies import Anomaly

MINUTES = 1_800_000_000 // 60 * 60 + 60 * np.arange(200)
BLANK = Anomaly("orders", "", "", "volume", "low", 0, 0, 0, 0, "", 0, 0, 0, "hour_of_week")


def window(away: np.ndarray, width: int = 5) -> Window:
    """It begins at 5 usual distances, stays at 2."""
    away = np.atleast_2d(away)
    return Window(width, -1, away, away >= 5, away >= 2, np.full_like(away, 100.0), 100 - away)


def off(*spans: tuple[int, int, float]) -> np.ndarray:
    """So far off in minutes [from, to), else as usual."""
    away = np.zeros(200)
    for start, end, far in spans:
        away[start:end] = far
    return away


def test_one_deviation_is_one_anomaly() -> None:
    """From the beginning of the window that told it to the last minute in which it stayed, with the furthest value."""
    [one] = follow([window(off((50, 60, 6), (60, 70, 2.5), (70, 80, 9), (80, 85, 3)))], 0, MINUTES, 0, None, BLANK)
    assert (one.since, one.opened_at) == (MINUTES[46], MINUTES[51])
    assert one.until == one.last_at == MINUTES[85]
    assert (one.came, one.distance, one.ended_by) == (91, 9, USUAL)


def test_a_short_calm_ends_nothing() -> None:
    """Nine minutes of it do not, ten do."""
    assert len(follow([window(off((50, 60, 6), (69, 80, 6)))], 0, MINUTES, 0, None, BLANK)) == 1
    assert len(follow([window(off((50, 60, 6), (75, 80, 6)))], 0, MINUTES, 0, None, BLANK)) == 2


def test_it_lasts_from_look_to_look() -> None:
    """Looked at minute by minute, or all at once: the same anomaly."""
    looked = [window(off((50, 90, 6), (120, 130, 7)))]
    whole = follow(looked, 0, MINUTES, 0, None, BLANK)
    found: list[Anomaly] = []
    last, over = None, 0
    for t in range(200):
        told = follow(looked, 0, MINUTES[: t + 1], t, last, BLANK, over)
        found += [one for one in told if one.until]
        over = max([over, *(one.until for one in told)])
        last = told[-1] if told and not told[-1].until else None
    assert found == whole
    assert len(found) == 2


def test_a_long_window_does_not_tell_again_what_is_over() -> None:
    """What it still sees of it began before the end."""
    looked = [window(off((50, 60, 6))), window(off((50, 115, 6)), width=60)]
    found = follow(looked, 0, MINUTES, 0, None, BLANK)
    assert len(found) == 1


def test_what_nobody_watches_any_more_has_ended() -> None:
    """After an hour of not knowing; not at once, for it may go on."""
    away = off((50, 60, 6))
    away[60:] = np.nan
    assert follow([window(away)], 0, MINUTES[:110], 0, None, BLANK)[0].until == 0
    [one] = follow([window(away)], 0, MINUTES, 0, None, BLANK)
    assert (one.ended_by, one.until) == (UNWATCHED, MINUTES[60])


def of(hop: str, signal: str = "volume", since: int = 1000, until: int = 0, direction: str = "low") -> Anomaly:
    """One at this place."""
    return replace(BLANK, hop=hop, signal=signal, since=since, until=until, last_at=since + 600, opened_at=since + 300,
                   direction=direction)  # fmt: skip


def test_a_quiet_flow_is_told_once() -> None:
    """Not again by each of its hops; and what a hop loses is told as loss, not as low volume too."""
    assert told_once([of("log"), of(""), of("billing")], set(), []) == [of("")]
    assert told_once([of("billing"), of("billing", "loss", direction="high")], set(), []) == [
        of("billing", "loss", direction="high")
    ]
    assert told_once([of("", "latency"), of("billing", "latency")], set(), []) == [of("billing", "latency")]
    assert len(told_once([of(""), replace(of(""), flow="others")], set(), [])) == 2
    assert len(told_once([of("", direction="high"), of("")], set(), [])) == 2


def test_what_another_one_tells_by_now_ends() -> None:
    """Where it had been told before; it is not left open."""
    known = of("billing")
    found = told_once([known, of("")], {(known.key, known.since)}, [])
    assert {one.hop: one.ended_by for one in found} == {"": "", "billing": SUPERSEDED}


def test_the_first_one_tells() -> None:
    """Of latency at two hops that which is open; the other one is another sight of it."""
    known = of("billing", "latency", since=2000)
    assert told_once([of("log", "latency"), known], {(known.key, known.since)}, []) == [known]


def test_what_has_just_ended_is_not_told_by_another_hop() -> None:
    """A long window sees it for a while."""
    assert told_once([of("log", since=1500)], set(), [of("", until=2000)]) == []
    assert len(told_once([of("log", since=2500)], set(), [of("", until=2000)])) == 1


ANY = some.builds(
    of,
    some.sampled_from(["", "log", "billing"]),
    some.sampled_from(["volume", "loss", "latency"]),
    some.integers(1, 5).map(lambda n: n * 1000),
    some.just(0),
    some.sampled_from(["low", "high"]),
)


@given(some.lists(ANY, max_size=8, unique_by=lambda one: one.key), some.data())
def test_at_most_one_is_open_of_a_signal_and_direction(found: list[Anomaly], data: some.DataObject) -> None:
    """Whatever deviates, and was told before; none that was told before is forgotten; a second time changes nothing."""
    before = {(one.key, one.since) for one in found if data.draw(some.booleans())}
    told = told_once(found, before, [])
    kept = [(one.flow, one.signal, one.direction) for one in told if not one.until]
    assert len(kept) == len(set(kept))
    assert before <= {(one.key, one.since) for one in told}
    assert all(one.until for one in told if one.ended_by)
    still = [one for one in told if not one.until]
    assert sorted(told_once(still, {(one.key, one.since) for one in still}, []), key=str) == sorted(still, key=str)


@pytest.mark.parametrize("start", range(0, 200, 40))
def test_nothing_off_is_nothing_found(start: int) -> None:
    """Of a series that is as usual."""
    assert follow([window(np.full(200, 4.9))], 0, MINUTES, start, None, BLANK) == []
