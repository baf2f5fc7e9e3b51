"""What one pass of the reconciler asks of the store: what is new, and to keep the results.

Every step may be done again with the same bounds, `now` and pass number, and then leaves the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa

from tracker.model.event import Event, Range
from tracker.store.bounds import Bounds
from tracker.store.bundles import bundles
from tracker.store.decode import EVENT_FIELDS, RANGE_FIELDS, event, moved
from tracker.store.engine import Engine
from tracker.store.vouched import Heard, Place
from tracker.store.writer import typed

LANES = (("events", "sequence"), ("ranges", "sequence"), ("reports", "lane_sequence"))
WORK_TIMES = frozenset(
    {"due_at", "opened_at", "known_at", "resolved_at", "deadline", "origin_at", "origin_was", "start_at", "end_at"}
)


class Passing:
    """The questions and writes of a pass, on one engine, but for the folding (`tracker.store.folding`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    # --- what is new ----------------------------------------------------------------------------------------------

    def stored_since(self, before: Bounds) -> list[tuple[int, int, int]]:
        """(lane, sequence, rows) of every insert beyond `before`, of events, ranges and reports.

        Of lanes that are known, what lies behind the oldest of their ends is skipped unread (index `new_since`); new
        lanes are looked for down to the floor, past all granules that hold none (index `of_lane`).
        """
        known = (
            "has({{lanes:Array(UInt64)}}, lane) AND {sequence} > {{lowest:UInt64}} "
            "AND {sequence} > transform(lane, {{lanes:Array(UInt64)}}, {{ends:Array(UInt64)}}, toUInt64(0))"
        )
        unknown = "lane NOT IN {{lanes:Array(UInt64)}} AND {sequence} > {{floor:UInt64}}"
        rows = self._engine.rows(
            " UNION ALL ".join(
                f"SELECT lane, {sequence} AS seq, count() AS n FROM {self._db}.{table} "
                f"WHERE {where.format(sequence=sequence)} GROUP BY lane, seq"
                for table, sequence in LANES
                for where in (known, unknown)
            ),
            {
                "floor": before.floor,
                "lanes": list(before.until),
                "ends": list(before.until.values()),
                "lowest": min(before.until.values(), default=before.floor),
            },
        )
        return [(row["lane"], row["seq"], row["n"]) for row in rows]

    def heard(self, bounds: Bounds) -> list[Heard]:
        """Who sent events that are new, flows that have no spec included."""
        rows = self._engine.rows(
            f"SELECT flow, hop, toString(stage) AS stage, toUnixTimestamp64Micro(max(received_at)) AS received_at, "
            f"count() AS events FROM {self._db}.events WHERE {bounds.new()} GROUP BY flow, hop, stage",
            bounds.parameters,
        )
        return [msgspec.convert(row, Heard) for row in rows]

    def heard_before(self, bounds: Bounds, moments: Mapping[Place, int]) -> dict[Place, int]:
        """The newest receipt, µs, of what is new from each of these places and came before its moment. What came after
        all of these is not looked at closely."""
        if not moments:
            return {}
        named = dict(zip(("flows", "hops", "stages"), map(list, zip(*moments, strict=True)), strict=True))
        places = "arrayZip({flows:Array(String)}, {hops:Array(String)}, {stages:Array(String)})"
        which = f"indexOf({places}, (toString(flow), toString(hop), toString(stage)))"
        rows = self._engine.rows(
            "SELECT flow, hop, toString(stage) AS at_stage, "
            f"toUnixTimestamp64Micro(max(received_at)) AS at FROM {self._db}.events WHERE {bounds.new()} "
            f"AND received_at < fromUnixTimestamp64Micro({{latest:Int64}}) AND {which} > 0 "
            f"AND toUnixTimestamp64Micro(received_at) < arrayElement({{moments:Array(Int64)}}, {which}) "
            "GROUP BY flow, hop, at_stage",
            bounds.parameters | named | {"moments": list(moments.values()), "latest": max(moments.values())},
        )
        return {(row["flow"], row["hop"], row["at_stage"]): row["at"] for row in rows}

    def ranged(self, bounds: Bounds) -> list[tuple[str, str, str]]:
        """(flow, hop, stage) that new ranges speak of."""
        rows = self._engine.rows(
            f"SELECT DISTINCT flow, hop, stage FROM {self._db}.ranges WHERE {bounds.new()}", bounds.parameters
        )
        return [(row["flow"], row["hop"], row["stage"]) for row in rows]

    def ever_ranged(self) -> list[tuple[str, str, str]]:
        """(flow, hop, stage) for which range evidence was ever stored."""
        rows = self._engine.rows(f"SELECT DISTINCT flow, hop, stage FROM {self._db}.ranges WHERE tenant = ''")
        return [(row["flow"], row["hop"], row["stage"]) for row in rows]

    def has_ranges(self, flow: str) -> bool:
        """Range evidence was ever stored of this flow."""
        asked = f"SELECT 1 AS some FROM {self._db}.ranges WHERE tenant = '' AND flow = {{flow:String}} LIMIT 1"
        return bool(self._engine.rows(asked, {"flow": flow}))

    def had(
        self, table: Literal["events", "ranges"], flow: str, bounds: Bounds, hops: Sequence[str] | None = None
    ) -> bool:
        """Passes before this one have seen events, or ranges, of this flow; where hops are given, at any of these."""
        at = "" if hops is None else "AND hop IN {hops:Array(String)}"
        return bool(
            self._engine.rows(
                f"SELECT 1 AS some FROM {self._db}.{table} WHERE tenant = '' AND flow = {{flow:String}} "
                f"{at} AND {bounds.known()} AND NOT {bounds.new()} LIMIT 1",
                bounds.parameters | {"flow": flow, "hops": list(hops or ())},
            )
        )

    def due_flows(self, bounds: Bounds, now: int) -> dict[str, int]:
        """Flows with messages whose time has come, and how many timers say so."""
        rows = self._engine.rows(
            "SELECT flow, count() AS n "
            f"FROM {self._db}.timers WHERE due_at > fromUnixTimestamp64Micro({{after:Int64}}) "
            "AND due_at <= fromUnixTimestamp64Micro({now:Int64}) GROUP BY flow",
            {"after": bounds.due_after, "now": now},
        )
        return {row["flow"]: row["n"] for row in rows}

    def new_reports(self, bounds: Bounds) -> list[dict[str, Any]]:
        """Coverage reports that are new, oldest first; `received` in µs."""
        return self._engine.rows(
            "SELECT collector, epoch, sequence, lag_ms, dropped, sources, signed_off, "
            f"toUnixTimestamp64Micro(received_at) AS received FROM {self._db}.reports "
            f"WHERE {bounds.new('lane_sequence')} ORDER BY received_at, collector, epoch, sequence",
            bounds.parameters,
        )

    # --- look up ------------------------------------------------------------------------------------------------------

    def events_of(self, flow: str, ids: Sequence[str], bounds: Bounds | None) -> dict[str, list[Event]]:
        """The events of these messages by id; with `bounds`, only those that the pass, or one before, has folded."""
        scope = f"AND {bounds.known()}" if bounds else ""
        known = bounds.parameters if bounds else {}
        found: dict[str, list[Event]] = {}
        for some in bundles(ids):
            rows = self._engine.rows(
                f"SELECT {EVENT_FIELDS} FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
                f"AND message_id IN {{ids:Array(String)}} {scope}",
                {"flow": flow, "ids": some, **known},
            )
            for row in rows:
                found.setdefault(row["message_id"], []).append(event(row))
        return found

    def ranges_over(self, flow: str, places: Iterable[tuple[str, str, int, int]]) -> list[Range]:
        """Ranges of a flow that touch any of (log, partition, lowest offset, highest offset)."""
        asked = list(places)
        if not asked:
            return []
        logs, partitions, lows, highs = (list(values) for values in zip(*asked, strict=True))
        rows = self._engine.rows(
            f"SELECT {RANGE_FIELDS} FROM {self._db}.ranges WHERE tenant = '' AND flow = {{flow:String}} "
            "AND log IN {logs:Array(String)} AND arrayExists((l, p, low, high) -> "
            "log = l AND partition = p AND offset <= high AND offset_to > low, {logs:Array(String)}, "
            "{partitions:Array(String)}, {lows:Array(Int64)}, {highs:Array(Int64)})",
            {"flow": flow, "logs": logs, "partitions": partitions, "lows": lows, "highs": highs},
        )
        return [moved(row) for row in rows]

    # --- keep -----------------------------------------------------------------------------------------------------

    def keep(self, table: str, columns: pa.Table) -> None:
        """Append judged states, timers, findings or coverage runs; int64 time columns are typed."""
        if columns.num_rows:
            self._engine.insert(table, typed(columns, WORK_TIMES))

    def remember_heard(self, heard: Sequence[Heard]) -> None:
        """Keep the newest receipts per (flow, hop, stage)."""
        if not heard:
            return
        columns = pa.table(
            {
                "tenant": [""] * len(heard),
                "flow": [h.flow for h in heard],
                "hop": [h.hop for h in heard],
                "stage": [h.stage for h in heard],
                "received_at": pa.array([h.received_at for h in heard], pa.int64()),
                "unannounced_at": pa.array([h.unannounced_at for h in heard], pa.int64()),
            }
        )
        self._engine.insert("heard", typed(columns, frozenset({"received_at", "unannounced_at"})))
