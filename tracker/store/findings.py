"""Findings as stored: one row per message, hop, stage and kind; the newest pass counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import structs

from tracker.model.errors import Invalid
from tracker.store.bundles import bundles
from tracker.store.engine import Engine
from tracker.store.sql import LOST, ask
from tracker.store.writer import typed

OPEN, RECOVERED, WITHDRAWN, SUPERSEDED = "open", "recovered", "withdrawn", "superseded"
PARKED, ABANDONED = "parked", "abandoned"
SETTLED = frozenset({RECOVERED, WITHDRAWN, SUPERSEDED})
"""Nobody has to do anything about these; when what they say becomes true again they are opened again."""
RULED = {PARKED: (OPEN,), ABANDONED: (OPEN, PARKED), OPEN: (PARKED, ABANDONED)}
"""What a person or a replay may make of a finding: by its new status, those that it may have before."""
TIMES = frozenset({"opened_at", "known_at", "resolved_at", "deadline", "origin_at"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What needs somebody. Times in µs; 0 where there is none. `cause` names the checkpoint before it that explains
    it (it is then counted with that one's incident); `by` is `replay` or `itself` once recovered, once superseded the
    kind of the finding that took its place, and `replay` or `person` where one of these parked it, gave it up or opened
    it again."""

    finding_id: str
    flow: str
    message_id: str
    hop: str
    stage: str
    kind: str
    status: str
    incident: str
    opened_at: int
    known_at: int
    resolved_at: int = 0
    deadline: int = 0
    origin_at: int = 0
    by: str = ""
    cause: str = ""
    held_by: list[str] = []
    why: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about, within its message."""
        return (self.hop, self.stage, self.kind)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One incident over all of its findings but those that others before them explain (`caused` counts these). Times
    in µs, 0 where there is none; spans from opened to recovered, None where nothing recovered so. `lost`: parked, given
    up, or open while no hop before it holds a copy."""

    messages: int
    caused: int
    lost: int
    parked: int
    abandoned: int
    first_origin: int
    first_deadline: int
    first_known: int
    first_opened: int
    last_opened: int
    by_replay: int
    by_itself: int
    replay_p50: int | None
    replay_p90: int | None
    itself_p50: int | None
    itself_p90: int | None


_FIELDS = """finding_id, flow, message_id, hop, stage, kind, status, incident,
    toUnixTimestamp64Micro(opened_at) AS opened, toUnixTimestamp64Micro(known_at) AS known,
    toUnixTimestamp64Micro(resolved_at) AS resolved, toUnixTimestamp64Micro(deadline) AS due,
    toUnixTimestamp64Micro(origin_at) AS origin, by, cause, held_by, why"""
_RENAMED = {"opened": "opened_at", "known": "known_at", "resolved": "resolved_at", "due": "deadline",
            "origin": "origin_at"}  # fmt: skip


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(**{_RENAMED.get(name, name): value for name, value in row.items()})


class Findings:
    """Questions about findings, and their writes."""

    _engine: Engine
    _db: str

    def findings(
        self,
        flow: str | None = None,
        hop: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        incident: str | None = None,
        message_id: str | None = None,
        message_ids: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 100,
        lost: bool = False,
    ) -> list[Finding]:
        """Findings by (opened_at, finding_id), newest first, after the cursor that `cursor_of` made of the last one.
        `lost`: only what counts as lost for good, without what an earlier checkpoint's finding explains.

        Raises Invalid for a cursor that is none.
        """
        equal = {
            "flow": flow,
            "hop": hop,
            "kind": kind,
            "status": status,
            "incident": incident,
            "message_id": message_id,
        }
        chosen = {name: value for name, value in equal.items() if value is not None}
        where = [f"{name} = {{{name}:String}}" for name in chosen]
        parameters: dict[str, Any] = {**chosen, "limit": limit}
        if message_ids is not None:
            where.append("message_id IN {ids:Array(String)}")
        if lost:
            where.append(f"cause = '' AND {LOST}")
        if after:
            parameters["before"], parameters["id"] = _cursor(after)
            where.append("(toUnixTimestamp64Micro(opened_at), finding_id) < ({before:Int64}, {id:String})")
        sql = (
            f"SELECT {_FIELDS} FROM {self._db}.findings FINAL WHERE tenant = '' {''.join(' AND ' + w for w in where)} "
            "ORDER BY opened_at DESC, finding_id DESC LIMIT {limit:UInt32}"
        )
        if message_ids is None:
            return [_finding(row) for row in self._engine.rows(sql, parameters)]
        asked = [self._engine.rows(sql, parameters | {"ids": some}) for some in bundles(message_ids)]
        found = [_finding(row) for rows in asked for row in rows]
        return sorted(found, key=lambda f: (f.opened_at, f.finding_id), reverse=True)[:limit]

    def oldest_open(
        self, flow: str, kinds: Sequence[str], until: int, after: tuple[int, str] = (0, ""), limit: int = 1000
    ) -> list[Finding]:
        """Open findings of these kinds that nothing before them explains, opened until then (µs), by (opened_at,
        finding_id), behind `after`."""
        sql = (
            f"SELECT {_FIELDS} FROM {self._db}.findings FINAL WHERE tenant = '' AND flow = {{flow:String}} "
            "AND kind IN {kinds:Array(String)} AND status = 'open' AND cause = '' "
            "AND toUnixTimestamp64Micro(opened_at) <= {until:Int64} "
            "AND (toUnixTimestamp64Micro(opened_at), finding_id) > ({at:Int64}, {id:String}) "
            "ORDER BY opened_at, finding_id LIMIT {limit:UInt32}"
        )
        asked = {"flow": flow, "kinds": list(kinds), "until": until, "at": after[0], "id": after[1], "limit": limit}
        return [_finding(row) for row in self._engine.rows(sql, asked)]

    def findings_of(self, flow: str, ids: Sequence[str], before: int) -> dict[str, list[Finding]]:
        """Findings of these messages as they stood before pass `before`, by message.

        A pass that is done again must not see its own rows. Where the engine has merged away the row that one of them
        replaced, one that it opened is given as superseded: the pass then opens it again, in the same incident. One
        that was ruled on is given as it is, and stays so. Others are not given: it leaves what it wrote.
        """
        rows: list[dict[str, Any]] = []
        for some in bundles(ids):
            rows += self._engine.rows(
                f"SELECT {_FIELDS}, pass FROM {self._db}.findings WHERE tenant = '' AND flow = {{flow:String}} "
                "AND message_id IN {ids:Array(String)} ORDER BY pass",
                {"flow": flow, "ids": some},
            )
        newest: dict[tuple[str, str, str, str], Finding] = {}
        for row in rows:
            number = row.pop("pass")
            found = _finding(row)
            if number < before:
                newest[found.message_id, *found.key] = found
            elif number == before and (found.status in (PARKED, ABANDONED) or (found.status == OPEN and found.by)):
                newest.setdefault((found.message_id, *found.key), found)
            elif number == before and found.status == OPEN:
                newest.setdefault((found.message_id, *found.key), structs.replace(found, status=SUPERSEDED))
        by_message: dict[str, list[Finding]] = {}
        for found in newest.values():
            by_message.setdefault(found.message_id, []).append(found)
        return by_message

    def keep_findings(self, findings: Sequence[Finding], number: int) -> None:
        """Store findings as pass `number` left them."""
        if not findings:
            return
        names = Finding.__struct_fields__
        data: dict[str, Any] = {name: [getattr(f, name) for f in findings] for name in names}
        data |= {"tenant": [""] * len(findings), "pass": pa.array([number] * len(findings), pa.uint64())}
        data["held_by"] = pa.array(data["held_by"], pa.list_(pa.string()))
        for name in TIMES:
            data[name] = pa.array(data[name], pa.int64())
        self._engine.insert("findings", typed(pa.table(data), TIMES))

    def rule(
        self, number: int, now: int, flow: str, status: str, by: str, ids: Sequence[str] = (), **place: str
    ) -> None:
        """Make findings `status` (`RULED`), as pass `number` at `now`: those of a place (`incident`, or `hop` and
        `stage`), and, where ids are given, of these messages. Those that stand otherwise by now stay as they are."""
        where = [f"{name} = {{{name}:String}}" for name in place]
        where += ["message_id IN {ids:Array(String)}"] if ids else []
        said = {"pass": number, "now": now, "flow": flow, "status": status, "by": by, "before": list(RULED[status])}
        for some in bundles(ids) if ids else [[]]:
            self._engine.command(
                ask("rule", self._db, narrowed=" AND ".join(where)), said | place | ({"ids": some} if some else {})
            )

    def ruled(self, incident: str, status: str, ids: Sequence[str] = ()) -> int:
        """How many findings of an incident, or of these messages in it, `rule` would make `status` now."""
        where = "AND message_id IN {ids:Array(String)}" if ids else ""
        sql = (
            f"SELECT countIf(cause = '') AS n FROM {self._db}.findings FINAL WHERE tenant = '' "
            f"AND incident = {{incident:String}} AND status IN {{before:Array(String)}} {where}"
        )
        said: dict[str, Any] = {"incident": incident, "before": list(RULED[status])}
        return sum(
            self._engine.rows(sql, said | ({"ids": some} if some else {}))[0]["n"]
            for some in (bundles(ids) if ids else [[]])
        )

    def incidents_of_pass(self, number: int) -> list[str]:
        """Incidents of the findings that pass `number` has written."""
        sql = f"SELECT DISTINCT incident FROM {self._db}.findings WHERE tenant = '' AND pass = {{pass:UInt64}}"
        return [row["incident"] for row in self._engine.rows(sql, {"pass": number})]

    def incident_counts(self, incidents: Sequence[str]) -> list[dict[str, Any]]:
        """For each incident: findings by status and recovery spans (µs), counted anew; caused ones are left out."""
        sql = (
            "SELECT incident, any(flow) AS flow, any(hop) AS hop, any(stage) AS stage, any(kind) AS kind, "
            "toUnixTimestamp64Micro(min(opened_at)) AS first_at, toUnixTimestamp64Micro(max(opened_at)) AS last_at, "
            "countIf(status = 'open') AS open, countIf(status = 'recovered') AS recovered, "
            "countIf(status = 'recovered' AND by = 'itself') AS by_itself, countIf(status = 'withdrawn') AS withdrawn, "
            "countIf(status = 'superseded') AS superseded, "
            "countIf(status = 'parked') AS parked, countIf(status = 'abandoned') AS abandoned, count() AS total, "
            "quantilesExact(0.5, 0.9)(toUnixTimestamp64Micro(opened_at) - toUnixTimestamp64Micro(known_at)) AS detect, "
            "quantilesExactIf(0.5, 0.9)(toUnixTimestamp64Micro(resolved_at) - toUnixTimestamp64Micro(opened_at), "
            "status = 'recovered') AS recover "
            f"FROM {self._db}.findings FINAL WHERE tenant = '' AND incident IN {{ids:Array(String)}} AND cause = '' "
            "GROUP BY incident"
        )
        return [row for some in bundles(incidents) for row in self._engine.rows(sql, {"ids": some})]

    def incident_facts(self, incident: str) -> Facts:
        """What there is to tell of one incident."""
        [row] = self._engine.rows(ask("incident_facts", self._db), {"incident": incident})
        spans = {
            f"{way}_{name}": round(value) if row[f"by_{way}"] else None
            for way in ("replay", "itself")
            for name, value in zip(("p50", "p90"), row.pop(f"{way}_spans"), strict=True)
        }
        return msgspec.convert(row | spans, Facts)

    def finding_counts(self) -> list[dict[str, Any]]:
        """(flow, hop, kind, status, n) over all findings that nothing before them explains."""
        return self._engine.rows(
            f"SELECT flow, hop, kind, status, count() AS n FROM {self._db}.findings FINAL "
            "WHERE tenant = '' AND cause = '' GROUP BY flow, hop, kind, status"
        )


def cursor_of(finding: Finding) -> str:
    """Where the page that ends with this finding ends."""
    return f"{finding.opened_at}-{finding.finding_id}"


def _cursor(text: str) -> tuple[int, str]:
    number, _, ident = text.partition("-")
    if not number.isdigit() or not ident:
        raise Invalid(f"cursor {text!r} is none of ours; begin again without it")
    return int(number), ident
