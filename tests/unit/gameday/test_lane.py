"""The lane of canaries: drafted from a flow, and what may be sent into it."""

from __future__ import annotations

import pytest

from tracker.gameday.lane import draft, lane_of
from tracker.model.errors import Invalid
from tracker.model.event import Stage
from tracker.model.spec import load_spec

ORDERS = """flow: orders
owner: team-payments
identity: {header: x-order}
key: plain
checkpoints:
  - {hop: checkout,  stage: produce, outbox: true}
  - {hop: kafka-eu,  stage: persist,   after: checkout,  within: 5s, quorum: 3}
  - {hop: kafka-us,  stage: replicate, after: kafka-eu,  within: 30s, same_payload: true}
  - {hop: billing,   stage: deliver,   after: kafka-eu,  within: 1m, required: false}
  - {hop: billing,   stage: ack,       after: ["kafka-eu:persist", "billing:deliver"], within: 1m30s, at_most: 1}
  - {hop: [x, y],    stage: ack,       after: kafka-us,  within: 5m, coverage: assumed, order: key}
objectives:
  delivery: {target: 99.99%, window: 30d}
  latency:  {p99: 2s, window: 30d}
replay: {sources: [log: checkout, peer: kafka-us, snapshot: kafka-eu, log: kafka-eu], rate: 500/s}
schema: {attributes: [tenant]}
"""
QUEUE = """flow: jobs
checkpoints:
  - {hop: rabbit, stage: persist}
  - {hop: worker, stage: ack, after: rabbit, within: 1m}
"""


def test_a_draft_has_the_same_path_and_places_of_its_own() -> None:
    """What keeps messages is another place; deadlines, objectives and the identity are the flow's. What canaries do
    not have is left out: an outbox, a schema, an order, an archive."""
    found = load_spec(draft(load_spec(ORDERS)))
    assert (found.flow, found.owner, found.canary) == ("orders.canary", "team-payments", True)
    assert found.identity.header == "x-order"
    assert [(c.hop, c.stage, c.after) for c in found.checkpoints] == [
        (("checkout",), Stage.produce, ()),
        (("kafka-eu.canary",), Stage.persist, ("checkout",)),
        (("kafka-us.canary",), Stage.replicate, ("kafka-eu.canary",)),
        (("billing",), Stage.deliver, ("kafka-eu.canary",)),
        (("billing",), Stage.ack, ("kafka-eu.canary:persist", "billing:deliver")),
        (("x", "y"), Stage.ack, ("kafka-us.canary",)),
    ]
    before = load_spec(ORDERS)
    for ours, theirs in zip(found.checkpoints, before.checkpoints, strict=True):
        for key in ("within", "required", "quorum", "at_most", "same_payload", "coverage"):
            assert getattr(ours, key) == getattr(theirs, key), key
        assert (ours.outbox, ours.order) == (False, None)
    assert found.objectives == before.objectives
    assert found.replay.sources == ({"peer": "kafka-us.canary"}, {"log": "kafka-eu.canary"})
    assert (found.replay.mode, found.replay.rate) == ("auto", 500)
    assert not found.rules
    assert not found.keeping & before.keeping


def test_a_flow_that_begins_at_a_queue_gets_a_producer() -> None:
    """Somebody has to say what was sent, or a canary that never arrived would have no name."""
    found = load_spec(draft(load_spec(QUEUE)))
    assert [c.name for c in found.checkpoints] == ["canary:produce", "rabbit.canary:persist", "worker:ack"]
    assert found.objectives.delivery is not None
    lane = lane_of(found)
    assert (lane.producer, lane.first, dict(lane.consumers)) == ("canary", "rabbit.canary", {"worker": "rabbit.canary"})


def test_a_lane_knows_from_where_each_consumer_takes() -> None:
    """From the nearest hop before it that keeps messages, also where its own delivery lies between."""
    lane = lane_of(load_spec(draft(load_spec(ORDERS))))
    taken = {"billing": "kafka-eu.canary", "x": "kafka-us.canary", "y": "kafka-us.canary"}
    assert (lane.first, dict(lane.consumers)) == ("kafka-eu.canary", taken)
    assert lane.stages("billing") == [Stage.deliver, Stage.ack]
    assert lane.longest == 335


@pytest.mark.parametrize(("text", "to", "words"), [
    (ORDERS, "", "not marked"), (QUEUE.replace("flow: jobs", "flow: jobs\ncanary: true"), "", "does not begin"),
    (draft(load_spec(ORDERS)), "kafka-us.canary", "are sent to kafka-eu.canary"),
])  # fmt: skip
def test_what_is_no_lane(text: str, to: str, words: str) -> None:
    """A flow of business, above all; one without a produce; a hop at which it does not begin."""
    with pytest.raises(Invalid, match=words):
        lane_of(load_spec(text), to)
