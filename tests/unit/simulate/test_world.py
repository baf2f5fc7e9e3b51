"""The world: what happens in it depends on the seed alone, and follows the route."""

from __future__ import annotations

import numpy as np

from tests.unit.simulate.worlds import ACK, PERSIST, PRODUCE, REPLICATE, SECOND, stopped, world
from tracker.simulate.watchers import watchers
from tracker.simulate.wire import batches
from tracker.simulate.world import NEVER, T0

DROP = {"kind": "drop", "place": "billing", "share": 0.2}


def test_one_seed_is_one_world() -> None:
    """The same requests, byte for byte; another seed makes others."""
    one, two, three = world(DROP, seed=1), world(DROP, seed=1), world(DROP, seed=2)
    assert list(batches(one, watchers(one))) == list(batches(two, watchers(two)))
    assert not np.array_equal(one.origin, three.origin)


def test_nobody_passes_a_place_before_the_one_before_it() -> None:
    """Along the route true time only grows."""
    made = world()
    for place in made.route.places:
        for before in place.after:
            assert (made.at[place.index] > made.at[before]).all()


def test_who_was_dropped_is_not_seen_behind() -> None:
    """A message that the log never got reaches neither its copy nor its consumer."""
    made = world({"kind": "drop", "place": "kafka-eu", "share": 0.3})
    gone = stopped(made, PERSIST)
    assert 30 < gone.sum() < 90
    assert (made.at[PRODUCE][gone] < NEVER).all()
    assert (made.at[REPLICATE][gone] == NEVER).all()
    assert (made.at[ACK][gone] == NEVER).all()


def test_a_fault_hits_only_while_it_lasts() -> None:
    """Who comes by before or after gets through."""
    made = world({**DROP, "share": 1, "start": "10s", "lasts": "10s"})
    gone = made.origin[stopped(made, ACK)] - T0
    assert len(gone) > 20
    assert gone.max() < 20 * SECOND
    through = made.origin[made.at[ACK] < NEVER] - T0
    assert (through < 10 * SECOND).any()
    assert (through > 20 * SECOND - made.scenario.report_every).any()


def test_an_outage_holds_messages_back_and_loses_none() -> None:
    """All that come by while it lasts pass within a second after it."""
    made = world({"kind": "outage", "place": "kafka-us", "start": "10s", "lasts": "15s"})
    passed = made.at[REPLICATE]
    assert (passed < NEVER).all()
    assert not ((passed >= T0 + 10 * SECOND) & (passed < T0 + 25 * SECOND)).any()
    assert ((passed >= T0 + 25 * SECOND) & (passed <= T0 + 26 * SECOND)).sum() > 50


def test_bursts_leave_quiet_between_them() -> None:
    """Three bursts: two pauses that are longer than all else."""
    gaps = np.sort(np.diff(world(bursts=3, messages=300).origin))
    assert gaps[-2] > 8 * SECOND
    assert gaps[-3] < SECOND


def test_a_fault_that_hits_nobody_sends_nothing() -> None:
    """A replay where nobody stopped: four checkpoints of 200 messages, and not a line more."""
    made = world({"kind": "replay", "place": "billing", "start": "60s"})
    assert sum(batch.lines.count(b"\n") for batch in batches(made, watchers(made))) == 800
