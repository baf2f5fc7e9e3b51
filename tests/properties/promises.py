"""What is promised of every pass, held against the pure reference: no more, and no less.

A state says what `judge` says of the same events, coverage and ranges, by the version in force, at the moment of the
pass that judged it. A pass judges what is new, what a range moved past, what is due, and when coverage has leapt those
of which something may be unknown; nobody else. So a state that a pass left alone must be what time alone makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from tests.world.installation import Installation
from tracker.model.coverage import ASSUME_FOR, Coverage
from tracker.model.event import Event, Range, Stage
from tracker.model.judge import judge
from tracker.model.origin import origin_of
from tracker.model.ranges import range_over
from tracker.model.spec import FlowSpec
from tracker.model.verdict import WRONG, Flag, Judgement, Status, Verdict
from tracker.reconcile import PassResult
from tracker.reconcile.books import reconcile
from tracker.reconcile.exceptions import finding_key
from tracker.store.vouched import Run

TABLES = {
    "states": "* REPLACE ("
    + ", ".join(f"arraySort({name}) AS {name}" for name in ("deliveries", "nodes", "digests"))
    + ")",
    "findings": "*",
    "coverage": "*",
    "heard": "flow, hop, stage, max(received_at)",
}
"""What a pass leaves that must be the same when it is done again."""


@dataclass(frozen=True)
class Said:
    """What the reference said of one message, and by what, at the pass that judged it last."""

    spec: FlowSpec
    coverage: Coverage
    judgement: Judgement


class Promises:
    """One flow of an installation; told of everything that goes in, it checks what the passes make of it."""

    def __init__(self, world: Installation, flow: str) -> None:
        self.world, self.flow = world, flow
        self.versions: list[tuple[int, FlowSpec]] = []
        self.said: dict[str, Said] = {}
        self.ranges: list[Range] = []
        self.new: set[str] = set()
        self.moved: list[Range] = []
        self.again = False
        self._runs: set[Run] = set()
        self._heard: Mapping[tuple[str, str], int] = {}
        self._last = 0

    # --- what goes in ---------------------------------------------------------------------------------------------

    def put(self, text: str) -> None:
        """A version of the spec."""
        spec = self.world.put(text)
        if not self.versions or spec != self.newest:
            self.versions.append((self.world.now if self.versions else 0, spec))

    def come_back(self, text: str) -> None:
        """After it was deleted: nothing is left of the versions before, and the next pass takes on all there is."""
        self.versions, self.again = [], True
        self.put(text)

    def observe(self, events: Sequence[Event]) -> None:
        """Events, as they are stored."""
        self.world.observe(events)
        self.new |= {e.message_id for e in events if e.hop in self.hops}

    def move(self, moved: Range) -> None:
        """A range, as it is stored."""
        self.world.move([moved])
        self.moved.append(structs.replace(moved, received_at=self.world.now))

    @property
    def newest(self) -> FlowSpec:
        """The version that new messages are judged by."""
        return self.versions[-1][1]

    @property
    def hops(self) -> set[str]:
        """The hops of all versions."""
        return {hop for _, spec in self.versions for hop in spec.hops}

    def spec_of(self, ident: str, events: Sequence[Event]) -> FlowSpec:
        """The version in force at the message's origin; one that knows where it was seen, should that one not."""
        known = [e for e in events if e.hop in self.hops]
        origin, places = origin_of(ident, known), {e.hop for e in known}
        after = [spec for since, spec in self.versions if since <= origin] or [self.versions[0][1]]
        candidates = [after[-1], *(spec for _, spec in reversed(self.versions))]
        return next(spec for spec in candidates if not places.isdisjoint(spec.hops))

    # --- what comes out -------------------------------------------------------------------------------------------

    def pass_(self) -> PassResult:
        """Run a pass and check all that is promised of it."""
        before = self._states()
        result = self.world.run_pass()
        if not result.number:
            assert not self.new, "something new was left out"
            assert not self.moved, "a range was left out"
            return result
        last = self.world.control.passes.last_finished()
        assert last is not None
        assert last.number == result.number
        self.ranges += self.moved
        stored = self.world.store.events_of(self.flow, list(self._idents()), None)
        events = {i: e for i, e in stored.items() if any(x.hop in self.hops for x in e)}
        after, coverage = self._states(), self.world.store.coverage(self.newest)
        assert set(after) == set(events), "each message has a state, and nobody else"
        touched = {i for i, row in after.items() if row["pass"] == last.number}
        self._touched_are_those_that_had_to(touched, before, events, coverage, last.started_at)
        for ident, row in after.items():
            if ident in touched:
                self._judged(ident, row, events[ident], coverage, last.started_at)
            else:
                assert row == before[ident]
                self._left_alone(ident, row, events[ident], coverage, last.started_at)
        self._timers(after, last.started_at)
        self._findings(last.started_at)
        self._books()
        self.new, self.moved, self.again, self._last = set(), [], False, last.started_at
        return result

    def nothing_more(self) -> None:
        """Nothing new, and nothing due: nothing is done."""
        last = self.world.control.passes.last_finished()
        if last is not None and not self._count_due(last.started_at, max(self.world.now, last.started_at + 1)):
            assert self.world.run_pass().number == 0

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that a pass keeps of this flow, for comparing."""
        engine, found = self.world.store.engine, {}
        for table, columns in TABLES.items():
            end = "GROUP BY flow, hop, stage" if table == "heard" else ""
            final = "" if end else "FINAL"
            sql = f"SELECT {columns} FROM {engine.database}.{table} {final} WHERE flow = {{flow:String}} {end}"
            found[table] = sorted(tuple(map(repr, row.items())) for row in engine.rows(sql, {"flow": self.flow}))
        incidents = self.world.control.incidents.page(flow=self.flow).items
        found["incidents"] = sorted((repr(one),) for one in incidents)
        return found

    # --- the parts ------------------------------------------------------------------------------------------------

    def _touched_are_those_that_had_to(
        self,
        touched: set[str],
        before: Mapping[str, Mapping[str, Any]],
        events: Mapping[str, Sequence[Event]],
        coverage: Coverage,
        now: int,
    ) -> None:
        """A pass costs what is new and what is due; and leaves out nothing that is."""
        due = {i for i, row in before.items() if 0 < row["look_again"] <= now}
        fired = {i for i in self._fired(self._last, now) if i in before and before[i]["look_again"]}
        runs = set(self.world.store.runs(self.flow))
        unclear = {
            i
            for i, row in before.items()
            if row["verdict"] == Verdict.blind or (row["verdict"] in WRONG and row["look_again"])
        }
        heard = coverage.last_heard
        back = any(at > self._heard.get(place, 0) + ASSUME_FOR for place, at in heard.items())
        blind = unclear if back or runs != self._runs else set()
        self._runs, self._heard = runs, heard
        places = {(hop, c.stage) for _, spec in self.versions for c in spec.checkpoints for hop in c.hop}
        counted = [r for r in self.moved if (r.hop, r.stage) in places and not coverage.vouches(r.hop, r.stage.value)]
        counted += [r for r in self.moved if r.stage == Stage.drop and r.hop in self.hops]
        passed = {i for i, e in events.items() if self._over(e, counted)}
        must = set(events) if self.again else (self.new | due | passed) & set(events)
        assert must <= touched, ("left out", must - touched)
        under = {i for i, e in events.items() if self._over(e, self.ranges)}
        assert touched <= must | fired | blind | (under if self.moved else set()), ("for nothing", touched - must)

    def _over(self, events: Sequence[Event], ranges: Sequence[Range]) -> bool:
        """One of them tells of a place where the message lies, at a hop of any version."""
        known = [e for e in events if e.hop in self.hops]
        return any(range_over(known, [r.hop], Stage.ack, [structs.replace(r, stage=Stage.ack)]) for r in ranges)

    def _judged(
        self, ident: str, row: Mapping[str, Any], events: Sequence[Event], coverage: Coverage, now: int
    ) -> None:
        spec = self.spec_of(ident, events)
        judged = judge(spec, events, coverage, now, self.ranges)
        self.said[ident] = Said(spec, coverage, judged)
        self._equal(ident, row, judged)
        look = row["look_again"]
        if judged.look_again is not None:
            assert now < look <= judged.look_again, (ident, look, judged)
        assert not look or look > now

    def _equal(self, ident: str, row: Mapping[str, Any], judged: Judgement) -> None:
        """A gap may come to be known later, while the message is looked at again; it is never made up."""
        flags, wanted = set(row["flags"]), set(judged.flags)
        if row["look_again"]:
            assert flags <= wanted, (ident, row, judged)
            flags, wanted = flags - {Flag.gap}, wanted - {Flag.gap}
        assert (row["verdict"], flags, row["origin"]) == (judged.verdict, wanted, judged.origin_at), (
            ident,
            row,
            judged,
        )

    def _left_alone(self, ident: str, row: Mapping[str, Any], events: Sequence[Event], coverage: Coverage,
                    now: int) -> None:  # fmt: skip
        """Time alone has changed nothing that its timer did not announce; nor has more coverage, but where something of
        it was unknown, and it is looked at again."""
        said = self.said[ident]
        if row["look_again"]:
            assert row["look_again"] > now
        if any(state.due == Status.unknown for state in said.judgement.checkpoints):
            assert row["look_again"]
            return
        covers = [said.coverage, coverage] if _grown(said.coverage, coverage) else [said.coverage]
        for cover in covers:
            self._equal(ident, row, judge(said.spec, events, cover, now, self.ranges))

    def _findings(self, now: int) -> None:
        """Open is what the reference called wrong, by key and kind, and in its words; and what waits because its cause
        has recovered."""
        stored = [f for f in self.world.store.findings(flow=self.flow, limit=10_000) if f.status == "open"]
        keys = [(f.message_id, *f.key) for f in stored]
        assert len(keys) == len(set(keys)), "a finding is open twice"
        wrong = {(i, *finding_key(said.spec, s)) for i, said in self.said.items() for s in said.judgement.findings}
        assert wrong <= set(keys), ("not open", wrong - set(keys))
        for finding in stored:
            said = self.said[finding.message_id]
            if finding.opened_at == now:
                told = (said.judgement.why, list(said.judgement.held_by), said.judgement.origin_at)
                assert (finding.why, finding.held_by, finding.origin_at) == told, (finding, said.judgement)
            if (finding.message_id, *finding.key) not in wrong:
                states = {finding_key(said.spec, s)[:2]: s.status for s in said.judgement.checkpoints}
                waits = states.get(finding.key[:2]) in (Status.pending, Status.unknown)
                assert finding.cause, ("open for nothing", finding, said.judgement)
                assert waits, ("open for nothing", finding, said.judgement)
        counts = {one.id: one.open for one in self.world.control.incidents.page(flow=self.flow, limit=500).items}
        roots = [f.incident for f in stored if not f.cause]
        assert counts == {ident: roots.count(ident) for ident in counts} | {
            ident: roots.count(ident) for ident in roots
        }

    def _books(self) -> None:
        books = reconcile(self.world.store, self.world.control, self.newest, 0, 1 << 61)
        assert books.conserved, books
        assert sum(books.verdicts.values()) == len(self.said), books

    def _timers(self, rows: Mapping[str, Mapping[str, Any]], now: int) -> None:
        """Who is to be looked at again has a timer that comes no later."""
        engine = self.world.store.engine
        sql = (
            f"SELECT message_id, min(toUnixTimestamp64Micro(due_at)) AS due FROM {engine.database}.timers "
            "WHERE flow = {flow:String} AND due_at > fromUnixTimestamp64Micro({now:Int64}) GROUP BY message_id"
        )
        due = {row["message_id"]: row["due"] for row in engine.rows(sql, {"flow": self.flow, "now": now})}
        for ident, row in rows.items():
            assert not row["look_again"] or due.get(ident, 1 << 62) <= row["look_again"], (ident, row, due)

    def _fired(self, after: int, now: int) -> set[str]:
        engine = self.world.store.engine
        sql = (
            f"SELECT DISTINCT message_id FROM {engine.database}.timers WHERE flow = {{flow:String}} "
            "AND due_at > fromUnixTimestamp64Micro({after:Int64}) AND due_at <= fromUnixTimestamp64Micro({now:Int64})"
        )
        return {row["message_id"] for row in engine.rows(sql, {"flow": self.flow, "after": after, "now": now})}

    def _count_due(self, after: int, now: int) -> int:
        engine = self.world.store.engine
        sql = (
            f"SELECT count() AS n FROM {engine.database}.timers WHERE due_at > "
            "fromUnixTimestamp64Micro({after:Int64}) AND due_at <= fromUnixTimestamp64Micro({now:Int64})"
        )
        return int(engine.rows(sql, {"after": after, "now": now})[0]["n"])

    def _states(self) -> dict[str, dict[str, Any]]:
        engine = self.world.store.engine
        sql = (
            "SELECT message_id, pass, verdict, flags, look_again, toUnixTimestamp64Micro(origin_at) AS origin "
            f"FROM {engine.database}.states FINAL WHERE flow = {{flow:String}}"
        )
        return {row["message_id"]: row for row in engine.rows(sql, {"flow": self.flow})}

    def _idents(self) -> Iterable[str]:
        return {*self.said, *self.new}


def _grown(before: Coverage, after: Coverage) -> bool:
    """The same sources vouch for what they did, and more: nothing came to be known of the past that was not."""
    if set(before.sources) != set(after.sources) or before.assumed != after.assumed:
        return False
    for place, sources in before.sources.items():
        now = {(s.source, s.evidence): s for s in after.sources[place]}
        if set(now) != {(s.source, s.evidence) for s in sources}:
            return False
        for source in sources:
            other = now[source.source, source.evidence]
            inside = all(any(a <= low and high <= b for a, b in other.intervals) for low, high in source.intervals)
            if not inside or source.closed != other.closed or source.opened != other.opened:
                return False
    return True
