"""What messages were counted as, and how long they took: per pass, and per hour once the hour is over.

Every row follows from the states that a pass left, and is replaced by itself when the pass is done again. Rows of
passes are kept for `KEPT`, those of hours for good, so that budgets of weeks are read from few rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tracker.model import counted
from tracker.model.units import SECOND
from tracker.model.verdict import WRONG, Verdict
from tracker.store import latency
from tracker.store.bundles import bundles
from tracker.store.engine import Engine
from tracker.store.shape import Shape
from tracker.store.sql import ask

HOUR, DAY = 3600, 86_400
KEPT = 4 * DAY
"""Rows of passes are kept for so long, seconds: longer than the longest window that is looked at to the second."""
BAD = (Verdict.late, *WRONG)
COUNTS = (
    "begun", *(verdict.value for verdict in (Verdict.delivered, *BAD)), "blind", "explained", "complete", "duplicated",
    "diverged", "turned_good", "turned_bad",
)  # fmt: skip
SUMS = ", ".join(f"sum({name})" for name in COUNTS)
NAMED_SUMS = ", ".join(f"sum(s.{name}) AS {name}" for name in COUNTS)
TROUGH = 300
"""Throughput is that of the last so many seconds."""


class Burning(msgspec.Struct, frozen=True):
    """Of one flow: messages settled as good and as bad in each window that was asked for, in that order; the others
    likewise. `since`: when the first of all these was counted, epoch s; `begun`: how many were new in the last
    `TROUGH` seconds; `newest`: the latest origin of one that is complete, µs, 0 for none."""

    flow: str
    since: int
    good: list[int]
    bad: list[int]
    blind: list[int]
    explained: list[int]
    turned_good: list[int]
    turned_bad: list[int]
    begun: int
    newest: int


class Counts(msgspec.Struct, frozen=True):
    """Messages of one flow by what they were counted as in [start, start + step), epoch s."""

    flow: str
    start: int
    newest: int
    begun: int
    delivered: int
    late: int
    lost: int
    unacknowledged: int
    under_replicated: int
    dead_lettered: int
    divergent: int
    blind: int
    explained: int
    complete: int
    duplicated: int
    diverged: int
    turned_good: int
    turned_bad: int

    @property
    def good(self) -> int:
        """First settled as good."""
        return self.delivered

    @property
    def bad(self) -> int:
        """First settled as bad."""
        return sum(getattr(self, verdict.value) for verdict in BAD)

    def __add__(self, other: Counts) -> Counts:
        """Both together, from the earlier start on."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Counts(self.flow, min(self.start, other.start), max(self.newest, other.newest), **sums)


class Took(msgspec.Struct, frozen=True):
    """p50, p95 and p99 in seconds, within 1 %: from origin to end where hop and stage are empty, else to this
    checkpoint from the latest of those before it."""

    flow: str
    hop: str
    stage: str
    took: list[float]


class Settled:
    """The counts, on one engine."""

    _engine: Engine
    _db: str

    # --- what passes keep -----------------------------------------------------------------------------------------

    def keep_settled(self, number: int, now: int, shapes: Iterable[Shape], again: bool) -> None:
        """Count what pass `number`, `now` µs, left in the states. `shapes` are those of the flows that it touched.
        `again`: it is done again, so that it may have written a state twice."""
        first = "countIf(verdict = '{0}' AND bitAnd(fresh, {1}) != 0 AND bitAnd(counted_was, {1}) = 0)"
        verdicts = (Verdict.delivered, *BAD)
        pieces = {
            "final": "FINAL" if again else "",
            "verdicts": ", ".join(verdicts),
            "settled": ", ".join(first.format(verdict.value, counted.SETTLED) for verdict in verdicts),
            "good": str(counted.GOOD),
            "bad": str(counted.BAD),
            "blind": str(counted.BLIND),
            "explained": str(counted.EXPLAINED),
            "complete": str(counted.COMPLETE),
            "either": str(counted.SETTLED),
            "duplicated": str(counted.DUPLICATED),
            "diverged": str(counted.DIVERGENT),
        }
        base = {"pass": number, "now": now}
        self._engine.command(ask("keep_settled", self._db, **pieces), base)
        for some in latency.together(shapes):
            took, named = latency.asked(some)
            self._engine.command(ask("keep_latencies", self._db, **pieces, took=took), {**base, **named})

    def flows_of_pass(self, number: int) -> list[str]:
        """The flows of which pass `number` has left a state."""
        asked = f"SELECT DISTINCT flow FROM {self._db}.states WHERE tenant = '' AND pass = {{pass:UInt64}}"
        return sorted(row["flow"] for row in self._engine.rows(asked, {"pass": number}))

    def keep_hours(self, now: int) -> int:
        """Sum up the hours that are over at `now` (µs), which every later pass lies behind; how many there were. Hour
        after hour: one that a crash cut short is the newest that is kept, or is not kept."""
        split, current = self._split(), now // SECOND // HOUR * HOUR
        asked = (
            f"SELECT DISTINCT toUnixTimestamp(toStartOfHour(at)) AS hour FROM {self._db}.settled "
            f"WHERE tenant = '' AND at >= {_moment('split')} AND at < {_moment('current')} ORDER BY hour"
        )
        hours = [row["hour"] for row in self._engine.rows(asked, {"split": split, "current": current})]
        for hour in hours:
            # The counts last: the newest hour among them says how far both have come.
            self._engine.command(ask("keep_latency_hour", self._db), {"hour": hour})
            pieces = {"counts": ", ".join(COUNTS), "sums": SUMS}
            self._engine.command(ask("keep_hour", self._db, **pieces), {"hour": hour})
        return len(hours)

    def drop_settled(self, now: int) -> None:
        """Drop the rows of passes that lie `KEPT` before `now` (µs), by days, as far as their hours are kept."""
        until = min(now // SECOND - KEPT, self._split())
        day = f"{datetime.fromtimestamp(max(until, 0), UTC):%Y%m%d}"
        rows = self._engine.rows(
            "SELECT DISTINCT table, partition_id AS day FROM system.parts WHERE active AND database = {db:String} "
            "AND table IN ('settled', 'latencies') AND partition_id < {day:String} ORDER BY day",
            {"db": self._db, "day": day},
        )
        for row in rows:
            if row["day"].isdigit():
                self._engine.command(f"ALTER TABLE {self._db}.{row['table']} DROP PARTITION ID '{row['day']}'")

    # --- what is asked --------------------------------------------------------------------------------------------

    def burning(self, now: int, windows: Sequence[int], flows: Sequence[str] | None = None) -> dict[str, Burning]:
        """By flow, all in one question or only these: what was settled in the windows of so many seconds that end at
        `now` (µs). A window that begins before the oldest row of a pass begins with a full hour."""
        end = now // SECOND
        starts = [max(end - window, 0) for window in windows]
        named = {f"s{n}": start for n, start in enumerate(starts)} | {f"c{n}": _up(s) for n, s in enumerate(starts)}
        split = _moment("split")
        begins = [(f"at > {_moment(f's{n}')}", _moment(f"c{n}")) for n in range(len(windows))]
        inside = [f"if(fine, {after} AND (at >= {split} OR at < {hour}), at >= {hour})" for after, hour in begins]
        edges = [f"({after} AND at < {hour})" for after, hour in begins]
        bad = " + ".join(verdict.value for verdict in BAD)
        each = {"goods": "delivered", "bads": "bad", "blinds": "blind", "explaineds": "explained",
                "to_goods": "turned_good", "to_bads": "turned_bad"}  # fmt: skip
        pieces = {name: f"[{', '.join(f'sumIf({column}, {one})' for one in inside)}]" for name, column in each.items()}
        pieces |= {
            "mine": "true" if flows is None else "flow IN {flows:Array(String)}",
            "edges": " OR ".join([f"at >= {split}", f"at > {_moment('trough')}", *edges]),
            "begun": f"sumIf(begun, fine AND at > {_moment('trough')})",
            "columns": f"delivered, {bad} AS bad, blind, explained, turned_good, turned_bad, begun, newest",
        }
        base: dict[str, Any] = {"now": end, "split": self._split(), "trough": end - TROUGH}
        base |= {"oldest": min(map(_up, starts), default=end)} | named
        sql = ask("burning", self._db, **pieces)
        rows = [row for some in _some(flows) for row in self._engine.rows(sql, base | some)]
        return {row["flow"]: Burning(**row) for row in rows}

    def settled_between(self, flows: Sequence[str], start: int, end: int, step: int) -> list[Counts]:
        """What was counted of these flows in [start, end), epoch s, by steps of so many seconds."""
        pieces = {"sums": NAMED_SUMS, "counts": ", ".join(COUNTS)}
        sql = ask("settled_between", self._db, **pieces)
        base = self._span(start, end) | {"step": step}
        rows = [row for some in _some(flows) for row in self._engine.rows(sql, base | some)]
        return [msgspec.convert(row, Counts) for row in rows]

    def took(self, start: int, end: int, flows: Sequence[str] | None = None) -> list[Took]:
        """How long messages took that became complete in [start, end), epoch s: of these flows, hop by hop; without
        any named, of all flows, end to end and to their copies only."""
        mine = "(hop = '' OR stage = 'replicate')" if flows is None else "flow IN {flows:Array(String)}"
        sql, base = ask("took", self._db, mine=mine), self._span(start, end)
        rows = [row for some in _some(flows) for row in self._engine.rows(sql, base | some)]
        return [msgspec.convert(row, Took) for row in rows]

    def _span(self, start: int, end: int) -> dict[str, Any]:
        """Parameters of a span: from hours that lie in it as a whole, from passes at its ends."""
        first = _up(start)
        last = max(end // HOUR * HOUR, first)
        return {"start": start, "end": end, "first": first, "last": last, "split": self._split()}

    def _split(self) -> int:
        """The end of the last hour that is kept, epoch s; 0 when none is. Read from the end of the table, which holds a
        row per flow and hour, for good."""
        asked = f"SELECT toUnixTimestamp(at) AS at FROM {self._db}.settled_hours WHERE tenant = '' "
        rows = self._engine.rows(asked + "ORDER BY tenant DESC, at DESC LIMIT 1")
        return int(rows[0]["at"]) + HOUR if rows else 0


def _some(flows: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Parameters that name these flows, as many as fit at a time; none for all."""
    yield from [{}] if flows is None else ({"flows": some} for some in bundles(flows))


def _moment(name: str) -> str:
    """SQL of a parameter that is a moment, epoch s."""
    return f"toDateTime({{{name}:UInt32}}, 'UTC')"


def _up(moment: int) -> int:
    """The next full hour, or this one."""
    return -(-moment // HOUR) * HOUR
