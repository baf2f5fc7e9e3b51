"""Series of what passes counted, by flow and checkpoint: in steps for what is now, by the hour for what is usual; the
minutes in which nobody watched; and the anomalies that were found.

Seasons are worked out in the engine, by its `seriesDecomposeSTL` (Cleveland et al., 1990) and
`seriesOutliersDetectTukey` (Tukey, 1977). docs/anomalies.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa

from tracker.model.errors import Invalid
from tracker.model.verdict import Verdict
from tracker.store.bundles import bundles
from tracker.store.engine import Engine
from tracker.store.settled import BAD
from tracker.store.sql import ask

MINUTE, HOUR, DAY = 60, 3600, 86_400
UTC = "UTC"
HISTORY = 35 * DAY
"""So much of the past makes a season: five weeks."""
WEEK_FROM, DAY_FROM, LEAST = 14 * 24, 3 * 24, 6
"""So many hours of history make a season of hours of the week, of hours of the day, and a level without a season."""
FENCE = 3.0
"""Tukey's factor for what is far out."""
MISSING = (Verdict.lost, Verdict.unacknowledged, Verdict.under_replicated, Verdict.dead_lettered)
"""First verdicts of messages that did not arrive: they are the flow's loss."""
SMALLEST = "1 / 60"
"""Messages a minute that are added before a logarithm is taken: one an hour."""

VALUES = {
    "volume": (f"log(begun / 60 + {SMALLEST})", f"if(due = 0, nan, log(seen / 60 + {SMALLEST}))"),
    "latency": ("", "log(finalizeAggregation(sketch)[1])"),
    "loss": (
        f"if(delivered + bad = 0, nan, sqrt(({' + '.join(MISSING)}) / (delivered + bad)))",
        "if(due = 0, nan, sqrt((due - seen) / due))",
    ),
    "duplicates": ("if(delivered + bad = 0, nan, sqrt(duplicated / (delivered + bad)))", ""),
}
"""SQL of each signal as it is compared, of a flow's and of a checkpoint's hour: the logarithm of messages a minute and
of the median of µs, the square root of shares. Empty: it has no such series. Hours of before migration 0017 say of no
checkpoint how many messages it was due to see, and saw."""
LOCAL_HOUR = (
    "toInt32(intDiv(toInt64(toUnixTimestamp(at)) + {ahead:Array(Int32)}[arrayCount(x -> x <= toUnixTimestamp(at), "
    "{since:Array(UInt32)})] - {first:Int64} + 7200, 3600) - 2)"
)
"""SQL: the number of the hour of `at`, by a clock that was `ahead` of UTC by so many seconds `since` then, from `first`
on. The hour that a clock skips has no row; of the two that it shows twice, one counts. (Shifted, for a division of what
is below zero rounds up.)"""
FIELDS = (
    "flow", "hop", "stage", "signal", "direction", "since", "opened_at", "last_at", "until", "ended_by", "expected",
    "came", "distance", "baseline",
)  # fmt: skip
_TIMES = ("since", "opened_at", "last_at", "until")


def offset(moment: int, zone: str) -> int:
    """How many seconds a clock of this time zone is ahead of UTC at `moment`, epoch s. UTC needs no table of zones."""
    if zone == UTC:
        return 0
    ahead = datetime.fromtimestamp(moment, ZoneInfo(zone)).utcoffset()
    return round(ahead.total_seconds()) if ahead else 0


class Season(msgspec.Struct, frozen=True):
    """What is usual for one series, as it is compared: `seasonal` of the last `period` hours, and the levels of the
    last week and of the last day beside it; `spread`: the usual distance from both together."""

    flow: str
    hop: str
    stage: str
    hours: int
    period: int
    seasonal: list[float]
    long: float
    short: float
    spread: float


class Anomaly(msgspec.Struct, frozen=True):
    """A signal that is not what is usual: `hop` and `stage` are empty for the whole flow. Times in epoch s: it began
    `since`, was noticed at `opened_at`, was there at `last_at`, and ended; `until` is 0 while it lasts. `expected` and
    `came`: messages a minute, seconds, or a share of 1, where it was furthest off, by `distance` (in usual distances).
    `baseline`: hour of week, hour of day or level."""

    flow: str
    hop: str
    stage: str
    signal: str
    direction: str
    since: int
    opened_at: int
    last_at: int
    until: int
    ended_by: str
    expected: float
    came: float
    distance: float
    baseline: str

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What may be off once at a time."""
        return self.flow, self.hop, self.stage, self.signal, self.direction


class Anomalies:
    """The series, on one engine."""

    _engine: Engine
    _db: str

    def series(self, flows: Sequence[str], start: int, end: int, step: int) -> tuple[pa.Table, pa.Table]:
        """What was counted of these flows in [start, end), epoch s, by steps of so many seconds: rows of whole flows,
        and of checkpoints. Only of what passes of the last days left."""
        base = {"start": start, "end": end, "step": step}
        settled = " + ".join(["delivered", *(verdict.value for verdict in BAD)])
        pieces = {"settled": settled, "missing": " + ".join(MISSING)}
        questions = [ask("series_flows", self._db, **pieces), ask("series_places", self._db)]
        found = [[self._engine.table(sql, base | {"flows": some}) for some in bundles(flows)] for sql in questions]
        return pa.concat_tables(found[0]), pa.concat_tables(found[1])

    def seasons(self, signal: str, flows: Sequence[str], now: int, zone: str = UTC) -> list[Season]:
        """What is usual for this signal of these flows, from the hours that were over at `now` (epoch s) and summed up,
        by the clock of a time zone; none where there are too few of them."""
        end = now // HOUR * HOUR
        start = end - HISTORY
        base: dict[str, Any] = {"start": start - HOUR, "end": end, "first": start + offset(end, zone)}
        base |= _clock(start - HOUR, end, zone)
        base |= {"week": WEEK_FROM, "day": DAY_FROM, "least": LEAST, "fence": FENCE, "masked": signal == "volume"}
        empty = {"volume": f"log({SMALLEST})", "coverage": "0"}.get(signal, "nan")
        pieces = {"values": self._values(signal), "masks": ask("hours_masked", self._db)}
        pieces |= {"hour": LOCAL_HOUR, "hours": str(HISTORY // HOUR), "empty": empty}
        found: list[Season] = []
        for name in ("seasons",) if signal == "coverage" else ("seasons", "levels"):  # what has no row was watched
            sql = ask(name, self._db, **pieces)
            for some in bundles(flows):
                found += [msgspec.convert(row, Season) for row in self._engine.rows(sql, base | {"flows": some})]
        return found

    def _values(self, signal: str) -> str:
        if signal == "coverage":
            return ask("hours_unwatched", self._db)
        flow, place = VALUES[signal]
        bad = " + ".join(verdict.value for verdict in BAD)
        parts = []
        if flow:
            parts.append(ask("hours_flows", self._db, value=flow.replace("bad", f"({bad})")))
        if place:
            which = "isFinite(y)" if signal == "latency" else "hop != ''"
            parts.append(ask("hours_places", self._db, value=place, which=which))
        return " UNION ALL ".join(parts)

    # --- minutes that were not watched ----------------------------------------------------------------------------

    def keep_unjudged(self, start: int, end: int) -> None:
        """Nothing was judged in [start, end), epoch s, whatever came: no count of these minutes means anything, whose
        ever it is. Of more than a season looks at, what it looks at."""
        minutes = range(max(start, end - HISTORY) // MINUTE * MINUTE, end, MINUTE)
        self.keep_unwatched([("", "", "", minute, MINUTE) for minute in minutes])

    def unjudged(self, start: int, end: int) -> frozenset[int]:
        """The minutes (epoch s) in [start, end) of which `keep_unjudged` was told."""
        sql = (
            f"SELECT DISTINCT toUnixTimestamp(at) AS minute FROM {self._db}.unwatched WHERE tenant = '' AND flow = '' "
            "AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')"
        )
        return frozenset(row["minute"] for row in self._engine.rows(sql, {"start": start, "end": end}))

    def keep_unwatched(self, rows: Sequence[tuple[str, str, str, int, int]]) -> None:
        """(flow, hop, stage, minute in epoch s, seconds of it that nobody vouched for when it was looked at)."""
        if rows:
            flow, hop, stage, at, missing = zip(*rows, strict=True)
            columns = {"tenant": [""] * len(rows), "flow": flow, "hop": hop, "stage": stage}
            columns |= {"at": pa.array(at, pa.uint32()), "missing": pa.array(missing, pa.uint32())}
            self._engine.insert("unwatched", pa.table(columns))

    def unwatched(self, flows: Sequence[str], start: int, end: int, step: int) -> pa.Table:
        """Seconds of [start, end), epoch s, that were not watched, by place and step."""
        sql = (
            "SELECT toString(flow) AS flow, toString(hop) AS hop, toString(stage) AS stage, "
            "toUInt32(intDiv(toUnixTimestamp(at) - {start:UInt32}, {step:UInt32})) AS slot, "
            f"toFloat64(sum(missing)) AS missing FROM {self._db}.unwatched FINAL WHERE tenant = '' "
            "AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') "
            "AND at < toDateTime({end:UInt32}, 'UTC') GROUP BY flow, hop, stage, slot"
        )
        base = {"start": start, "end": end, "step": step}
        return pa.concat_tables([self._engine.table(sql, base | {"flows": some}) for some in bundles(flows)])

    def drop_unwatched(self, now: int) -> None:
        """Drop months that no season looks at any more; `now` in epoch s."""
        sql = (
            "SELECT DISTINCT partition_id AS id FROM system.parts WHERE active AND database = {db:String} AND "
            "table = 'unwatched' AND toUInt32OrZero(partition_id) < "
            "toYYYYMM(toDateTime({oldest:UInt32}, 'UTC')) AND toUInt32OrZero(partition_id) > 0"
        )
        for row in self._engine.rows(sql, {"db": self._db, "oldest": now - HISTORY - DAY}):
            self._engine.command(f"ALTER TABLE {self._db}.unwatched DROP PARTITION ID '{int(row['id'])}'")

    # --- what was found -------------------------------------------------------------------------------------------

    def keep_anomalies(self, found: Iterable[Anomaly], looked_at: int) -> None:
        """Store anomalies as they stood at `looked_at`, µs; what was known of the same before is replaced."""
        rows = list(found)
        if not rows:
            return
        columns: dict[str, Any] = {name: [getattr(one, name) for one in rows] for name in FIELDS}
        columns |= {name: pa.array(columns[name], pa.uint32()) for name in _TIMES}
        moment = pa.array([looked_at] * len(rows), pa.timestamp("us", "UTC"))
        self._engine.insert("anomalies", pa.table(columns | {"tenant": [""] * len(rows), "looked_at": moment}))

    def anomalies(
        self,
        flow: str | None = None,
        hop: str | None = None,
        signal: str | None = None,
        open_: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Anomaly]:
        """Anomalies, the newest first, after the cursor that `cursor_of` made of the last one. Raises Invalid for a
        cursor that is none."""
        named = {"flow": flow, "hop": hop, "signal": signal}
        chosen: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        where = ["tenant = ''", *(f"{name} = {{{name}:String}}" for name in chosen)]
        if open_ is not None:
            where.append(f"(toUnixTimestamp(until) = 0) = {str(open_).lower()}")
        if after:
            since, ident = _cursor(after)
            chosen |= {"before": since, "id": ident}
            where.append("(toUnixTimestamp(since), id) < ({before:UInt32}, {id:String})")
        ident_sql = "hex(sipHash64(flow, hop, stage, signal, direction)) AS id"
        times = ", ".join(f"toUnixTimestamp({name}) AS {name}_s" for name in _TIMES)
        others = ", ".join(name for name in FIELDS if name not in _TIMES)
        sql = (
            f"SELECT {others}, {times}, {ident_sql} FROM {self._db}.anomalies FINAL WHERE {' AND '.join(where)} "
            "ORDER BY since DESC, id DESC LIMIT {limit:UInt32}"
        )
        rows = self._engine.rows(sql, chosen | {"limit": limit})
        return [
            Anomaly(**{name: row[f"{name}_s" if name in _TIMES else name] for name in FIELDS}) for row in rows
        ]  # fmt: skip

    def anomaly_cursor(self, one: Anomaly) -> str:
        """Where the page that ends with this one ends."""
        sql = "SELECT hex(sipHash64({a:String}, {b:String}, {c:String}, {d:String}, {e:String}))"
        return f"{one.since}-{self._engine.command(sql, dict(zip('abcde', one.key, strict=True)))}"


def _clock(start: int, end: int, zone: str) -> dict[str, list[int]]:
    """How far a clock was ahead of UTC, and since when, from `start` on."""
    found = [(hour, offset(hour, zone)) for hour in range(start, end + 1, HOUR)]
    changes = [one for n, one in enumerate(found) if not n or one[1] != found[n - 1][1]]
    return {"since": [since for since, _ in changes], "ahead": [ahead for _, ahead in changes]}


def _cursor(text: str) -> tuple[int, str]:
    number, _, ident = text.partition("-")
    if not number.isdigit() or not ident:
        raise Invalid(f"cursor {text!r} is none of ours; begin again without it")
    return int(number), ident
