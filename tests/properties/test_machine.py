"""The passes as a state machine: whatever comes, in whatever order, with restarts and crashes in between.

A few runs each time; `TRACKER_TEST_EXAMPLES=300` makes them many, which takes most of an hour.
"""

from __future__ import annotations

import os
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec import structs

from tests.properties.promises import Promises
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Range, Stage
from tracker.model.units import SECOND
from tracker.store import reach

MIRRORED = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: mirror, stage: replicate, after: log, within: {more}s, same_payload: true}}
  - {{hop: billing, stage: ack, after: log, within: 20s, at_most: 1}}
"""
PLAIN = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: billing, stage: ack, after: log, within: {more}s}}
"""
BRANCHED = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: [east, west], stage: persist, after: shop, within: 5s}}
  - {{hop: audit, stage: deliver, after: east, within: 3s, required: false}}
  - {{hop: billing, stage: deliver, after: audit, within: {more}s}}
  - {{hop: billing, stage: ack, after: "billing:deliver", within: 10s, at_most: 2}}
  - {{hop: mail, stage: ack, after: [east, "billing:ack"], within: 10s}}
"""
SAFE = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce, outbox: true}}
  - {{hop: log, stage: persist, after: shop, within: 5s, quorum: 2}}
  - {{hop: billing, stage: ack, after: log, within: {more}s}}
"""
GUESSED = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: billing, stage: ack, after: shop, within: {more}s, coverage: assumed}}
"""
SPECS = [MIRRORED, PLAIN, BRANCHED, SAFE, GUESSED]

IDS = ["a", "b", "c", "018bcfe5-6800-7000-8000-000000000001", "01HF7YAT00000000000000000A"]
REASONS = {Stage.drop: ["filtered", "expired", "skipped"], Stage.dead_letter: ["poison", "retry"]}
GONE = [("billing", ""), ("billing", ""), ("billing", "skipped"), ("billing", "truncated"), ("log", "expired"),
        ("log", "compacted"), ("nowhere", "skipped")]  # fmt: skip
"""Where a range says that, and why what lay there was dropped."""
LYING = [("log", Stage.persist), ("elsewhere", Stage.persist)]
WAITS = [1, 1000, SECOND, 3 * SECOND, 5 * SECOND, 12 * SECOND, 40 * SECOND, 1200 * SECOND, 172_800 * SECOND]
numbers = count()

idents = st.sampled_from(IDS)
agos = st.sampled_from([0, 0, 0, 1, 4, 8, 30, 4000, 200_000, -2])
"""How long ago something happened, s."""
observations = st.tuples(
    idents, st.sampled_from([*Stage, Stage.produce, Stage.persist, Stage.ack, Stage.ack]), agos, st.integers(0, 2),
    st.sampled_from(["", "", "d1", "d2"]), st.sampled_from(["", "n1", "n2"]), st.sampled_from(["", "aa", "bb"]),
    st.sampled_from(["", "", "", "r1"]), st.sampled_from([False, False, False, True]),
    st.sampled_from([None, None, 0, 7, 3000]), st.sampled_from([0, 0, 0, 3]),
)  # fmt: skip
"""(id, stage, how long ago, which reason, delivery, node, digest, replay, backfill, age, s between two looks)."""


class Ledger(RuleBasedStateMachine):
    """One flow and what comes for it, on one installation for all runs."""

    world: Installation

    @initialize(
        text=st.sampled_from(SPECS),
        vouched=st.sampled_from(["nobody", "message", "message", "range"]),
        few=st.booleans(),
    )
    def begin(self, text: str, vouched: str, few: bool) -> None:
        """A first version of a flow, how its coverage will be, and whether its messages count as few."""
        reach.FEW = 20_000 if few else 0
        self.flow = f"m{next(numbers)}"
        self.promises = Promises(self.world, self.flow)
        self.vouched, self.epochs, self.sent = vouched, {"c1": 1, "c2": 1}, list[Event]()
        self.crashed = False
        self.declare(text, 10)

    # --- what comes -----------------------------------------------------------------------------------------------

    @rule(text=st.sampled_from(SPECS), more=st.sampled_from([0, 3, 10, 60]))
    def declare(self, text: str, more: int) -> None:
        """Another version: other deadlines, a checkpoint more, another gone."""
        if not self.crashed:
            self.promises.put(text.format(flow=self.flow, more=more))

    @rule(data=st.data(), size=st.integers(1, 4))
    def something_comes(self, data: st.DataObject, size: int) -> None:
        """Whatever, of anybody."""
        self._send([self._event(data) for _ in range(size)])

    @rule(ident=idents, upto=st.integers(1, 6), ago=agos, data=st.data())
    def a_message_goes(self, ident: str, upto: int, ago: int, data: st.DataObject) -> None:
        """The first checkpoints of its path, a second each."""
        spec, digest = self.promises.newest, data.draw(st.sampled_from(["", "aa"]))
        events = []
        for n, i in enumerate(spec.paths.order[:upto]):
            point = spec.checkpoints[i]
            for node in ["n1", "n2"][: point.quorum]:
                one = self._made(ident, data.draw(st.sampled_from(point.hop)), point.stage, ago - n)
                events.append(structs.replace(one, node=node, digest=digest, delivery="d1"))
        self._send(events)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def something_comes_again(self, data: st.DataObject) -> None:
        """The same event, sent twice."""
        self._send([data.draw(st.sampled_from(self.sent))])

    @precondition(lambda self: self.vouched != "nobody")
    @rule(
        lag=st.sampled_from([0, 0, 0, 900, 6000, 90_000]), dropped=st.sampled_from([0, 0, 0, 2]),
        left_out=st.integers(0, 9), collector=st.sampled_from(["c1", "c1", "c2"]), source=st.sampled_from(["s1", "s2"]),
        how=st.sampled_from(["", "", "", "restarted", "one is lost", "signs off"]),
    )  # fmt: skip
    def a_report_comes(self, lag: int, dropped: int, left_out: int, collector: str, source: str, how: str) -> None:
        """Of one collector, for most of what it watches; it may lag, have lost something, be new, or end."""
        sources = [s for n, s in enumerate(self._sources(source)) if n != left_out]
        name = f"{self.flow}/{collector}"
        if how == "restarted":
            self.epochs[collector] += 1
        elif how == "one is lost":
            self.world.sequence[name] = self.world.sequence.get(name, 0) + 1
        off = sources if how == "signs off" else []
        here = [] if off else sources
        self.world.vouch(here, name, lag, dropped, signed_off=off, epoch=self.epochs[collector])

    @precondition(lambda self: self.vouched != "nobody")
    @rule()
    def all_is_vouched_for(self) -> None:
        """Up to now."""
        self.world.vouch(self._sources("s1"), f"{self.flow}/c1", epoch=self.epochs["c1"])

    @precondition(lambda self: self.vouched != "message" and not self.crashed)
    @rule(
        low=st.integers(0, 6), size=st.integers(0, 6), took=st.sampled_from([0, 1, 7]), ago=st.sampled_from([0, 3]),
        gone=st.sampled_from(GONE), log=st.sampled_from(["log", "log", "log", "elsewhere"]),
    )  # fmt: skip
    def a_range_comes(self, low: int, size: int, took: int, ago: int, gone: tuple[str, str], log: str) -> None:
        """A group has moved past some offsets of the log, or was moved past them, or they are there no more."""
        at, (hop, reason) = self.world.now - ago * SECOND, gone
        self.promises.move(Range(
            flow=self.flow, hop=hop, stage=Stage.drop if reason else Stage.ack, reason=reason, log=log, partition="p",
            offset=low, offset_to=low + size, observed_from=at - took * SECOND, observed_at=at, evidence="range",
        ))  # fmt: skip

    @rule(wait=st.sampled_from(WAITS))
    def time_passes(self, wait: int) -> None:
        """From microseconds to days."""
        self.world.now += wait

    @rule()
    def the_service_is_restarted(self) -> None:
        """It knows what was stored, and nothing else."""
        self.world.restarted()

    # --- passes ---------------------------------------------------------------------------------------------------

    @rule(wait=st.sampled_from(WAITS), then=st.sampled_from(["", "", "restarted", "crashed"]))
    def a_pass(self, wait: int, then: str) -> None:
        """All that is promised holds after it; a crash just before its end is made good by the next."""
        self.world.now += wait
        if self.crashed:
            self._redone()
        result = self.promises.pass_()
        self.promises.nothing_more()
        if then:
            self.world.restarted()
        if then == "crashed" and result.number:
            self._unfinished()

    @rule(wait=st.sampled_from(WAITS[:-2]))
    def another_pass(self, wait: int) -> None:
        """They are many."""
        self.a_pass(wait, "")

    @rule(wait=st.sampled_from(WAITS[:-2]), ident=idents, upto=st.integers(1, 6), data=st.data())
    def a_pass_over_a_message(self, wait: int, ident: str, upto: int, data: st.DataObject) -> None:
        """Somebody goes on, seen while all is vouched for."""
        self.a_message_goes(ident, upto, 0, data)
        if self.vouched != "nobody":
            self.all_is_vouched_for()
        self.a_pass(wait, "")

    def _unfinished(self) -> None:
        self.left = self.promises.contents()
        self.world.cut_short()
        self.crashed = True

    def _redone(self) -> None:
        last = self.world.control.passes.unfinished()
        assert self.world.run_pass().number == last.number
        assert self.promises.contents() == self.left
        self.crashed = False

    def teardown(self) -> None:
        """The flow is gone, so that the next run begins with nothing."""
        if self.world.control.passes.unfinished():
            self.world.run_pass()
        self.world.control.flows.delete(self.flow, self.world.now)

    # --- made up --------------------------------------------------------------------------------------------------

    def _send(self, events: list[Event]) -> None:
        self.sent += events
        self.promises.observe(events)

    def _made(self, ident: str, hop: str, stage: Stage, ago: int) -> Event:
        """Who is in a log lies at one place in it."""
        at = self.world.now - ago * SECOND
        place, offset = ("p", IDS.index(ident)) if (hop, stage) in LYING else ("", None)
        return Event(
            flow=self.flow, message_id=ident, hop=hop, stage=stage, observed_at=at, partition=place, offset=offset
        )

    def _event(self, data: st.DataObject) -> Event:
        hop = data.draw(st.sampled_from([*sorted(self.promises.hops), "elsewhere"]))
        ident, stage, ago, reason, delivery, node, digest, replay, backfill, origin, since = data.draw(observations)
        one = self._made(ident, hop, stage, ago)
        return structs.replace(
            one, delivery=delivery, node=node, digest=digest, replay_id=replay, backfill=backfill,
            reason=REASONS[stage][reason % len(REASONS[stage])] if stage in REASONS else "",
            origin_at=None if origin is None else self.world.now - origin * SECOND,
            observed_from=one.observed_at - since * SECOND if since else None,
        )  # fmt: skip

    def _sources(self, source: str) -> list[SourceRef]:
        places = [(hop, c.stage.value) for c in self.promises.newest.checkpoints for hop in c.hop]
        return [
            SourceRef(
                self.flow, hop, stage, source, "range" if self.vouched == "range" and stage == "ack" else "message"
            )
            for hop, stage in places
        ]


def test_whatever_happens(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every pass states, findings, incidents and books are what the reference makes of all that came so far; a
    pass judges those alone who are new or due; and one done again after a crash changes nothing."""
    monkeypatch.setattr(reach, "FEW", reach.FEW)  # what it is now comes back
    Ledger.world = installation
    examples = int(os.environ.get("TRACKER_TEST_EXAMPLES", "8"))
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
