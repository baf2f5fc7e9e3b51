"""`Installation`: store, control and reconciler with a clock that tests move."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracker.control import Control
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Range
from tracker.model.spec import FlowSpec, load_spec
from tracker.reconcile import PassResult, Reconciler
from tracker.store import Store
from tracker.store.columns import EVENTS, RANGES, REPORTS

T0 = 1_800_000_000_000_000
"""Where the clock begins: 2027-01-15T08:00:00Z in µs."""


class Installation:
    """A tracker without its HTTP face. Times are µs; `now` is the tracker's clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(f"chdb://{folder}/store", durability="process")
        self.store.migrate()
        self.control = Control.open(f"sqlite:///{folder}/control.db")
        self.now = T0
        self.sequence: dict[str, int] = {}
        self.reconciler = self.restarted()

    def restarted(self) -> Reconciler:
        """A reconciler that knows only what was stored."""
        self.reconciler = Reconciler(self.store, self.control, lambda: self.now)
        return self.reconciler

    def put(self, text: str) -> FlowSpec:
        """Put a flow spec as the API does."""
        spec = load_spec(text)
        checkpoints = [(hop, c.stage.value) for c in spec.checkpoints for hop in c.hop]
        self.control.flows.put(spec.flow, text, spec.model_dump_json(), self.now, "test", spec.hops, checkpoints)
        return spec

    def observe(self, events: Iterable[Event]) -> None:
        """Store events, received now unless they say otherwise."""
        rows = [row(event, self.now) for event in events]
        self.store.insert_events(pa.Table.from_pylist(rows, schema=EVENTS))

    def move(self, ranges: Sequence[Range]) -> None:
        """Store range evidence, received now."""
        names = [name for name in RANGES.names if name not in ("tenant", "consumer_group", "received_at")]
        rows = [{name: getattr(r, name) for name in names} | {"consumer_group": r.group} for r in ranges]
        rows = [r | {"tenant": "", "received_at": self.now} for r in rows]
        self.store.insert_ranges(pa.Table.from_pylist(rows, schema=RANGES))

    def vouch(
        self,
        sources: Sequence[SourceRef],
        collector: str = "c",
        lag_ms: int = 0,
        dropped: int = 0,
        signed_off: Sequence[SourceRef] = (),
        epoch: int = 1,
    ) -> None:
        """Store the next coverage report of a collector."""
        self.sequence[collector] = self.sequence.get(collector, 0) + 1
        report: dict[str, Any] = {
            "tenant": "", "collector": collector, "epoch": epoch, "sequence": self.sequence[collector], "events": 0,
            "lag_ms": lag_ms, "backlog": 0, "dropped": dropped, "received_at": self.now,
            "sources": [_source(s) for s in sources], "signed_off": [_source(s) for s in signed_off],
        }  # fmt: skip
        self.store.insert_reports(pa.Table.from_pylist([report], schema=REPORTS))

    def run_pass(self) -> PassResult:
        """One pass at `now`."""
        return self.reconciler.run_pass()

    def cut_short(self) -> None:
        """As if the process had been killed just before it finished the last pass."""
        with closing(sqlite3.connect(self.folder / "control.db")) as control, control:
            control.execute("UPDATE passes SET finished_at = NULL WHERE number = (SELECT max(number) FROM passes)")
        self.restarted()

    def close(self) -> None:
        """Let go of the folder."""
        self.store.close()
        self.control.close()


def _source(source: SourceRef) -> dict[str, str]:
    return {name: getattr(source, name) for name in ("flow", "hop", "stage", "source", "evidence")}


def row(event: Event, now: int) -> dict[str, Any]:
    """An event as a row of `EVENTS`."""
    since = event.observed_at if event.observed_from is None else event.observed_from
    return {
        "tenant": "", "flow": event.flow, "message_id": event.message_id, "hop": event.hop, "stage": event.stage.value,
        "observed_at": event.observed_at, "observed_span": event.observed_at - since, "origin_at": event.origin_at or 0,
        "reason": event.reason, "delivery": event.delivery, "node": event.node, "region": event.region,
        "digest": int(event.digest or "0", 16), "size": event.size or 0, "key_hash": 0, "key": event.key,
        "partition": event.partition, "offset": -1 if event.offset is None else event.offset,
        "consumer_group": event.group, "attempt": event.attempt or 0, "trace_id": event.trace_id,
        "span_id": event.span_id, "correlation_id": event.correlation_id, "causation_id": event.causation_id,
        "replay_id": event.replay_id, "attributes": list(event.attributes.items()), "backfill": event.backfill,
        "received_at": now if event.received_at is None else event.received_at,
        "clock_offset": event.clock_offset, "clock_error": -1 if event.clock_error is None else event.clock_error,
    }  # fmt: skip
