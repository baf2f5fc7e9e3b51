"""The story: 20,000 messages through a real Kafka and a real RabbitMQ, with everything going wrong that may, and every
message accounted for by name. Nothing in here knows the tracker's inside: it has processes, HTTP and the brokers' own
clients. What really happened is read from files that the applications wrote before they told anybody else."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.story.brokers import own_topic, own_vhost
from tests.e2e.story.looks import Looks
from tests.e2e.story.orders import COUNT, misrouted, order, parcel, skipped
from tests.e2e.story.world import WITHIN, running_world

SKIPPED = {order(n) for n in range(COUNT) if skipped(order(n))}
MISROUTED = {parcel(n) for n in range(COUNT) if misrouted(n)}
ALLOWED = {
    "orders": {"delivered": COUNT, "late": COUNT, "in_flight": COUNT, "blind": COUNT, "unacknowledged": len(SKIPPED)},
    "parcels": {"delivered": COUNT, "late": COUNT, "in_flight": COUNT, "blind": COUNT, "lost": len(MISROUTED)},
}
"""The most that a look may ever show. What nobody knows yet is in flight or blind, never a wrong name."""

WRITTEN_BEFORE = 0.5
"""Seconds, at most, between what an application wrote down and the observation that follows."""


@pytest.fixture
def told(tmp_path, kafka_server, rabbitmq_server):
    """The world of the story, and whoever looks at its books all the time."""
    with (
        own_topic(kafka_server) as topic,
        own_vhost(rabbitmq_server) as vhost,
        running_world(tmp_path, topic, vhost) as made,
    ):
        made.begin()
        looks = Looks(made.tracker.url, made.clerk.headers["Authorization"].removeprefix("Bearer "), ALLOWED)
        try:
            yield made, looks
        finally:
            looks.close()


@pytest.mark.brokers
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_message_is_accounted_for_by_name(told):
    """With kills, skips and a wrong routing key: exactly what is missing is named, exactly what was processed twice is
    flagged, the books add up at every look, and a replay brings back what can be brought back."""
    world, looks = told
    killed_in_the_middle(world, looks)
    everything_comes_to_rest(world)
    nothing_stays_in_the_dark(world)
    the_missing_are_named(world)
    what_was_processed_twice_is_flagged(world)
    world.note("exactly the missing are named, exactly the duplicates flagged")
    billing_is_mended_and_a_replay_brings_them_back(world)
    world.note("replayed")
    the_recovered_are_recovered(world)
    world.note("recovered")
    nothing_else_ever_happened(world, looks)


def killed_in_the_middle(world, looks):
    """Inventory gets SIGKILL in mid-batch and is started again, then the tracker."""
    assert world.inventory.ended() == -signal.SIGKILL
    world.inventory.again(dies_after=0)
    world.note("inventory was killed and started again")
    world.until("half of it is sent", lambda: len(world.checkout.told().lines) > COUNT // 2)
    with looks.away():
        world.tracker.process.kill()
        world.note("the tracker is killed")
        world.tracker.start()
    world.note("it answers again")


def everything_comes_to_rest(world):
    """All was sent, and the brokers themselves say that nothing waits for a consumer any more."""
    assert (world.checkout.ended(), world.shop.ended()) == (0, 0)
    world.note("everything was sent")
    assert sum(world.topic.ends()) == COUNT
    for group in (world.billing.settings.group, world.inventory.settings.group):
        world.until(f"{group} at the end", lambda group=group: world.topic.committed(group) == world.topic.ends())
    world.until("an empty queue", lambda: world.vhost.waiting() == 0)
    world.note("everything was consumed")
    world.until("no order in flight", lambda: rested(world.books("orders"), "unacknowledged", len(SKIPPED)))
    world.until("no parcel in flight", lambda: rested(world.books("parcels"), "lost", len(MISROUTED)))


def rested(books, wrong, count):
    """Whether everything was produced and judged for good, and as many as expected are `wrong`."""
    verdicts = books["verdicts"]
    return (books["produced"], books["orphans"], verdicts.get(wrong), verdicts.keys() & {"in_flight", "blind"}) == (
        COUNT, 0, count, set())  # fmt: skip


def nothing_stays_in_the_dark(world):
    """A consumer and the tracker were killed, and yet every moment is vouched for at every hop behind the producers."""
    for flow, producer, consumers in (
        ("orders", world.checkout, (world.billing, world.inventory)),
        ("parcels", world.shop, (world.packing,)),
    ):
        first = min(line.at for line in producer.told().lines)
        last = max(line.at for consumer in consumers for line in consumer.told().lines)
        books = world.get(f"/v1/flows/{flow}/reconciliation", **{"from": first, "to": last})
        assert [spot for spot in books["blind_spots"] if spot["hop"] not in ("checkout", "shop")] == []


def the_missing_are_named(world):
    """137 at billing, which committed past them, 53 at the broker, which confirmed them: by id, and nobody else."""
    assert world.billing.told().ids("skipped") == SKIPPED
    assert world.shop.told().ids("misrouted") == MISROUTED
    assert world.ids("orders", verdict="unacknowledged") == SKIPPED
    assert world.ids("parcels", verdict="lost") == MISROUTED
    found = world.listed("/v1/findings", flow="orders")
    assert {(f["hop"], f["stage"], f["kind"], f["status"]) for f in found} == {
        ("billing", "ack", "unacknowledged", "open")}  # fmt: skip
    assert sorted(f["message_id"] for f in found) == sorted(SKIPPED)
    found = world.listed("/v1/findings", flow="parcels")
    assert sorted(f["message_id"] for f in found if f["hop"] == "rabbit") == sorted(MISROUTED)
    # What never reached the queue cannot be packed: that follows, and says from what.
    assert {(f["hop"], f["stage"], f["kind"], f["cause"], f["status"]) for f in found} == {
        ("rabbit", "persist", "lost", "", "open"), ("packing", "ack", "lost", "rabbit:persist", "open")}  # fmt: skip
    assert {f["message_id"] for f in found} == MISROUTED
    for flow, hop, held_by, some in (("orders", "billing", ["kafka"], SKIPPED), ("parcels", "rabbit", [], MISROUTED)):
        shown = world.get(f"/v1/flows/{flow}/messages/{min(some)}")
        assert (shown["missing"][0]["hop"], shown["missing"][0]["covered"]) == (hop, True), shown
        assert shown["held_by"] == held_by, shown
        assert hop in shown["why"], shown


def what_was_processed_twice_is_flagged(world):
    """The batch in which inventory was killed was handed out again: exactly what it acked twice is `duplicated`."""
    twice = world.inventory.told().twice("processed")
    assert twice
    assert world.billing.told().twice("processed") == world.packing.told().twice("processed") == set()
    assert world.ids("orders", flag="duplicated") == twice
    assert world.ids("parcels", flag="duplicated") == set()
    late_is_late(world, "orders", (world.billing, world.inventory), world.checkout)
    late_is_late(world, "parcels", (world.packing,), world.shop)


def late_is_late(world, flow, consumers, producer, recovered=frozenset()):
    """A slow machine, a kill and a start make messages late: only those may be that really took so long."""
    sent = producer.told().first("sent")
    slow = {name for consumer in consumers for name, at in consumer.told().first("processed").items()
            if at - sent[name] > WITHIN[consumer.settings.hop] - WRITTEN_BEFORE}  # fmt: skip
    assert recovered <= world.ids(flow, verdict="late") <= slow | recovered


def billing_is_mended_and_a_replay_brings_them_back(world):
    """Shown first, asked for by one, approved by another, sent from the log, and back at billing."""
    assert world.billing.end() == 0
    world.billing.again(skips=False)
    world.note("billing is mended")
    selection = {"flow": "orders", "hop": "billing", "kind": "unacknowledged", "reason": "the story"}
    shown = world.clerk.post("/v1/replays", json=selection, params={"dry_run": True})
    plan = shown.raise_for_status().json()["plan"]
    assert (plan["messages"], plan["sources"], plan["targets"], plan["refused"], plan["needs_approval"]) == (
        len(SKIPPED), {"log: kafka": len(SKIPPED)}, ["kafka"], {}, True)  # fmt: skip
    assert plan["integrity"]["wrong"] == {}
    assert world.get("/v1/replays")["items"] == []
    made = world.clerk.post("/v1/replays", json=selection).raise_for_status().json()
    assert made["status"] == "awaiting_approval"
    assert sum(world.topic.ends()) == COUNT
    address = f"/v1/replays/{made['id']}"
    assert world.clerk.post(f"{address}/approve").status_code == 403
    assert world.chief.post(f"{address}/approve", json={"why": "billing is mended"}).status_code == 200
    world.note("the replay is planned, asked for, approved")
    done = world.until("the replay at its end", lambda: ended(world.get(address)))
    assert {state: n for state, n in done["messages"].items() if n} == {"recovered": len(SKIPPED)}
    assert (done["requested_by"], done["approved_by"]) == ("clerk", "chief")


def ended(replay):
    """The replay, once it is done."""
    return replay if replay["status"] == "done" else None


def the_recovered_are_recovered(world):
    """All 137 once more through Kafka and to billing, with a time of recovery; a replay is no duplicate, anywhere."""
    assert sum(world.topic.ends()) == COUNT + len(SKIPPED)
    found = world.listed("/v1/findings", flow="orders")
    assert sorted(f["message_id"] for f in found) == sorted(SKIPPED)
    assert {(f["hop"], f["kind"], f["status"], f["by"]) for f in found} == {
        ("billing", "unacknowledged", "recovered", "replay")}  # fmt: skip
    assert all(f["resolved_at"] > f["opened_at"] for f in found)
    world.until("its incident, a moment behind", lambda: not world.listed("/v1/incidents", flow="orders")[0]["open"])
    [incident] = world.listed("/v1/incidents", flow="orders")
    assert (incident["status"], incident["recovered"], incident["recovered_by_itself"], incident["open"]) == (
        "resolved", len(SKIPPED), 0, 0)  # fmt: skip
    assert 0 < incident["recover_p50_s"] <= incident["recover_p90_s"]
    assert world.billing.told().replayed("processed") == dict.fromkeys(SKIPPED, 1)
    again = world.inventory.told().replayed
    world.until("inventory has them again", lambda: again("processed") == dict.fromkeys(SKIPPED, 1))
    world.until("the books at rest", lambda: not world.books("orders")["verdicts"].keys() - {"delivered", "late"})
    assert world.ids("orders", flag="replayed") == SKIPPED
    assert world.ids("orders", flag="duplicated") == world.inventory.told().twice("processed")
    late_is_late(world, "orders", (world.billing, world.inventory), world.checkout, SKIPPED)


def nothing_else_ever_happened(world, looks):
    """Every application ends well with nothing left to tell; every look added up; no other finding was ever made."""
    for app in (world.billing, world.inventory, world.packing):
        assert app.end() == 0
    assert looks.faults == []
    for flow, seen in looks.seen.items():
        produced = [look["produced"] for look in seen]
        assert len(seen) > 30, f"{flow}: hardly a look"
        assert any(0 < n < COUNT for n in produced), f"{flow}: no look in mid-stream: {produced}"
    for flow, wrong in (("orders", {}), ("parcels", {"lost": len(MISROUTED)})):
        books = world.books(flow)
        assert (books["produced"], books["orphans"], books["conserved"]) == (COUNT, 0, True)
        assert {v: n for v, n in books["verdicts"].items() if v not in ("delivered", "late")} == wrong
    for flag in ("gap", "orphan", "skewed", "reordered", "reused_id"):
        assert world.ids("orders", flag=flag) == world.ids("parcels", flag=flag) == set(), flag
    assert {f["message_id"] for f in world.listed("/v1/findings")} == SKIPPED | MISROUTED
    assert {f["status"] for f in world.listed("/v1/findings", flow="parcels")} == {"open"}
    assert world.get("/v1/quarantine")["items"] == []
