"""What faces and passes ask of coverage: who vouches for what, until when, and what nobody could read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from tracker.model.coverage import SOURCE_TTL, Coverage, Interval, SourceCover, join
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.store.bundles import bundles
from tracker.store.engine import Engine
from tracker.store.sql import ask


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A contiguous run of reports of one collector on one source: it vouches for [start, end], µs."""

    flow: str
    hop: str
    stage: str
    source: str
    evidence: str
    collector: str
    epoch: int
    first_sequence: int
    last_sequence: int
    start: int
    end: int
    signed_off: bool
    broken: bool


REFUSED = "refused"
"""The evidence of a run that vouches for nothing: what happened from its start to its end, not included, was told in
lines that could not be used. What its flow, hop or stage is nobody knows where they are empty. Its sequences are the
receipts of its first and last line, µs."""
DEAF = "deaf"
"""The source of such a run that tells of a time in which no tracker took anything."""

FINE, SLOT = 24 * 3600 * SECOND, 3600 * SECOND
"""Of what was refused so long before the newest that was, a place has one span for so long a time."""

R = TypeVar("R", "Run", "Heard")

Place = tuple[str, str, str]
"""flow, hop, stage."""


class Heard(msgspec.Struct, frozen=True):
    """The newest receipt of anything from (hop, stage) of a flow, µs, and how many events of this pass it gave.
    `unannounced_at`: the newest before a source announced itself there; 0 where there was none."""

    flow: str
    hop: str
    stage: str
    received_at: int
    events: int
    unannounced_at: int = 0

    @property
    def place(self) -> Place:
        """Where."""
        return (self.flow, self.hop, self.stage)


class Vouched:
    """Questions about coverage."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    def runs(self, *flows: str) -> list[Run]:
        """Every stretch that a collector vouches for, of these flows or of all. What has no collector was made of a
        report of our own by a tracker of a version that did not know these, and vouches for nothing."""
        sql = (
            "SELECT flow, hop, stage, source, evidence, collector, epoch, first_sequence, last_sequence, "
            "toUnixTimestamp64Micro(start_at) AS start, toUnixTimestamp64Micro(end_at) AS end, signed_off, broken "
            f"FROM {self._db}.coverage FINAL WHERE tenant = '' AND evidence != {{refused:String}} AND collector != ''"
        )
        return [msgspec.convert(row, Run) for row in self._of(flows, sql, {"refused": REFUSED})]

    def _of(self, flows: Sequence[str], sql: str, base: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Rows of these flows, or of all when none is named."""
        if not flows:
            yield from self._engine.rows(sql, base)
        for some in bundles(flows):
            yield from self._engine.rows(f"{sql} AND flow IN {{flows:Array(String)}}", base | {"flows": some})

    def runs_since(self, start: int) -> list[Run]:
        """What `runs` has of all flows of sources that were open at `start`, epoch s, or later, from an hour before on;
        of a place where none was, what was last."""
        base = {"refused": REFUSED, "start": start * SECOND, "ttl": SOURCE_TTL}
        return [msgspec.convert(row, Run) for row in self._engine.rows(ask("runs_since", self._db), base)]

    def watermarks(self) -> dict[tuple[str, str, str], int]:
        """By (flow, hop, stage) how far the slowest of its sources vouches, µs; of all flows, in one question."""
        table = self._engine.table(ask("watermarks", self._db), {"refused": REFUSED, "ttl": SOURCE_TTL})
        *places, ends = (table[name].to_pylist() for name in ("flow", "hop", "stage", "watermark"))
        return dict(zip(zip(*places, strict=True), ends, strict=True))

    def refusals(self, *flows: str) -> list[Run]:
        """The spans of which lines were refused (`REFUSED`), of all flows or of those that may belong to these: each
        for itself for `FINE`, then one for each place and `SLOT`."""
        base = {"refused": REFUSED, "fine": FINE, "slot": SLOT}
        sql = ask("refusals", self._db, mine="AND flow IN {flows:Array(String)}" if flows else "")
        asked = [base | {"flows": some} for some in bundles(["", *flows])] if flows else [base]
        same = {"evidence": REFUSED, "collector": "", "epoch": 0, "signed_off": False, "broken": True}
        return [msgspec.convert(row | same, Run) for one in asked for row in self._engine.rows(sql, one)]

    def coverage(self, spec: FlowSpec) -> Coverage:
        """What is vouched for in one flow, as of the last pass."""
        return self.coverages([spec])[spec.flow]

    def coverages(self, specs: Sequence[FlowSpec]) -> dict[str, Coverage]:
        """The same of several flows, by name, in a few questions for all of them."""
        flows = [spec.flow for spec in specs]
        runs = _by_flow(self.runs(*flows)) if flows else {}
        heard = _by_flow(self.last_heard(*flows)) if flows else {}
        refused = _by_flow(self.refusals(*flows)) if flows else {}
        newest = self.vouched_until()
        return {
            spec.flow: coverage_of(
                spec,
                runs.get(spec.flow, []),
                heard.get(spec.flow, []),
                [*refused.get(spec.flow, []), *refused.get("", [])],
                newest,
            )
            for spec in specs
        }

    def vouched_until(self) -> int:
        """The newest moment that anybody vouches for, in whatever flow, µs; 0 where nobody does."""
        sql = f"SELECT toUnixTimestamp64Micro(max(end_at)) AS newest FROM {self._db}.coverage WHERE tenant = '' "
        [row] = self._engine.rows(sql + "AND evidence != {refused:String} AND collector != ''", {"refused": REFUSED})
        return max(0, int(row["newest"]))

    def last_heard(self, *flows: str) -> list[Heard]:
        """The newest receipts from each place of these flows, or of all."""
        sql = (
            "SELECT flow, hop, stage, toUnixTimestamp64Micro(received_at) AS at, "
            f"toUnixTimestamp64Micro(unannounced_at) AS before FROM {self._db}.heard FINAL WHERE tenant = ''"
        )
        rows = self._of(flows, sql, {})
        return [Heard(row["flow"], row["hop"], row["stage"], row["at"], 0, row["before"]) for row in rows]


def _by_flow(rows: Iterable[R]) -> dict[str, list[R]]:
    found: dict[str, list[R]] = {}
    for row in rows:
        found.setdefault(row.flow, []).append(row)
    return found


def coverage_of(
    spec: FlowSpec, runs: Sequence[Run], heard: Iterable[Heard], refusals: Sequence[Run], newest: int
) -> Coverage:
    """Runs joined to intervals per source; a source whose runs all ended long before `newest`, up to when anybody
    vouches in whatever flow (µs), closes after its time to live. That runs only while somebody listens: what was not
    heard meanwhile may still come. `refusals`: those of this flow, and those that may be."""
    groups: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.hop, run.stage, run.source, run.evidence), []).append(run)
    nobody_listened = join([(run.start, run.end) for run in refusals if run.source == DEAF])
    sources: dict[tuple[str, str], list[SourceCover]] = {}
    for (hop, stage, source, evidence), group in groups.items():
        intervals = join([(run.start, run.end) for run in group])
        ended = max(group, key=lambda run: (run.end, run.signed_off))
        closed = ended.end if ended.signed_off else None
        if closed is None and newest > (over := _over(ended.end, nobody_listened)):
            closed = over
        sources.setdefault((hop, stage), []).append(SourceCover(source, intervals, closed, evidence))
    assumed = frozenset((hop, c.stage.value) for c in spec.checkpoints if c.coverage == "assumed" for hop in c.hop)
    last = {(h.hop, h.stage): (h.received_at, h.unannounced_at) for h in heard}
    received, unannounced = ({place: times[n] for place, times in last.items()} for n in (0, 1))
    lost: dict[bool, dict[tuple[str, str], list[Interval]]] = {True: {}, False: {}}
    deaf: list[Interval] = []
    for run in refusals:
        there = deaf if run.source == DEAF else lost[bool(run.flow)].setdefault((run.hop, run.stage), [])
        there.append((run.start, run.end))
    return Coverage(
        sources, received, assumed, unannounced=unannounced, refused=lost[True], unreadable=lost[False], deaf=deaf
    )


def _over(end: int, nobody_listened: Sequence[Interval]) -> int:
    """When the time to live of a source that was last vouched for at `end` is over."""
    over = end + SOURCE_TTL
    for low, high in nobody_listened:
        if high > end and low < over:
            over += high - max(low, end)
    return over
