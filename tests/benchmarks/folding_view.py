"""The design that was not built: a materialized view folds every insert into partial states of its messages."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.watch import Watch
from tests.benchmarks.workload import FLOW, HOPS
from tests.world.installation import Installation
from tracker.store.bounds import Bounds

WITHIN = [0, 30_000_000, 60_000_000, 120_000_000]
"""Deadline of each checkpoint after the one before it, µs; as in the spec of the workload."""
NEVER = 1 << 62
_ARRAY = "SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64))"
_MIN = "SimpleAggregateFunction(min, Int64) CODEC(Delta, ZSTD(1))"


def _table(db: str) -> str:
    times = ", ".join(f"observed_{n} {_MIN}, received_{n} {_MIN}" for n in range(len(HOPS)))
    return f"""CREATE TABLE {db}.folded (
        tenant LowCardinality(String), flow LowCardinality(String), message_id String CODEC(ZSTD(1)),
        seen SimpleAggregateFunction(groupBitOr, UInt64) CODEC(T64, ZSTD(1)),
        marks SimpleAggregateFunction(groupBitOr, UInt32) CODEC(T64, ZSTD(1)),
        {times}, origin {_MIN}, first_observed {_MIN}, first_received {_MIN},
        deliveries {_ARRAY} CODEC(ZSTD(1)), digests {_ARRAY} CODEC(ZSTD(1))
    ) ENGINE = AggregatingMergeTree ORDER BY (tenant, flow, message_id)"""


def _view(db: str) -> str:
    at, got = "toUnixTimestamp64Micro(observed_at)", "toUnixTimestamp64Micro(received_at)"
    bit = [f"(hop = '{hop}' AND stage = '{stage}')" for hop, stage in HOPS]
    seen = "+".join(f"if({b}, {1 << n}, 0)" for n, b in enumerate(bit))
    times = ", ".join(f"min(if({b}, {at}, {NEVER})) AS observed_{n}, min(if({b}, {got}, {NEVER})) AS received_{n}"
                      for n, b in enumerate(bit))  # fmt: skip
    return f"""CREATE MATERIALIZED VIEW {db}.fold TO {db}.folded AS
    SELECT tenant, flow, message_id, groupBitOr(toUInt64({seen})) AS seen,
        groupBitOr(toUInt32(if(replay_id != '', 1, 0) + if(stage = 'drop', 2, 0))) AS marks, {times},
        min(if(toUnixTimestamp64Micro(origin_at) > 0, toUnixTimestamp64Micro(origin_at), {NEVER})) AS origin,
        min({at}) AS first_observed, min({got}) AS first_received,
        groupUniqArrayIf(64)(sipHash64(if(delivery != '', delivery, concat(partition, toString(offset), node))),
            {bit[3]}) AS deliveries,
        groupUniqArrayIf(4)(digest, digest != 0) AS digests
    FROM {db}.events GROUP BY tenant, flow, message_id"""


def _merged() -> str:
    times = ", ".join(f"min(observed_{n}) AS observed_{n}, min(received_{n}) AS received_{n}" for n in range(len(HOPS)))
    return (
        f"message_id, groupBitOr(seen) AS seen, groupBitOr(marks) AS marks, {times}, min(origin) AS origin, "
        "min(first_observed) AS first_observed, min(first_received) AS first_received, "
        "groupUniqArrayArray(deliveries) AS deliveries, groupUniqArrayArray(digests) AS digests"
    )


class Views:
    """Partial states, merged when they are read. A pass reads those of the messages that new events touched, and
    looks for due ones among all, since nothing says where they lie."""

    def __init__(self, world: Installation) -> None:
        self._world, self._engine = world, world.store.engine
        self._bounds = Bounds()
        db = self._engine.database
        self._engine.command(_table(db))
        self._engine.command(_view(db))

    def look(self) -> dict[str, float]:
        """Seconds to read what is new and to find what is due."""
        watch = Watch()
        with watch.around("what_is_new"):
            stored = self._world.store.stored_since(self._bounds)
            self._bounds = self._bounds.next(stored, 0, 1 << 40)
        with watch.around("touched"):
            touched = self._touched()
        with watch.around("due"):
            due = self._due()
        steps = watch.taken()
        return {"seconds": round(sum(steps.values()), 4)} | steps | {"messages": touched, "opened": due}

    def size(self) -> dict[str, Any]:
        """Rows, bytes and parts of the partial states."""
        return {"folded": self._world.store.stats()["folded"]}

    def _touched(self) -> int:
        db = self._engine.database
        rows = self._engine.table(
            f"SELECT {_merged()} FROM {db}.folded WHERE tenant = '' AND flow = {{flow:String}} AND message_id IN "
            f"(SELECT message_id FROM {db}.events WHERE flow = {{flow:String}} AND {self._bounds.new()}) "
            "GROUP BY message_id",
            {"flow": FLOW, **self._bounds.parameters},
        )
        return int(rows.num_rows)

    def _due(self) -> int:
        deadlines = " OR ".join(
            f"(bitTest(seen, {n}) = 0 AND bitTest(seen, {b}) AND received_{b} + {WITHIN[n]} <= {{now:Int64}})"
            for n, b in ((1, 0), (2, 1), (3, 1))
        )
        times = ", ".join(f"min(received_{n}) AS received_{n}" for n in range(len(HOPS)))
        rows = self._engine.table(
            f"SELECT message_id FROM (SELECT message_id, groupBitOr(seen) AS seen, {times} "
            f"FROM {self._engine.database}.folded WHERE tenant = '' AND flow = {{flow:String}} GROUP BY message_id) "
            f"WHERE seen != {(1 << len(HOPS)) - 1} AND ({deadlines})",
            {"flow": FLOW, "now": self._world.now},
        )
        return int(rows.num_rows)
