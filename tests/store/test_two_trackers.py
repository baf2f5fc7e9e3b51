"""Several trackers on one ledger: one runs the passes, another takes over, and nobody mixes up flows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.control.errors import LeaseLost
from tracker.reconcile.books import reconcile
from tracker.reconcile.lead import NAME, TTL, Lead
from tracker.reconcile.reconciler import Reconciler, now_us

SPEC = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: ack, after: shop, within: 5s}}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    """An installation that two trackers share."""
    installation = Installation(tmp_path)
    yield installation
    installation.close()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = now_us()

    def __call__(self) -> int:
        """Microseconds."""
        return self.now


def test_one_leads_until_it_lets_go(world: Installation) -> None:
    """The second takes over when the first ends, or has not been heard of for the time of the lease."""
    clock = Clock()
    first, second = Lead(world.control, False, clock), Lead(world.control, False, clock)
    assert first.take()
    assert not second.take()
    first.close()
    assert second.take()
    third = Lead(world.control, False, clock)
    assert not third.take()
    clock.now += TTL + 1
    assert third.take()
    third.close()
    second.close()


def test_who_lost_the_lead_finishes_no_pass(world: Installation) -> None:
    """A process that stalled in a pass while another took over: its pass stays as the other one has it."""
    clock = Clock()
    stalled, other = Lead(world.control, False, clock), Lead(world.control, False, clock)
    assert stalled.take()
    begun = world.control.passes.begin(clock.now, {})
    clock.now += TTL + 1
    assert other.take()
    with pytest.raises(LeaseLost):
        stalled.finish(begun.number, {})
    assert world.control.passes.unfinished() == begun
    other.finish(begun.number, {})
    assert world.control.passes.unfinished() is None
    stalled.close()
    other.close()


def test_the_only_owner_of_a_folder_does_not_wait(world: Installation) -> None:
    """After a SIGKILL the next process of an embedded ledger goes on at once."""
    killed = Lead(world.control, True, now_us)
    assert killed.take()
    restarted = Lead(world.control, True, now_us)
    assert restarted.take()
    assert [lease.name for lease in world.control.leases.all()] == [NAME]
    with pytest.raises(LeaseLost):
        killed.finish(1, {})
    killed.close()
    restarted.close()


def test_two_loops_at_once(world: Installation) -> None:
    """As on a server that both reach: the passes are those of one, every message is in its own flow and the books
    agree. The one that leads ends in between."""
    specs = [world.put(SPEC.format(flow=flow)) for flow in ("a", "b")]
    stops = [threading.Event(), threading.Event()]
    leads = [Lead(world.control, False, now_us) for _ in stops]
    loops = [
        threading.Thread(target=Reconciler(world.store, world.control)._run, args=(lead, stop, 0.01))
        for lead, stop in zip(leads, stops, strict=True)
    ]
    for loop in loops:
        loop.start()
    for n in range(40):
        world.now = now_us()
        world.observe([structs.replace(event("shop:produce", 0, message_id=f"{flow}{n}"), flow=flow,
                                       observed_at=world.now, received_at=None) for flow in ("a", "b")])  # fmt: skip
        if n == 20:
            stops[0].set()
            loops[0].join(20)
            leads[0].close()
        time.sleep(0.05)
    until = time.monotonic() + 20
    while len(world.store.message_states("b")) < 40 and time.monotonic() < until:
        time.sleep(0.1)
    stops[1].set()
    loops[1].join(20)
    leads[1].close()
    world.run_pass()
    for spec in specs:
        ids = {state["message_id"] for state in world.store.message_states(spec.flow)}
        assert ids == {f"{spec.flow}{n}" for n in range(40)}
        assert reconcile(world.store, world.control, spec, 0, 1 << 61).conserved
