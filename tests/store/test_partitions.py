"""What lies on very many days."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.units import SECOND
from tracker.reconcile import Reconciler

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: log, stage: ack, after: shop, within: 200d}
"""


def test_a_backfill_over_many_days(tmp_path: Path) -> None:
    """Timers on more days than the engine takes in one insert by itself stop no pass."""
    world = Installation(tmp_path)
    world.put(SPEC)
    day = 86_400
    first = world.now // SECOND - 150 * day
    world.observe([event("shop:produce", first + n * day, message_id=f"m{n}", backfill=True) for n in range(150)])
    world.run_pass()
    states = world.store.message_states("orders", limit=1000)
    world.close()
    assert {state["verdict"] for state in states} == {"in_flight"}
    assert len(states) == 150


def test_days_of_timers_that_are_over_are_dropped(tmp_path: Path) -> None:
    """Those before the day up to which timers have fired; what is due that day, or later, stays and fires."""
    world, day = Installation(tmp_path), 86_400 * SECOND
    world.put(SPEC.replace("200d", "36h"))
    world.now -= world.now % day
    midnight = world.now

    def left() -> set[int]:
        asked = "SELECT DISTINCT toUnixTimestamp64Micro(due_at) AS due FROM {}.timers"
        rows = world.store.engine.rows(asked.format(world.store.engine.database))
        return {(row["due"] - midnight) // day for row in rows}

    for n in range(4):
        world.observe([event("shop:produce", world.now // SECOND, message_id=f"m{n}")])
        world.run_pass()
        Reconciler(world.store, world.control, lambda: world.now)._sweep()
        assert left() >= {n, n + 1} - {0}, "what fires today, or tomorrow"
        world.now += day
    assert 1 not in left(), "the last pass but one was on the day after it"
    assert world.store.drop_fired(midnight + 3 * day - 1) == []
    assert world.store.drop_fired(midnight + 3 * day) == [
        f"{datetime.fromtimestamp(midnight / SECOND + 2 * 86_400, UTC):%Y%m%d}"
    ]
    assert left() >= {3, 4}
    world.close()
