"""From deviations to anomalies: one deviation is one anomaly, with a beginning and an end. Pure.

Loops over the series that are off, or were; the others never come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import numpy as np
from msgspec.structs import replace

from tracker.anomalies.deviation import Window
from tracker.anomalies.signals import CALM, WINDOWS
from tracker.store.anomalies import Anomaly

MINUTE = 60
Key = tuple[str, str, str, str, str]
USUAL, UNWATCHED, SUPERSEDED, GONE = "usual", "unwatched", "superseded", "gone"
"""Why an anomaly ended: it is as usual, or that is usual now; nobody watches; another one tells it; the flow, or the
checkpoint in it, is no more."""


def follow(
    windows: Sequence[Window],
    row: int,
    minutes: np.ndarray,
    first: int,
    last: Anomaly | None,
    blank: Anomaly,
    over: int = 0,
) -> list[Anomaly]:
    """The anomalies of one series and direction in the minutes (epoch s) from index `first` on, in order: `last`, where
    one is open, goes on or ends, and others begin. `windows` are those of the direction, the shortest first; `blank`
    names the series; the one before ended at `over`, and what a window saw up to then is no other one."""
    found: list[Anomaly] = []
    for t in range(first, len(minutes)):
        end = int(minutes[t]) + MINUTE
        if last is None:
            fresh = (window for window in windows if end - window.minutes * MINUTE >= over)
            opening = next((window for window in fresh if window.begins[row, t]), None)
            if opening is not None:
                since = end - opening.minutes * MINUTE
                last = _furthest(replace(blank, since=since, opened_at=end, last_at=end), [opening], row, t)
        else:
            last = _go_on(last, windows, row, t, end)
            if last.until:
                found.append(last)
                over, last = last.until, None
    return found if last is None else [*found, last]


def _go_on(last: Anomaly, windows: Sequence[Window], row: int, t: int, end: int) -> Anomaly:
    width = max((last.opened_at - last.since) // MINUTE, CALM)
    looked = [window for window in windows if window.minutes <= width]
    staying = [window for window in looked if window.stays[row, t]]
    if staying:
        return _furthest(replace(last, last_at=end), staying, row, t)
    if end - last.last_at < CALM * MINUTE:
        return last
    known = any(np.isfinite(window.distance[row, t]) for window in looked)
    if not known and end - last.last_at < WINDOWS[-1] * MINUTE:
        return last
    return replace(last, until=last.last_at, ended_by=USUAL if known else UNWATCHED)


def _furthest(one: Anomaly, windows: Iterable[Window], row: int, t: int) -> Anomaly:
    best = max(windows, key=lambda window: float(window.distance[row, t]))
    distance = float(best.distance[row, t])
    if distance <= one.distance:
        return one
    expected, came = float(best.expected[row, t]), float(best.came[row, t])
    return replace(one, expected=expected, came=came, distance=distance)


def told_once(found: Iterable[Anomaly], before: Set[tuple[Key, int]], recent: Iterable[Anomaly]) -> list[Anomaly]:
    """The same, without what another one tells already. Of one flow, signal and direction one is open at a time: of
    volume that of the whole flow, of the others the first, and that of a hop before that of the flow. What a hop loses
    it also has less of: that is told as loss. Those that were known `before`, as (key, since), are ended then; the
    others are left out. `recent`: anomalies that ended a while ago, of which a long window may still tell."""
    kept = list(recent)
    result: list[Anomaly] = []
    for one in sorted(found, key=lambda one: _rank(one, before)):
        known = (one.key, one.since) in before
        if not any(_tells(other, one) for other in kept):
            kept.append(one)
            result.append(one)
        elif known:
            result.append(replace(one, until=one.until or one.last_at, ended_by=one.ended_by or SUPERSEDED))
    return result


def _rank(one: Anomaly, before: Set[tuple[Key, int]]) -> tuple[bool, bool, bool, int]:
    """The smaller is told. Loss comes before volume, which it may explain."""
    whole, volume = one.hop == "", one.signal == "volume"
    new = (one.key, one.since) not in before
    return volume, not whole if volume else new, whole, one.since


def _tells(other: Anomaly, one: Anomaly) -> bool:
    if other.flow != one.flow or not _overlap(other, one):
        return False
    if (other.signal, other.direction) == (one.signal, one.direction):
        return True
    return other.signal == "loss" and one.signal == "volume" and one.direction == "low" and one.hop != ""


def _overlap(a: Anomaly, b: Anomaly) -> bool:
    return (not a.until or a.until > b.since) and (not b.until or b.until > a.since)
