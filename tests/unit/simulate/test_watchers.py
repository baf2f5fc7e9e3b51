"""Collectors: what they tell when, and what they vouch for."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from tests.unit.simulate.worlds import SECOND, world
from tracker.simulate.watchers import Watcher, watchers
from tracker.simulate.wire import batches
from tracker.simulate.world import NEVER, T0, World


def of(made: World, hop: str) -> Watcher:
    """The first collector of a hop."""
    return watchers(made)[hop][0]


def test_what_happens_is_told_by_the_next_report() -> None:
    """Receipt follows the event by at most the time between two reports."""
    made = world()
    passed = made.at[3]
    receipt, _ = of(made, "billing").told(passed)
    assert (receipt >= passed).all()
    assert (receipt - passed <= made.scenario.report_every).all()


def test_a_collector_that_crashed_and_came_back_tells_and_vouches_for_all_of_it() -> None:
    """Its spool outlived it: later, without a hole."""
    made = world({"kind": "collector_crash", "place": "billing", "start": "10s", "lasts": "20s"})
    watcher = of(made, "billing")
    moment = np.array([T0 + 15 * SECOND])
    receipt, _ = watcher.told(moment)
    assert T0 + 30 * SECOND <= receipt[0] < T0 + 33 * SECOND
    assert not watcher.covers(moment, moment, T0 + 29 * SECOND)[0]
    assert watcher.covers(moment, moment, T0 + 40 * SECOND)[0]


def test_a_collector_that_lost_what_it_had_leaves_a_hole() -> None:
    """What happened meanwhile is told by nobody, and nobody vouches for it."""
    made = world({"kind": "collector_silence", "place": "billing", "start": "10s", "lasts": "20s"})
    watcher = of(made, "billing")
    within, after = np.array([T0 + 15 * SECOND]), np.array([T0 + 40 * SECOND])
    assert watcher.told(within)[0][0] == NEVER
    assert not watcher.covers(within, within, T0 + 120 * SECOND)[0]
    assert watcher.covers(after, after, T0 + 120 * SECOND)[0]
    assert not watcher.covers(np.array([T0 + 5 * SECOND]), after, T0 + 120 * SECOND)[0]


def test_a_collector_with_a_lag_vouches_for_less_than_now() -> None:
    """What it reports at a moment is what happened up to its lag before."""
    made = world({"kind": "collector_lag", "place": "billing", "by": "5s"})
    watcher = of(made, "billing")
    assert (watcher.receipt - watcher.cut == 5 * SECOND).all()


def test_every_event_is_sent_once_and_requests_go_by_time() -> None:
    """Four checkpoints of 200 messages; reports of a collector count without a gap."""
    made = world(nodes={"billing": 3})
    sent = list(batches(made, watchers(made)))
    assert [b.at for b in sent] == sorted(b.at for b in sent)
    assert sum(b.lines.count(b"\n") for b in sent) == 800
    numbers: dict[str, list[int]] = defaultdict(list)
    for batch in sent:
        assert batch.report is not None
        numbers[batch.report["collector"]].append(batch.report["sequence"])
    assert len(numbers) == 6
    assert all(n == list(range(1, len(n) + 1)) for n in numbers.values())


def test_a_collector_that_resends_sends_the_same_again() -> None:
    """Every request of it twice, the others once."""
    made = world({"kind": "collector_resend", "place": "billing"})
    times = Counter((b.report or {}).get("collector", "") + str(b.at) + str(len(b.lines))
                    for b in batches(made, watchers(made)))  # fmt: skip
    assert {n for name, n in times.items() if name.startswith("billing")} == {2}
    assert {n for name, n in times.items() if not name.startswith("billing")} == {1}
