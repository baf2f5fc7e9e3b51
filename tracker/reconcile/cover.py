"""Coverage reports folded into runs: contiguous stretches that a collector vouches for on one source.

A report is dated by the tracker, `received - lag`. Two reports of one collector and epoch whose sequences are
neighbours vouch for all the time between them, unless the later one says that events were dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from msgspec import structs

from tracker.model.coverage import FOREVER, Coverage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile.refusals import Refusals
from tracker.store.vouched import Heard, Place, Run, coverage_of

Key = tuple[str, str, str, str, str, str, int]
"""flow, hop, stage, source, evidence, collector, epoch."""

LEAP = 2 * SECOND
"""A source that has become less behind by so much was away, or catches up, in however many steps."""


class Cover:
    """All runs and refusals that are known. `fold` takes reports in any order and number; `take_changed` is what has to
    be stored."""

    def __init__(self, runs: Iterable[Run], refusals: Iterable[Run] = ()) -> None:
        self._refusals = Refusals(refusals)
        self._ends: dict[str, dict[tuple[str, str], dict[tuple[str, str], tuple[int, bool]]]] = {}
        """By flow, then by (hop, stage): how far each (source, evidence) is vouched for, and whether it signed off."""
        self._runs: dict[str, dict[Key, list[Run]]] = {}
        """By flow."""
        self.changed: dict[tuple[Key, int], Run] = {}
        self._leapt: dict[str, int] = {}
        self._behind: dict[Key, tuple[int, int]] = {}
        """Since its last leap, how far each source was behind at its worst, and from when on it vouches for more."""
        self.announced: dict[Place, int] = {}
        """Since when somebody watches each place."""
        self._newest = 0
        """Up to when anybody vouches, in whatever flow, µs."""
        for run in runs:
            self._runs.setdefault(run.flow, {}).setdefault(_key(run), []).append(run)
            self._announce(run)
            self._end(run)
        for mine in self._runs.values():
            for key, some in mine.items():
                mine[key] = _joined(some)

    def fold(self, reports: Iterable[Mapping[str, Any]]) -> None:
        """Take in reports as `Passing.new_reports` gives them."""
        for report in reports:
            if not report["collector"]:  # ours
                self._refusals.take(report, self._ends)
                continue
            at = report["received"] - report["lag_ms"] * 1000
            for source in report["signed_off"]:  # first: it counts where a report names a source twice
                self._take(source, report, at, signed_off=True)
            for source in report["sources"]:
                self._take(source, report, at, signed_off=False)

    def _take(self, source: Mapping[str, str], report: Mapping[str, Any], at: int, signed_off: bool) -> None:
        run = _run(source, report, at, signed_off)
        self._announce(run)
        key = _key(run)
        mine = self._runs.setdefault(run.flow, {})
        runs = mine.setdefault(key, [])
        if any(r.first_sequence <= run.first_sequence <= r.last_sequence for r in runs):
            return
        overtaken = [r.start for r in runs if r.first_sequence > run.first_sequence]
        if overtaken:  # it was on its way for long: what it vouches for ended before its followers' words did
            at = min(at, *overtaken)
            run = structs.replace(run, start=at, end=at)
            self._announce(run)
        mine[key] = _joined([*runs, run])
        grown = next(r for r in mine[key] if r.first_sequence <= run.first_sequence <= r.last_sequence)
        self.changed[key, grown.first_sequence] = grown
        self._end(grown)
        before, now = (max((r.end for r in some), default=0) for some in (runs, mine[key]))
        worst, since = self._behind.get(key, (0, FOREVER))
        worst = max(worst, report["received"] - before)
        since = min(since, max((r.end for r in runs if r.first_sequence < run.first_sequence), default=grown.start))
        left = 0 if grown.signed_off else report["received"] - now
        if len(mine[key]) < len(runs) or worst - left > LEAP:
            self._leapt[run.flow] = min(self._leapt.get(run.flow, FOREVER), since)
            worst, since = left, FOREVER
        self._behind[key] = worst, since

    def _announce(self, run: Run) -> None:
        place = (run.flow, run.hop, run.stage)
        self.announced[place] = min(self.announced.get(place, run.start), run.start)

    def _end(self, run: Run) -> None:
        there = self._ends.setdefault(run.flow, {}).setdefault((run.hop, run.stage), {})
        named = run.source, run.evidence
        there[named] = max(there.get(named, (run.end, run.signed_off)), (run.end, run.signed_off))
        self._newest = max(self._newest, run.end)

    def take_leapt(self) -> dict[str, int]:
        """Flows for which a source vouches for much more than at the last call, and from when on (µs): what was blind
        and due later may be known now."""
        leapt, self._leapt = self._leapt, {}
        return leapt

    def coverage(self, spec: FlowSpec, heard: Iterable[Heard]) -> Coverage:
        """What is vouched for in one flow; `heard`: the receipts of that flow."""
        runs = [run for some in self._runs.get(spec.flow, {}).values() for run in some]
        return coverage_of(spec, runs, heard, self._refusals.of(spec.flow), self._newest)

    def take_changed(self) -> list[Run]:
        """The runs that changed since the last call, and the refusals."""
        changed = [*self.changed.values(), *self._refusals.changed.values()]
        self.changed, self._refusals.changed = {}, {}
        return changed


def _run(source: Mapping[str, str], report: Mapping[str, Any], at: int, signed_off: bool) -> Run:
    """One report on one source, as a run of its own."""
    return Run(
        flow=source["flow"],
        hop=source["hop"],
        stage=source["stage"],
        source=source["source"],
        evidence=source["evidence"] or "message",
        collector=report["collector"],
        epoch=report["epoch"],
        first_sequence=report["sequence"],
        last_sequence=report["sequence"],
        start=at,
        end=at,
        signed_off=signed_off,
        broken=report["dropped"] > 0,
    )


def _key(run: Run) -> Key:
    return (run.flow, run.hop, run.stage, run.source, run.evidence, run.collector, run.epoch)


def _joined(runs: Iterable[Run]) -> list[Run]:
    """Neighbouring and overlapping runs as one; a broken one is never joined to what came before it.

    A run starts where its first report vouches; a later report with more lag moves neither its start nor its end back.
    """
    joined: list[Run] = []
    for run in sorted(runs, key=lambda r: (r.first_sequence, r.last_sequence)):
        last = joined[-1] if joined else None
        overlaps = last is not None and run.first_sequence <= last.last_sequence
        follows = last is not None and run.first_sequence == last.last_sequence + 1 and not run.broken
        if last is not None and (overlaps or follows):
            newer = run.last_sequence > last.last_sequence
            joined[-1] = structs.replace(
                last,
                last_sequence=max(last.last_sequence, run.last_sequence),
                end=max(last.end, run.end),
                signed_off=run.signed_off if newer else last.signed_off,
            )
        else:
            joined.append(run)
    return joined


def columns(runs: list[Run], number: int) -> pa.Table:
    """Runs as rows of the coverage table, as pass `number` left them."""
    data: dict[str, Any] = {
        name: [getattr(run, name) for run in runs]
        for name in ("flow", "hop", "stage", "source", "evidence", "collector", "signed_off", "broken")
    }
    for name in ("epoch", "first_sequence", "last_sequence"):
        data[name] = pa.array([getattr(run, name) for run in runs], pa.uint64())
    data["tenant"] = [""] * len(runs)
    data["start_at"] = pa.array([run.start for run in runs], pa.int64())
    data["end_at"] = pa.array([run.end for run in runs], pa.int64())
    data["pass"] = pa.array([number] * len(runs), pa.uint64())
    return pa.table(data)
