"""What faces ask of the store: timelines, reconciliation, states, its own size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tracker.model.carry import Locator
from tracker.model.event import Event, Stage
from tracker.store.bounds import Bounds
from tracker.store.bundles import MOST as FITS
from tracker.store.bundles import bundles
from tracker.store.decode import EVENT_FIELDS, distinct, event
from tracker.store.engine import Engine
from tracker.store.sql import ask

MUCH, MOST = 1000, 20_000
"""So many stored events of one message are read as they are; so many different ones are read at all."""


class Window(msgspec.Struct, frozen=True):
    """Counts of the messages whose origin lies in [start, start + step)."""

    start: int
    produced: int
    orphans: int
    verdicts: dict[str, int]


class Answers:
    """Questions that faces ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    def timeline(self, flow: str, message_id: str) -> list[Event]:
        """What was observed of one message, copies merged, by observed time. All of it, for it is judged by that: where
        much is stored of it, the engine merges the copies. Of more than `MOST` events the earliest."""
        asked = {"flow": flow, "id": message_id}
        rows = self._engine.rows(
            f"SELECT {EVENT_FIELDS} FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
            "AND message_id = {id:String} LIMIT {limit:UInt32} SETTINGS max_threads = 1",
            asked | {"limit": MUCH},
        )
        if len(rows) == MUCH:
            sql = ask("timeline", self._db, fields=EVENT_FIELDS, none="toDateTime64(0, 6, 'UTC')")
            rows = self._engine.rows(sql, asked | {"limit": MOST})
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
        spec, `roots` the (hop, stage) at which messages begin; without hops no event is read."""
        named = {f"h{n}": hop for n, hop in enumerate(hops)}
        began = " OR ".join(
            f"(hop = {{h{hops.index(hop)}:String}} AND stage = '{Stage(stage).value}')" for hop, stage in sorted(roots)
        )
        known = " OR ".join(f"hop = {{{name}:String}}" for name in named)
        mine = f"flow = {{flow:String}} AND ({known or 'false'}) AND {bounds.known()}"
        columns = f"message_id, max({began or 'false'}) AS began"
        origins = ask("origins", self._db, columns=columns, mine=mine, by="message_id")
        sql = ask("reconciliation", self._db, origins=origins)
        values = {"flow": flow, "pass": number, "start": start, "end": end, "step": step}
        rows = self._engine.rows(sql, values | named | bounds.parameters)
        if any(row["window"] < 0 for row in rows):
            return None
        return [
            Window(row["window"], row["produced"], row["orphans"], {k: v for k, v in row["verdicts"] if v})
            for row in rows
        ]

    def conservation(
        self, hops: Mapping[str, Sequence[str]], bounds: Bounds, number: int, start: int, end: int
    ) -> dict[str, int] | None:
        """By flow: produced + orphans less the sum over verdicts, of messages whose origin lies in [start, end), µs; as
        pass `number` (with these bounds) left them, None when two have gone by since. `hops`: by flow, those of all
        versions of its spec."""
        found = dict.fromkeys(hops, 0)
        places = "SELECT arrayJoin(arrayZip({of:Array(String)}, {hops:Array(String)})) AS place"
        known = f"(flow, hop) IN (SELECT place.1, place.2 FROM ({places})) AND {bounds.known()}"
        mine = f"flow IN {{flows:Array(String)}} AND {known}"
        origins = ask("origins", self._db, columns="flow, message_id", mine=mine, by="flow, message_id")
        sql = ask("conservation", self._db, origins=origins)
        window = {"pass": number, "start": start, "end": end} | bounds.parameters
        longest = max((sum(len(flow) + len(hop) + 6 for hop in some) for flow, some in hops.items()), default=1)
        flows, most = list(hops), max(1, FITS // longest)
        for start in range(0, len(flows), most):
            some = flows[start : start + most]
            of = [(flow, hop) for flow in some for hop in hops[flow]]
            named = {"flows": some, "of": [flow for flow, _ in of], "hops": [hop for _, hop in of]}
            rows = self._engine.rows(sql, window | named)
            if any(row["overtaken"] for row in rows):
                return None
            found |= {row["flow"]: row["difference"] for row in rows}
        return found

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
        """The newest place of each message in the log of `hop` that it was not dropped from; messages that were never
        seen there, or dropped from wherever they were, are left out."""
        rows: list[dict[str, Any]] = []
        for some in bundles(message_ids):
            rows += self._engine.rows(
                "SELECT message_id, argMax(partition, at) AS part, argMax(offset, at) AS place FROM ("
                f"SELECT message_id, partition, offset, max(observed_at) AS at FROM {self._db}.events "
                "WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} "
                "AND message_id IN {ids:Array(String)} AND offset >= 0 AND stage IN ('persist', 'replicate', 'drop') "
                "GROUP BY message_id, delivery, partition, offset HAVING countIf(stage = 'drop') = 0"
                ") GROUP BY message_id",
                {"flow": flow, "ids": some, "hop": hop},
            )
        return [Locator(row["message_id"], hop, row["part"], row["place"]) for row in rows]

    def keys(self, flow: str, message_ids: Sequence[str]) -> dict[str, str]:
        """The key of each of these messages as it was seen first, or its hash; those without one are left out."""
        rows: list[dict[str, Any]] = []
        for some in bundles(message_ids):
            rows += self._engine.rows(
                "SELECT message_id, argMin(if(key != '', key, leftPad(lower(hex(key_hash)), 16, '0')), observed_at) "
                f"AS seen FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
                "AND message_id IN {ids:Array(String)} AND (key != '' OR key_hash != 0) GROUP BY message_id",
                {"flow": flow, "ids": some},
            )
        return {row["message_id"]: row["seen"] for row in rows}

    def carrying(
        self,
        flow: str,
        message_ids: Sequence[str],
        key_hash: int | None,
        reason: str | None,
        attributes: Mapping[str, str],
    ) -> list[str]:
        """Those of these messages of which some event has a key with this hash, some this reason, and some each of
        these attributes; what is None or empty is not asked for."""
        having: list[str] = []
        parameters: dict[str, Any] = {"flow": flow}
        if key_hash is not None:
            having.append("countIf(key_hash = {key:UInt64}) > 0")
            parameters["key"] = key_hash
        if reason is not None:
            having.append("countIf(reason = {reason:String}) > 0")
            parameters["reason"] = reason
        for n, (name, value) in enumerate(sorted(attributes.items())):
            key = f"{{name{n}:String}}"  # a map gives '' for what it does not hold
            having.append(f"countIf(mapContains(attributes, {key}) AND attributes[{key}] = {{value{n}:String}}) > 0")
            parameters |= {f"name{n}": name, f"value{n}": value}
        asked = (
            f"SELECT message_id FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
            f"AND message_id IN {{ids:Array(String)}} GROUP BY message_id HAVING {' AND '.join(having) or '1'}"
        )
        rows = [row for some in bundles(message_ids) for row in self._engine.rows(asked, parameters | {"ids": some})]
        return [row["message_id"] for row in rows]

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
