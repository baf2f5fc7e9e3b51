"""Spans of which lines were refused: what happened in them was told, and could not be used. And spans in which nobody
could tell us anything.

Lines come when their places are heard of: within the grace that assumed coverage leaves, or, where somebody reports,
since what was vouched for last. So a refused line happened between that and its receipt, and whoever is missing in that
span may be missing because of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import structs

from tracker.model.coverage import GRACE, SOURCE_TTL
from tracker.model.units import SECOND
from tracker.store.vouched import DEAF, FINE, REFUSED, SLOT, Place, Run

APART = 10 * SECOND
"""Refused lines of one place that are no further apart make one span: a sender that is wrong stays wrong, and no more
than so many spans are to be kept."""

RETURN = 30 * SECOND
"""How long senders may still hold back what they have, after a tracker that was deaf listens again."""

Sources = Mapping[tuple[str, str], tuple[int, bool]]
"""How far each (source, evidence) at a place is vouched for, µs, and whether it signed off there."""
Ends = Mapping[str, Mapping[tuple[str, str], Sources]]
"""The same by flow, then by (hop, stage)."""
Key = tuple[str, str, str, str]
"""flow, hop, stage, and `DEAF` or nothing."""


class Refusals:
    """All spans that are known, by place; `changed` has to be stored. Old ones are kept as `Answers.refusals` gives
    them: one for each place and `SLOT`."""

    def __init__(self, known: Iterable[Run]) -> None:
        self._runs: dict[Key, list[Run]] = {}
        self.changed: dict[tuple[Key, int], Run] = {}
        for run in known:
            self._runs.setdefault((run.flow, run.hop, run.stage, run.source), []).append(run)
        self._newest = max((run.last_sequence for runs in self._runs.values() for run in runs), default=0)
        self._coarsen()

    def of(self, flow: str) -> list[Run]:
        """Those of this flow, and those that may be."""
        return [run for key, runs in self._runs.items() if key[0] in (flow, "") for run in runs]

    def take(self, report: Mapping[str, Any], ends: Ends) -> None:
        """Take in a report of ours: on refused lines, or on a time in which nobody listened; `ends` as they stood when
        it was made."""
        at = report["received"]
        for source in report["sources"]:
            place = source["flow"], source["hop"], source["stage"]
            if source["source"] == DEAF:
                self._span((*place, DEAF), at, at - report["lag_ms"] * 1000 - GRACE, at + RETURN)
                continue
            self._span((*place, ""), at, at - GRACE, at + 1)
            for there, start in _behind(place, at, ends):
                self._span((*there, ""), at, start, at + 1)
        before, self._newest = self._newest, max(self._newest, at)
        if before // SLOT < self._newest // SLOT:
            self._coarsen()

    def _span(self, key: Key, at: int, start: int, end: int) -> None:
        """Add a span that was told of at that time, or lengthen the one that was; no span grows shorter."""
        runs = self._runs.setdefault(key, [])
        near = slice(bisect_left(runs, at - APART, key=_last), bisect_right(runs, at + APART, key=_first))
        flow, hop, stage, source = key
        new = Run(
            flow=flow, hop=hop, stage=stage, source=source, evidence=REFUSED, collector="", epoch=0,
            first_sequence=at, last_sequence=at, start=start, end=end, signed_off=False, broken=True,
        )  # fmt: skip
        joined = _joined([*runs[near], new])
        if [joined] != runs[near]:
            runs[near] = [joined]
            self.changed[key, joined.first_sequence] = joined

    def _coarsen(self) -> None:
        for key, runs in self._runs.items():
            self._runs[key] = [*_coarser(sorted(runs, key=_first), self._newest - FINE)]


def _coarser(runs: Iterable[Run], fine: int) -> Iterator[Run]:
    """The same spans, in order: those that overlap as one, and those of one slot whose last line is older than
    `fine`."""
    last: Run | None = None
    for run in runs:
        if last and (
            run.first_sequence <= last.last_sequence
            or (run.last_sequence < fine and _first(run) // SLOT == _first(last) // SLOT)
        ):
            last = _joined([last, run])
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def _joined(runs: list[Run]) -> Run:
    """From the first of them to the last."""
    return structs.replace(
        runs[0],
        first_sequence=min(run.first_sequence for run in runs),
        last_sequence=max(run.last_sequence for run in runs),
        start=min(run.start for run in runs),
        end=max(run.end for run in runs),
    )


def _first(run: Run) -> int:
    return run.first_sequence


def _last(run: Run) -> int:
    return run.last_sequence


def _behind(place: Place, at: int, ends: Ends) -> Iterator[tuple[Place, int]]:
    """The places that the refused line may be from at which somebody reports and is further behind than the grace, and
    since when: he has told of all before. Who has ended, or is gone, tells nothing of the line."""
    flow, hop, stage = place
    known = ends.get(flow, {})
    exact = (hop, stage)
    for there, sources in [(exact, known.get(exact, {}))] if hop and stage else known.items():
        if hop in ("", there[0]) and stage in ("", there[1]):
            since = [end for end, signed_off in sources.values() if not signed_off and at - SOURCE_TTL < end]
            if since and min(since) < at - GRACE:
                yield (flow, *there), min(since)
