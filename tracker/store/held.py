"""What a hop holds, as columns: the same rule as `tracker.model.facts`, in SQL, for the day when a hop is gone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pyarrow as pa

from tracker.model.event import RETRY, Stage
from tracker.store.engine import Engine
from tracker.store.sql import ask

COPY = (
    "message_id", "delivery", "node", "region", "digest", "size", "partition", "offset", "consumer_group", "attempt",
)  # fmt: skip


class Place(msgspec.Struct, frozen=True):
    """Copies of messages of `flow` that `hop` took in [since, until), by its own clock, µs. `outbox`: its `produce`
    keeps a copy, too. `handed`: (hop, stage) of the events by which a message was handed to it in that span; one that
    was never seen there counts as a copy, too. Empty: only what was seen."""

    flow: str
    hop: str
    since: int
    until: int
    outbox: bool = False
    handed: tuple[tuple[str, str], ...] = ()


class Holdings(msgspec.Struct, frozen=True):
    """How many messages and copies a hop holds; `verdicts` of these messages as the last pass left them."""

    messages: int
    copies: int
    verdicts: dict[str, int]


class Held:
    """Questions about copies."""

    _engine: Engine
    _db: str

    def holdings(self, place: Place, step: int = 1_000_000) -> Holdings:
        """Counts over all that is held there, by about `step` events at a time."""
        messages, copies, verdicts, after = 0, 0, Counter[str](), ""
        while True:
            until = self._next(place, after, step)
            sql, values = self._held(place, after, until)
            judged = self._engine.rows(
                f"SELECT verdict, count() AS n FROM {self._db}.states FINAL WHERE tenant = '' "
                f"AND flow = {{flow:String}} AND message_id IN (SELECT message_id FROM ({sql})) GROUP BY verdict",
                values,
            )
            verdicts.update({row["verdict"]: row["n"] for row in judged})
            [row] = self._engine.rows(f"SELECT uniqExact(message_id) AS m, count() AS n FROM ({sql})", values)
            messages, copies, after = messages + row["m"], copies + row["n"], until
            if not until:
                return Holdings(messages, copies, dict(verdicts))

    def held(self, place: Place, after: str = "", step: int = 100_000) -> tuple[pa.Table, str]:
        """(copies by message id, where to go on): the part of the list after the id `after` that about `step` events
        tell of. Columns: `COPY`, as in `columns.EVENTS`. The second is empty with the last part; a part may be."""
        until = self._next(place, after, step)
        sql, values = self._held(place, after, until)
        return self._engine.table(f"SELECT {', '.join(COPY)} FROM ({sql}) ORDER BY message_id", values), until

    def _next(self, place: Place, after: str, step: int) -> str:
        """The id that ends the next `step` events at that hop, in the order of the table's key; empty when they end
        before."""
        mine = f"hop = {{hop:String}} AND stage IN ({_stages(place)})"
        rows = self._engine.rows(
            f"SELECT message_id FROM {self._db}.events WHERE tenant = '' AND flow = {{flow:String}} "
            f"AND ({mine} OR {_handed(place)}) AND message_id > {{after:String}} "
            "ORDER BY tenant, flow, message_id LIMIT 1 OFFSET {step:UInt64}",
            {"flow": place.flow, "hop": place.hop, "after": after, "step": step} | _named(place),
        )
        return rows[0]["message_id"] if rows else ""

    def _held(self, place: Place, after: str = "", until: str = "") -> tuple[str, dict[str, Any]]:
        bound = "message_id <= {last:String}" if until else "1"
        sql = ask("held", self._db, stages=_stages(place), bound=bound)
        if place.handed:
            sql += f"\nUNION ALL\n{ask('unseen', self._db, handed=_handed(place), bound=bound)}"
        values = {name: getattr(place, name) for name in ("flow", "hop", "since", "until")}
        return sql, values | {"after": after, "last": until, "retry": RETRY} | _named(place)


def _stages(place: Place) -> str:
    """What takes a copy and what removes one, as SQL."""
    stages = ["persist", "replicate", "drop", "ack", "dead_letter"] + (["produce"] if place.outbox else [])
    return ", ".join(f"'{stage}'" for stage in stages)


def _handed(place: Place) -> str:
    """The events that handed a message to the hop, as SQL; nothing where these are not asked for."""
    names = [f"(hop = {{from{n}:String}} AND stage = '{Stage(stage)}')" for n, (_, stage) in enumerate(place.handed)]
    return f"({' OR '.join(names) or 'false'})"


def _named(place: Place) -> dict[str, str]:
    return {f"from{n}": hop for n, (hop, _) in enumerate(place.handed)}
