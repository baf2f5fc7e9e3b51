"""The truth follows from what the world did to whom, and from who watched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.simulate.worlds import ACK, FLOW, PERSIST, REPLICATE, SECOND, settled, stopped, those, world
from tracker.simulate.truth import FLAGS, VERDICTS
from tracker.simulate.world import NEVER, T0


def at(place: str, kind: str, **more: Any) -> dict[str, Any]:
    """A fault that hits a fifth."""
    return {"kind": kind, "place": place, "share": 0.2, **more}


def test_without_faults_all_is_delivered_and_nothing_flagged() -> None:
    """The quiet world."""
    told = settled(world())
    assert those(told, "delivered").all()
    assert not any(told.flags[flag].any() for flag in FLAGS)
    assert not any(messages.any() for messages in told.findings.values())
    assert all((known == NEVER).all() for known in told.known.values())


@pytest.mark.parametrize(
    ("place", "index", "verdict"),
    [("billing", ACK, "unacknowledged"), ("kafka-eu", PERSIST, "lost"), ("kafka-us", REPLICATE, "under_replicated")],
)
def test_who_vanishes_at_a_place_has_the_verdict_of_that_place(place: str, index: int, verdict: str) -> None:
    """Exactly they, and nobody else."""
    made = world(at(place, "drop"))
    told = settled(made)
    gone = stopped(made, index)
    assert gone.any()
    assert np.array_equal(those(told, verdict), gone)
    assert np.array_equal(those(told, "delivered"), ~gone)
    missing = told.findings[place, made.route.places[index].stage, verdict]
    assert np.array_equal(missing, gone)


def test_a_missing_message_can_be_known_from_its_deadline_and_not_long_after() -> None:
    """Receipt of what comes before, plus what it may take, plus the next report."""
    made = world(at("billing", "drop"))
    told = settled(made)
    gone = stopped(made, ACK)
    known = told.known["billing", "ack"]
    waited = known[gone] - made.at[PERSIST][gone]
    assert (waited >= 20 * SECOND).all()
    assert (waited <= 20 * SECOND + 2 * made.scenario.report_every).all()
    assert (known[~gone] == NEVER).all()


def test_before_the_deadline_a_message_is_in_flight() -> None:
    """The same world, looked at while messages are on their way."""
    made = world(at("billing", "drop"))
    early, late = settled(made, 25 * SECOND), settled(made)
    assert those(early, "in_flight").sum() > 20
    assert not those(late, "in_flight").any()
    assert not (those(early, "unacknowledged") & ~stopped(made, ACK)).any()


def test_a_parked_message_is_dead_lettered_and_one_dropped_by_design_explained() -> None:
    """A dead letter closes, a drop by design explains, a drop by retention loses."""
    made = world(at("billing", "dead_letter"))
    assert np.array_equal(those(settled(made), "dead_lettered"), stopped(made, ACK))
    by_design = world(at("kafka-eu", "discard", reason="compacted"))
    lost = world(at("kafka-eu", "discard", reason="truncated"))
    assert np.array_equal(those(settled(by_design), "explained"), by_design.at[ACK] == NEVER)
    assert np.array_equal(those(settled(lost), "lost"), lost.at[ACK] == NEVER)


def test_a_changed_payload_is_divergent() -> None:
    """Only where the spec joins two places."""
    joined = settled(world(at("kafka-us", "corrupt")))
    apart = settled(world(at("billing", "corrupt")))
    assert 20 < those(joined, "divergent").sum() < 60
    assert those(apart, "delivered").all()


def test_who_comes_after_the_deadline_is_late_by_the_times_of_the_world() -> None:
    """Passage after passage of the one before plus what it may take."""
    made = world(at("billing", "delay", by="30s"))
    late = made.at[ACK] > made.at[PERSIST] + 20 * SECOND
    assert late.any()
    assert np.array_equal(those(settled(made), "late"), late)


def test_nobody_is_called_missing_in_a_span_that_nobody_watched() -> None:
    """With a hole at the consumer, who would have acknowledged there is blind, lost or not."""
    made = world(
        at("billing", "drop"), {"kind": "collector_silence", "place": "billing", "start": "10s", "lasts": "15s"}
    )
    told = settled(made)
    inside = (made.at[ACK] > T0 + 13 * SECOND) & (made.at[ACK] < T0 + 24 * SECOND)
    assert inside.any()
    assert those(told, "blind")[inside].all()
    missing = those(told, "unacknowledged")
    assert not (missing & ~stopped(made, ACK)).any()


@pytest.mark.parametrize(
    ("fault", "flag"),
    [
        (at("billing", "duplicate"), "duplicated"),
        (at("kafka-eu", "swallow"), "gap"),
        (at("checkout", "swallow"), "orphan"),
        (at("checkout", "reuse", by="1m"), "reused_id"),
    ],
)
def test_each_flag_has_a_fault_that_raises_it(fault: dict[str, Any], flag: str) -> None:
    """On about a fifth, and nothing else is flagged; a swallowed produce is a gap, too."""
    told = settled(world(fault))
    raised = {name for name in FLAGS if told.flags[name].any()}
    assert raised in ({flag}, {flag, "gap"})
    assert 20 < told.flags[flag].sum() < 60
    assert those(told, "delivered").all()


def test_a_clock_that_nobody_measures_skews_and_a_measured_one_does_not() -> None:
    """Ten minutes behind at one of two nodes."""
    wrong = {"kind": "clock", "place": "billing", "node": 1, "by": "-10m"}
    unmeasured = settled(world(wrong, nodes={"billing": 2}))
    measured = settled(world({**wrong, "measured": True}, nodes={"billing": 2}))
    assert 80 < unmeasured.flags["skewed"].sum() < 120
    assert not measured.flags["skewed"].any()
    for told in (unmeasured, measured):
        assert those(told, "delivered").all()


def test_who_was_overtaken_in_its_partition_is_reordered() -> None:
    """Where the flow asks for order, and only there."""
    ordered = {**FLOW, "checkpoints": [*FLOW["checkpoints"][:3], {**FLOW["checkpoints"][3], "order": "partition"}]}
    fault = at("billing", "reorder", by="5s")
    pace = {"billing": ("1ms", "2ms"), "kafka-eu": ("1ms", "2ms")}
    asked = settled(world(fault, flow=ordered, partitions=2, pace=pace))
    not_asked = settled(world(fault, partitions=2, pace=pace))
    assert asked.flags["reordered"].sum() > 20
    assert not not_asked.flags["reordered"].any()


def test_every_verdict_is_one_of_the_ten() -> None:
    """At any moment, of everybody who was heard of."""
    made = world(at("billing", "drop"), at("kafka-eu", "discard"), at("kafka-us", "corrupt"))
    for moment in range(0, 120, 7):
        told = settled(made, moment * SECOND)
        assert set(told.verdict[told.heard]) <= set(VERDICTS)
