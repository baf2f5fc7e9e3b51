"""What faces ask of the store: timelines, reconciliation, states, coverage, its own size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tracker.model.carry import Locator
from tracker.model.coverage import SOURCE_TTL, Coverage, SourceCover, join
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec
from tracker.store.bounds import Bounds
from tracker.store.bundles import bundles
from tracker.store.decode import EVENT_FIELDS, distinct, event
from tracker.store.engine import Engine
from tracker.store.sql import ask


class Window(msgspec.Struct, frozen=True):
    """Counts of the messages whose origin lies in [start, start + step)."""

    start: int
    produced: int
    orphans: int
    verdicts: dict[str, int]


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


class Answers:
    """Questions that faces ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    def timeline(self, flow: str, message_id: str, limit: int = 1000) -> list[Event]:
        """What was observed of one message, copies merged, by observed time; at most `limit` stored events are read."""
        rows = self._engine.rows(
            f"SELECT {EVENT_FIELDS} FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
            "AND message_id = {id:String} ORDER BY observed_at LIMIT {limit:UInt32} SETTINGS max_threads = 1",
            {"flow": flow, "id": message_id, "limit": limit},
        )
        return distinct(event(row) for row in rows)

    def reconciliation(
        self,
        flow: str,
        hops: Sequence[str],
        roots: Iterable[tuple[str, str]],
        bounds: Bounds,
        number: int,
        start: int,
        end: int,
        step: int,
    ) -> list[Window] | None:
        """The three books per window of origin time, all as pass `number` (with these bounds) left them; None when two
        passes have gone by since, so that nobody knows any more what it left. `hops` are those of all versions of the
        spec, `roots` the (hop, stage) at which messages begin."""
        named = {f"h{n}": hop for n, hop in enumerate(hops)}
        began = " OR ".join(
            f"(hop = {{h{hops.index(hop)}:String}} AND stage = '{Stage(stage).value}')" for hop, stage in sorted(roots)
        )
        sql = ask("reconciliation", self._db, roots=began, known=bounds.known(),
                  known_hops=" OR ".join(f"hop = {{{name}:String}}" for name in named))  # fmt: skip
        values = {"flow": flow, "pass": number, "start": start, "end": end, "step": step}
        rows = self._engine.rows(sql, values | named | bounds.parameters)
        if any(row["window"] < 0 for row in rows):
            return None
        return [
            Window(row["window"], row["produced"], row["orphans"], {k: v for k, v in row["verdicts"] if v})
            for row in rows
        ]

    def newest_pass(self, flow: str = "") -> int:
        """The highest pass that wrote a state, of this flow where one is named; 0 when none did."""
        sql = f"SELECT max(pass) FROM {self._db}.states WHERE tenant = '' {'AND flow = {flow:String}' if flow else ''}"
        return int(self._engine.command(sql, {"flow": flow}) or 0)

    def counts(self) -> dict[str, dict[str, int]]:
        """Messages per flow and verdict, now."""
        rows = self._engine.rows(
            f"SELECT flow, verdict, count() AS n FROM {self._db}.states FINAL WHERE tenant = '' GROUP BY flow, verdict"
        )
        found: dict[str, dict[str, int]] = {}
        for row in rows:
            found.setdefault(row["flow"], {})[row["verdict"]] = row["n"]
        return found

    def message_states(
        self, flow: str, verdict: str | None = None, flag: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """(message_id, verdict, flags, origin_at µs) of one flow's messages by id, after the id `after`."""
        where, parameters = ["flow = {flow:String}"], {"flow": flow, "limit": limit}
        overtaken = (
            f"message_id IN (SELECT message_id FROM {self._db}.reordered FINAL "
            "WHERE tenant = '' AND flow = {flow:String} AND passed_by != '')"
        )
        for name, value, condition in (
            ("verdict", verdict, "verdict = {verdict:String}"),
            ("flag", flag, f"(has(flags, {{flag:String}}) OR ({{flag:String}} = 'reordered' AND {overtaken}))"),
            ("after", after, "message_id > {after:String}"),
        ):
            if value:
                where.append(condition)
                parameters[name] = value
        return self._engine.rows(
            "SELECT message_id, verdict, marked AS flags, toUnixTimestamp64Micro(origin_at) AS origin FROM (SELECT "
            f"message_id, verdict, origin_at, if({overtaken}, arrayPushBack(flags, 'reordered'), flags) AS marked "
            f"FROM {self._db}.states FINAL WHERE tenant = '' AND {' AND '.join(where)} "
            "ORDER BY message_id LIMIT {limit:UInt32}) ORDER BY message_id",
            parameters,
        )

    def locators(self, flow: str, message_ids: Sequence[str], hop: str) -> list[Locator]:
        """The newest place of each message in the log of `hop`; messages that were never seen there are left out."""
        rows: list[dict[str, Any]] = []
        for some in bundles(message_ids):
            rows += self._engine.rows(
                f"SELECT message_id, argMax(partition, observed_at) AS part, argMax(offset, observed_at) AS place "
                f"FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} AND hop = {{hop:String}} "
                "AND message_id IN {ids:Array(String)} AND offset >= 0 AND stage IN ('persist', 'replicate') "
                "GROUP BY message_id",
                {"flow": flow, "ids": some, "hop": hop},
            )
        return [Locator(row["message_id"], hop, row["part"], row["place"]) for row in rows]

    # --- coverage -------------------------------------------------------------------------------------------------

    def runs(self, flow: str | None = None) -> list[Run]:
        """Every stretch that a collector vouches for, of one flow or of all."""
        where = "AND flow = {flow:String}" if flow else ""
        rows = self._engine.rows(
            "SELECT flow, hop, stage, source, evidence, collector, epoch, first_sequence, last_sequence, "
            "toUnixTimestamp64Micro(start_at) AS start, toUnixTimestamp64Micro(end_at) AS end, signed_off, broken "
            f"FROM {self._db}.coverage FINAL WHERE tenant = '' {where}",
            {"flow": flow} if flow else {},
        )
        return [msgspec.convert(row, Run) for row in rows]

    def coverage(self, spec: FlowSpec) -> Coverage:
        """What is vouched for in one flow, as of the last pass."""
        rows = self._engine.rows(
            f"SELECT hop, stage, toUnixTimestamp64Micro(max(received_at)) AS at FROM {self._db}.heard "
            "WHERE tenant = '' AND flow = {flow:String} GROUP BY hop, stage",
            {"flow": spec.flow},
        )
        heard = {(row["hop"], row["stage"]): row["at"] for row in rows}
        return coverage_of(spec, self.runs(spec.flow), heard)

    def node_clocks(self, since: int, limit: int) -> dict[str, int]:
        """Offset of a collector's node as it measured it last, µs; the largest among reports since then (µs)."""
        rows = self._engine.rows(
            f"SELECT collector, argMax(clock_offset, received_at) AS off FROM {self._db}.reports "
            "WHERE clock_error >= 0 AND received_at >= fromUnixTimestamp64Micro({since:Int64}) GROUP BY collector "
            "ORDER BY abs(off) DESC, collector LIMIT {limit:UInt32}",
            {"since": since, "limit": limit},
        )
        return {row["collector"]: row["off"] for row in rows}

    def stats(self) -> dict[str, dict[str, int]]:
        """Rows, bytes on disk and active parts per table."""
        rows = self._engine.rows(
            "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts "
            "WHERE active AND database = {database:String} GROUP BY table",
            {"database": self._db},
        )
        return {row["table"]: {"rows": row["rows"], "bytes": row["bytes"], "parts": row["parts"]} for row in rows}


def coverage_of(spec: FlowSpec, runs: Sequence[Run], heard: dict[tuple[str, str], int]) -> Coverage:
    """Runs joined to intervals per source; a source whose runs all ended long ago closes after its time to live."""
    groups: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.hop, run.stage, run.source, run.evidence), []).append(run)
    newest = max((run.end for run in runs), default=0)
    sources: dict[tuple[str, str], list[SourceCover]] = {}
    for (hop, stage, source, evidence), group in groups.items():
        intervals = join([(run.start, run.end) for run in group])
        last = max(group, key=lambda run: (run.end, run.signed_off))
        closed = last.end if last.signed_off else None
        if closed is None and newest > last.end + SOURCE_TTL:
            closed = last.end + SOURCE_TTL
        sources.setdefault((hop, stage), []).append(SourceCover(source, intervals, closed, evidence))
    assumed = frozenset((hop, c.stage.value) for c in spec.checkpoints if c.coverage == "assumed" for hop in c.hop)
    return Coverage(sources, heard, assumed)
