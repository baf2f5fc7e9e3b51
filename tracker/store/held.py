"""What a hop holds, as columns: the same rule as `tracker.model.facts`, in SQL, for the day when a hop is gone."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from tracker.store.engine import Engine
from tracker.store.sql import ask


COPY = (
    "message_id", "delivery", "node", "region", "digest", "size", "partition", "offset", "consumer_group", "attempt",
)  # fmt: skip


class Place(msgspec.Struct, frozen=True):
    """Copies of messages of `flow` that `hop` took in [since, until), by its own clock, µs. `outbox`: its `produce`
    keeps a copy, too."""

    flow: str
    hop: str
    since: int
    until: int
    outbox: bool = False


class Holdings(msgspec.Struct, frozen=True):
    """How many messages and copies a hop holds; `verdicts` of these messages as the last pass left them."""

    messages: int
    copies: int
    verdicts: dict[str, int]


class Held:
    """Questions about copies."""

    _engine: Engine
    _db: str

    def holdings(self, place: Place) -> Holdings:
        """Counts over all that is held there."""
        sql, values = self._held(place)
        [row] = self._engine.rows(f"SELECT uniqExact(message_id) AS messages, count() AS copies FROM ({sql})", values)
        verdicts = self._engine.rows(
            f"SELECT verdict, count() AS n FROM {self._db}.states FINAL WHERE tenant = '' AND flow = {{flow:String}} "
            f"AND message_id IN (SELECT message_id FROM ({sql})) GROUP BY verdict",
            values,
        )
        return Holdings(row["messages"], row["copies"], {v["verdict"]: v["n"] for v in verdicts})

    def held(self, place: Place, after: str = "", limit: int = 100_000) -> pa.Table:
        """Copies by message id, of messages after the id `after`: at most `limit` rows, and the rest of its last
        message. Columns: `COPY`, as in `columns.EVENTS`."""
        sql, values = self._held(place, after)
        return self._engine.table(
            f"SELECT {', '.join(COPY)} FROM ({sql}) ORDER BY message_id LIMIT {{limit:UInt32}} WITH TIES",
            values | {"limit": limit},
        )

    def _held(self, place: Place, after: str = "") -> tuple[str, dict[str, Any]]:
        stages = ["persist", "replicate", "drop", "ack"] + (["produce"] if place.outbox else [])
        sql = ask("held", self._db, stages=", ".join(f"'{stage}'" for stage in stages))
        values = {name: getattr(place, name) for name in ("flow", "hop", "since", "until")}
        return sql, values | {"after": after}
