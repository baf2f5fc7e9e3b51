"""The hearing of one flow in one pass: its merged states are judged, and what follows from them is kept.

Findings are kept first: a message whose state is kept may not be looked at again when the pass is done again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from tracker.control.passes import Pass
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Range
from tracker.reconcile import rows
from tracker.reconcile.cover import Cover
from tracker.reconcile.drafts import Drafts
from tracker.reconcile.exceptions import Bench, judge_batch
from tracker.reconcile.incidents import Incidents
from tracker.reconcile.known import Known
from tracker.reconcile.openings import openings
from tracker.reconcile.plain import Court, judge_plain
from tracker.store import Store
from tracker.store.bounds import Bounds
from tracker.store.vouched import Heard

BATCH = 5_000
"""How many messages are handed to the reference judge at once."""


class PassResult(msgspec.Struct, frozen=True):
    """What one pass did. `number` is 0 when there was nothing to do."""

    number: int = 0
    messages: int = 0
    opened: int = 0
    recovered: int = 0
    withdrawn: int = 0
    seconds: float = 0.0

    def __add__(self, other: PassResult) -> PassResult:
        """Both together; the number is this one's."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__[1:]}
        return PassResult(self.number, **sums)


@dataclass(frozen=True)
class Sitting:
    """What all hearings of a pass share."""

    store: Store
    work: Pass
    bounds: Bounds
    cover: Cover
    incidents: Incidents
    drafts: Drafts


@dataclass(frozen=True)
class Hearing:
    """Of one flow: what its messages are judged by. `ranged`: the (hop, stage) for which range evidence was
    ever stored."""

    sitting: Sitting
    known: Known
    coverage: Coverage
    court: Court
    ranged: Collection[tuple[str, str]]

    @classmethod
    def of(cls, sitting: Sitting, known: Known, heard: Iterable[Heard], ranged: Collection[tuple[str, str]]) -> Hearing:
        """By what is vouched for at the moment."""
        coverage = sitting.cover.coverage(known.spec, heard)
        court = Court.of(known.shape, sitting.work.started_at, coverage, known.in_force_from, frozenset(ranged))
        return cls(sitting, known, coverage, court, ranged)

    @property
    def flow(self) -> str:
        """Its name."""
        return self.known.spec.flow

    def judge(self, states: pa.Table) -> PassResult:
        """Judge merged states by their columns, and those with something odd about them by the reference."""
        plain = judge_plain(self.court, states)
        opened = openings(self.court, plain, self._incident_for)
        if opened is not None:
            numbers = pa.repeat(self.sitting.work.number, opened.num_rows)
            self.sitting.store.keep("findings", opened.append_column("pass", numbers))
        self.sitting.drafts.add(rows.of_plain(states, plain, self.court.now))
        total = PassResult(opened=opened.num_rows if opened is not None else 0)
        odd = states.filter(pa.array(plain.codes == 0))
        for start in range(0, odd.num_rows, BATCH):
            total += self._refer(odd.slice(start, BATCH))
        return total

    def _refer(self, states: pa.Table) -> PassResult:
        """Judge some messages by the reference, from their events."""
        store, number, known = self.sitting.store, self.sitting.work.number, self.known
        ids = states["message_id"].to_pylist()
        observed = store.events_of(self.flow, ids, self.sitting.bounds)
        ranges = self._ranges(observed)
        bench = Bench(
            self.court.now, known.spec_at, known.spec, self.coverage, ranges, self._incident_for, known.others
        )
        judged = judge_batch(bench, states.to_pylist(), observed, store.findings_of(self.flow, ids, number))
        store.keep_findings(judged.findings, number)
        self.sitting.drafts.add(rows.of_judged(states, judged.rows))
        self.sitting.incidents.touched.update(judged.incidents, (f.incident for f in judged.findings))
        return PassResult(opened=judged.opened, recovered=judged.recovered, withdrawn=judged.withdrawn)

    def _ranges(self, observed: Mapping[str, Sequence[Event]]) -> list[Range]:
        """Ranges that touch the places at which these messages lie."""
        if not self.ranged:
            return []
        places: dict[tuple[str, str], tuple[int, int]] = {}
        for event in (e for events in observed.values() for e in events):
            if event.offset is not None:
                low, high = places.get((event.hop, event.partition), (event.offset, event.offset))
                places[event.hop, event.partition] = (min(low, event.offset), max(high, event.offset))
        spans = [(hop, partition, low, high) for (hop, partition), (low, high) in places.items()]
        return self.sitting.store.ranges_over(self.flow, spans)

    def _incident_for(self, hop: str, stage: str, kind: str) -> str:
        """The incident that a finding of this pass belongs to."""
        number = self.sitting.work.number
        return self.sitting.incidents.belongs_to(self.flow, hop, stage, kind, number, self.court.now)
