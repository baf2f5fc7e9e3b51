"""What lies on very many days."""

from __future__ import annotations

from pathlib import Path

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.units import SECOND

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
