"""Verdicts of many messages at once, on columns: a few array operations per checkpoint, none per message.

Judged here is every message that was neither dropped nor dead-lettered nor had a finding before, whose payloads agree
and whose times are moments: also those that are lost, unacknowledged, under-replicated or blind, for in an outage they
come by the million. The others are marked, and `tracker.model.judge`, the reference, judges them. A property test holds
the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracker.model.coverage import Coverage
from tracker.model.event import Stage
from tracker.model.flags import SKEW
from tracker.model.judge import RECHECK, RECHECK_MAX
from tracker.model.units import SECOND
from tracker.model.verdict import Flag, Verdict
from tracker.reconcile.folded import NONE, Bools, Folded, Ints, any_of, bits, offsets, times
from tracker.reconcile.zones import Zones, zones
from tracker.store.shape import MAX_DELIVERIES, NEVER, REPLAYED, SPECIAL, Shape

Codes = npt.NDArray[np.uint8]

JUDGED = (Verdict.in_flight, Verdict.late, Verdict.delivered, Verdict.blind, Verdict.under_replicated,
          Verdict.unacknowledged, Verdict.lost)  # fmt: skip
VERDICTS = np.array(["", *(v.value for v in JUDGED)], dtype=object)
"""By code; code 0 is for the reference to judge. Of the last three the higher one counts."""
IN_FLIGHT, LATE, DELIVERED, BLIND, UNDER_REPLICATED, UNACKNOWLEDGED, LOST = range(1, len(VERDICTS))
FLAGS = (Flag.duplicated, Flag.orphan, Flag.replayed, Flag.reused_id, Flag.skewed)
"""By bit of `Plain.flags`, in the order of their names."""
NOBODY = -1
"""The cause of a finding that explains itself."""


@dataclass(frozen=True)
class Court:
    """What one flow's messages are judged by in one pass.

    `watermarks`, by checkpoint: how far all who see its single messages vouch, absent where nobody does. `zones`, by
    checkpoint: where its alternatives are not covered. `reach`, by checkpoint: how far whoever watches it vouches.
    `ranged`: checkpoints of which single messages are seen now, and that ranges speak of, too: which of both counts is
    for the reference. `in_force_from`: older origins belong to an older spec.
    """

    shape: Shape
    now: int
    in_force_from: int = 0
    watermarks: Mapping[int, int] = field(default_factory=dict)
    reach: Mapping[int, int] = field(default_factory=dict)
    zones: Mapping[int, list[Zones]] = field(default_factory=dict)
    ranged: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        shape: Shape,
        now: int,
        coverage: Coverage,
        in_force_from: int = 0,
        ranges: frozenset[tuple[str, str]] = frozenset(),
    ) -> Court:
        """By what is vouched for; `ranges` are the (hop, stage) for which range evidence was ever stored."""
        marks, reach, uncovered, ranged = {}, {}, {}, set()
        for i, point in enumerate(shape.spec.checkpoints):
            stage = point.stage.value
            vouched = [hop for hop in point.hop if coverage.vouches(hop, stage)]
            if vouched:
                marks[i] = min(now if s.closed is not None else s.intervals[-1][1]
                               for hop in vouched for s in coverage.of(hop, stage))  # fmt: skip
            if any((hop, stage) in ranges for hop in vouched):
                ranged.add(i)
            reach[i] = coverage.reach(point.hop, stage, now)
            uncovered[i] = [zones(coverage, hop, stage, now) for hop in point.hop]
        return cls(shape, now, in_force_from, marks, reach, uncovered, frozenset(ranged))


@dataclass(frozen=True)
class Plain:
    """One entry per message: code into `VERDICTS`, bits into `FLAGS`, when to look again (0: never).

    By checkpoint: `kinds`, what is wrong with it as a code (0: nothing), and `causes`, the checkpoint before it that
    explains that.
    """

    facts: Folded
    codes: Codes
    flags: Codes
    look_again: Ints
    kinds: Mapping[int, Codes]
    causes: Mapping[int, Ints]


def judge_plain(court: Court, states: pa.Table) -> Plain:
    """Judge merged states (`Passing.fold`)."""
    facts = Folded(court.shape, states)
    case = _Case(court, facts)
    verdicts = case.verdicts()
    codes = np.where(case.special(), 0, verdicts).astype(np.uint8)
    return Plain(facts, codes, _flags(facts), case.look_again(), case.kinds, case.causes)


class _Case:
    """Statuses per checkpoint, as in `judge`: pending, overdue, unknown; then kinds and causes of the overdue ones."""

    def __init__(self, court: Court, facts: Folded) -> None:
        self.court, self.facts, self.paths = court, facts, facts.paths
        self.required = [i for i in self.paths.order if self.paths.required[i]]
        lacking = {i: facts.lacking(i) for i in self.required}
        due = {i: lacking[i] & (court.now >= facts.deadline[i]) for i in self.required}
        self.pending = {i: lacking[i] & ~due[i] for i in self.required}
        self.unknown = {i: due[i] & self._uncovered(i, due[i]) for i in self.required}
        self.overdue = {i: due[i] & ~self.unknown[i] for i in self.required}
        kept, gone = bits(facts.states, "kept"), bits(facts.states, "gone")
        self.holding = kept & ~gone
        self.mixed: Bools = (kept & gone) != 0
        self.due = any_of(due.values(), facts.count)
        self.due_by_range = any_of((due[i] for i in self.required if i in court.ranged), facts.count)
        self.causes = {i: self._cause(i) for i in self.required}
        self.kinds: dict[int, Codes] = {}
        for i in self.required:
            self.kinds[i] = self._kind(i)

    def _uncovered(self, i: int, due: Bools) -> Bools:
        """Coverage has a hole from the last passage before the checkpoint until its deadline."""
        result = np.zeros(self.facts.count, dtype=bool)
        if due.any():
            start = self.facts.passed_before(i)[due]
            end = np.maximum(self.facts.deadline[i][due], start)
            result[due] = any_of((zone.touch(start, end) for zone in self.court.zones[i]), len(start))
        return result

    def _missing(self, i: int) -> Bools:
        """Overdue and not there at all: what comes after it follows from that."""
        return self.overdue[i] & ~self.facts.short[i]

    def _cause(self, i: int) -> Ints:
        """The first missing checkpoint before `i`."""
        cause = np.full(self.facts.count, NOBODY, dtype=np.int64)
        for a in reversed(self.paths.order):
            if a in self.overdue and a in self.paths.ancestors[i]:
                cause = np.where(self._missing(a), a, cause)
        return np.where(self._missing(i), cause, NOBODY)

    def _kind(self, i: int) -> Codes:
        replica = self.paths.stages[i] == Stage.replicate
        before = self.facts.of_hops(hop for a in self.paths.ancestors[i] for hop in self.paths.hops[a])
        may_be_lost = self.paths.stages[i] in (Stage.produce, Stage.persist)
        lost = np.logical_and(may_be_lost, (self.holding & before) == 0)
        kind = np.where(lost, LOST, UNDER_REPLICATED if replica else UNACKNOWLEDGED)
        for a in self.kinds:
            caused = self.kinds[a]
            if not replica:  # a consumer behind a late replica lacks the message itself, not a copy
                caused = np.where(caused == UNDER_REPLICATED, UNACKNOWLEDGED, caused)
            kind = np.where(self.causes[i] == a, caused, kind)
        kind = np.where(self.facts.short[i], UNDER_REPLICATED, kind)
        return np.where(self.overdue[i], kind, 0).astype(np.uint8)

    def verdicts(self) -> Codes:
        """The first line of the table that matches."""
        count = self.facts.count
        late = any_of((self._late(i) for i in self.required), count)
        worst: Codes = reduce(np.maximum, self.kinds.values(), np.zeros(count, dtype=np.uint8))
        rest = np.where(any_of(self.unknown.values(), count), BLIND,
                        np.where(any_of(self.pending.values(), count), IN_FLIGHT,
                                 np.where(late, LATE, DELIVERED)))  # fmt: skip
        return np.where(worst > 0, worst, rest).astype(np.uint8)

    def look_again(self) -> Ints:
        """The next deadline; what is unknown, or may turn out to be a gap, after `patience`. 0 for never."""
        facts, now = self.facts, self.court.now
        soonest = np.full(facts.count, NEVER, dtype=np.int64)
        for i in self.required:
            again = now + _patience(facts.deadline[i] - self.court.reach[i], now - facts.deadline[i])
            soonest = np.minimum(soonest, np.where(self.pending[i], facts.deadline[i], NEVER))
            soonest = np.minimum(soonest, np.where(self.unknown[i], again, NEVER))
            if i in self.court.watermarks:
                gap = now + _patience(np.zeros_like(facts.first_received), now - facts.first_received)
                soonest = np.minimum(soonest, np.where(facts.implied[i], gap, NEVER))
        return np.where(soonest == NEVER, 0, soonest)

    def special(self) -> Bools:
        """What the columns do not judge."""
        states = self.facts.states
        marks = (bits(states, "marks") & np.uint64(SPECIAL)) != 0
        digests = np.diff(offsets(states, "digests")) > 1
        many = any_of((np.diff(offsets(states, name)) >= MAX_DELIVERIES for name in ("deliveries", "nodes")),
                      self.facts.count)  # fmt: skip
        found = np.asarray(states["found"].to_numpy(), dtype=bool)
        start = self.court.in_force_from  # who was folded before it was folded without what the newest version asks for
        older = (times(states, "origin_at") < start) | (self.facts.first_received < start)
        strange = (self.facts.hops & ~self.facts.of_hops(self.court.shape.spec.hops)) != 0
        gap = any_of((self._maybe_gap(i) for i in self.required if i in self.court.watermarks), self.facts.count)
        unclear: Bools = self.due_by_range | (self.due & self.mixed)
        result: Bools = marks | digests | many | found | older | strange | gap | unclear | self._ranges_matter()
        return result

    def _late(self, i: int) -> Bools:
        limit = self.facts.observed_deadline[i]
        return self.facts.seen[i] & (limit > NONE) & (self.facts.observed[i] > limit)

    def _maybe_gap(self, i: int) -> Bools:
        """Implied, although those who watch it vouch beyond the moment that implies it."""
        behind = [self.facts.received[d] for d in self.paths.descendants[i]]
        after = reduce(np.minimum, behind) if behind else self.facts.first_received
        return self.facts.implied[i] & (np.minimum(after, NEVER) <= self.court.watermarks[i])

    def _ranges_matter(self) -> Bools:
        """A range decides on more than its own checkpoint: something comes after it, or events at its hop may say
        better. States keep only the earliest time of both, and of a range only its start."""
        facts, everyone = self.facts, range(len(self.facts.masks))
        ranged = bits(facts.states, "ranged")
        inner = sum(facts.masks[i] for i in everyone if self.paths.descendants[i])
        beside = (
            ((ranged & np.uint64(facts.masks[i])) != 0) & ((facts.hops & facts.of_hops(self.paths.hops[i])) != 0)
            for i in everyone
        )
        matters: Bools = any_of(beside, facts.count) | ((ranged & np.uint64(inner)) != 0)
        return matters


def _patience(behind: Ints, since: Ints) -> Ints:
    """`tracker.model.judge.patience`, of many."""
    behind, longest = np.clip(behind, 0, RECHECK_MAX), np.maximum(since // 4, RECHECK)
    caught_up = np.maximum(behind + behind // 20 + RECHECK, since // 16)
    waited: Ints = np.minimum(np.where(behind > 0, np.minimum(longest, caught_up), longest), RECHECK_MAX)
    return waited


def _flags(facts: Folded) -> Codes:
    """Bits into `FLAGS`."""
    first, last = (times(facts.states, name) for name in ("produced_first", "produced_last"))
    longest = max(facts.paths.longest, SECOND)
    reused = (last > 0) & (first < NEVER) & (last - np.where(first < NEVER, first, last) > longest)
    replayed = (bits(facts.states, "marks") & np.uint64(REPLAYED)) != 0
    orphan = ~any_of((facts.seen[i] for i in facts.paths.roots), facts.count)
    raised = (_duplicated(facts), orphan, replayed, reused, _skewed(facts))
    return reduce(np.bitwise_or, (np.where(flag, 1 << n, 0).astype(np.uint8) for n, flag in enumerate(raised)))


def _duplicated(facts: Folded) -> Bools:
    """More distinct deliveries than allowed."""
    limited = [(i, point.at_most) for i, point in enumerate(facts.shape.spec.checkpoints) if point.at_most]
    return any_of((facts.deliveries(i) > most for i, most in limited), facts.count)


def _skewed(facts: Folded) -> Bools:
    ranged = bits(facts.states, "ranged")
    pairs = (
        facts.seen[i]
        & facts.seen[p]
        & ((ranged & np.uint64(facts.masks[i] | facts.masks[p])) == 0)
        & (facts.observed[i] < facts.observed[p] - SKEW)
        for i in facts.paths.order
        for p in facts.paths.before[i]
    )
    return any_of(pairs, facts.count)
