"""A hop that is gone: what it held is written off on the real engine, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.world.installation import Installation
from tracker.model.carry import Locator
from tracker.model.coverage import SourceRef
from tracker.model.event import RETRY, Event, Stage, natural_key
from tracker.model.facts import Facts
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.model.verdict import Verdict
from tracker.reconcile.abandon import Abandoned, abandon, drops, handed_to
from tracker.store.held import Place

SPEC = """flow: {flow}
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: eu, stage: persist, after: checkout, within: 5s}}
  - {{hop: us, stage: replicate, after: eu, within: 30s}}
  - {{hop: billing, stage: ack, after: eu, within: 10s}}
"""
HOUR = 3600 * SECOND
ALWAYS = (0, 1 << 60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation; each test has a flow of its own."""
    installation = Installation(tmp_path_factory.mktemp("abandon"))
    yield installation
    installation.close()


@pytest.fixture
def spec(world: Installation, request: pytest.FixtureRequest) -> FlowSpec:
    """A flow named after the test, vouched for from now on."""
    made = world.put(SPEC.format(flow=request.node.name[5:60].replace("_", "-")))
    later(world, made, 3600)
    later(world, made, 120)
    return made


def later(world: Installation, spec: FlowSpec, seconds: int = 60) -> None:
    """Time goes by, all is reported, a pass looks."""
    world.now += seconds * SECOND
    places = [(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop]
    world.vouch([SourceRef(spec.flow, hop, stage, "s") for hop, stage in places], collector=spec.flow)
    world.run_pass()


def seen(spec: FlowSpec, message_id: str, place: str, at: int, **more: Any) -> Event:
    """One observation at `hop:stage`."""
    hop, _, stage = place.partition(":")
    return Event(flow=spec.flow, message_id=message_id, hop=hop, stage=Stage(stage), observed_at=at, **more)


def way(spec: FlowSpec, message_id: str, at: int, *places: str) -> list[Event]:
    """The message at these places, a second apart; where it is kept it has an offset."""
    return [
        seen(spec, message_id, place, at + n * SECOND, offset=7 if place[-3:] != "ack" else None)
        for n, place in enumerate(places)
    ]


def verdicts(world: Installation, spec: FlowSpec) -> dict[str, str]:
    """By message, as the last pass left them."""
    return {row["message_id"]: row["verdict"] for row in world.store.message_states(spec.flow)}


def test_what_had_its_last_copy_there_is_lost_and_nothing_else(world: Installation, spec: FlowSpec) -> None:
    """Delivered stays delivered, and what the hop took before that time, even once, it still holds."""
    start = world.now
    before = {"old": "unacknowledged", "gone": "unacknowledged", "twice": "unacknowledged", "done": "delivered"}
    world.observe([
        *way(spec, "old", start - 60 * SECOND, "checkout:produce", "eu:persist"),
        *way(spec, "gone", start, "checkout:produce", "eu:persist"),
        *way(spec, "twice", start, "checkout:produce", "eu:persist"),
        seen(spec, "twice", "eu:persist", start - 1, offset=3),
        *way(spec, "done", start, "checkout:produce", "eu:persist", "us:replicate", "billing:ack"),
    ])  # fmt: skip
    later(world, spec)
    assert verdicts(world, spec) == before
    done = abandon(world.store, Place(spec.flow, "eu", start, world.now), world.now, "ann", "rack 7 burnt")
    assert (done.messages, done.copies, done.next) == (3, 3, "")
    later(world, spec)
    assert verdicts(world, spec) == before | {"gone": "lost"}
    [drop] = [e for e in world.store.timeline(spec.flow, "gone") if e.stage == Stage.drop]
    told = {"declared_by": "ann", "why": "rack 7 burnt"}
    assert (drop.reason, drop.offset, drop.attributes) == ("abandoned", 7, told)
    found = {(f.message_id, f.kind, f.status) for f in world.store.findings(flow=spec.flow) if f.message_id == "gone"}
    assert ("gone", "lost", "open") in found


def test_what_was_written_off_is_no_source_of_copies(world: Installation, spec: FlowSpec) -> None:
    """A replay would ask brokers that are gone for it. What the hop took before that time can be had still, and what
    another hop has."""
    start = world.now
    world.observe([
        *way(spec, "gone", start, "checkout:produce", "eu:persist", "us:replicate"),
        seen(spec, "twice", "eu:persist", start - SECOND, partition="orders/1", offset=3),
        seen(spec, "twice", "eu:persist", start, partition="orders/1", offset=9),
    ])  # fmt: skip
    both = {(one.message_id, one.offset) for one in world.store.locators(spec.flow, ["gone", "twice"], "eu")}
    assert both == {("gone", 7), ("twice", 9)}
    abandon(world.store, Place(spec.flow, "eu", start, world.now + HOUR), world.now, "ann", "")
    assert world.store.locators(spec.flow, ["gone", "twice"], "eu") == [Locator("twice", "eu", "orders/1", 3)]
    assert [one.message_id for one in world.store.locators(spec.flow, ["gone"], "us")] == ["gone"]


def test_what_nobody_saw_there_is_written_off_only_when_that_is_asked_for(world: Installation, spec: FlowSpec) -> None:
    """Its collectors died with it and took along what they had not told: that the message was handed over is known. It
    is lost then; handed over at another time it is not, nor when it was seen further on."""
    start = world.now
    world.observe([
        *way(spec, "untold", start, "checkout:produce"),
        *way(spec, "before", start - 60 * SECOND, "checkout:produce"),
        *way(spec, "through", start, "checkout:produce", "us:replicate", "billing:ack"),
        *way(spec, "seen", start, "checkout:produce", "eu:persist"),
    ])  # fmt: skip
    seen_only = Place(spec.flow, "eu", start, world.now + HOUR)
    place = structs.replace(seen_only, handed=handed_to(spec, "eu"))
    assert (world.store.holdings(seen_only).copies, world.store.holdings(place).copies) == (1, 3)
    parts = [abandon(world.store, place, world.now, "ann", "", step=1)]
    while parts[-1].next:
        parts.append(abandon(world.store, place, world.now, "ann", "", parts[-1].next, step=1))
    assert sum(part.copies for part in parts) == 3
    assert abandon(world.store, place, world.now, "ann", "").copies == 0
    events = world.store.events_of(spec.flow, ["untold", "before", "through"], None)
    drop = {one: [e.reason for e in seen if e.stage == Stage.drop] for one, seen in events.items()}
    assert drop == {"untold": ["abandoned"], "before": [], "through": ["abandoned"]}
    later(world, spec)
    assert {one: kind for one, kind in verdicts(world, spec).items() if one != "before"} == {
        "untold": "lost", "through": "delivered", "seen": "lost",
    }  # fmt: skip


def test_an_unseen_message_that_waits_in_an_outbox_is_not_written_off(world: Installation, spec: FlowSpec) -> None:
    """It never left: only what the outbox says to be relayed may have been there."""
    start = world.now
    made = world.put(SPEC.format(flow=spec.flow).replace("stage: produce", "stage: produce, outbox: true"))
    world.observe([
        *way(made, "waits", start, "checkout:produce"),
        *way(made, "relayed", start, "checkout:produce", "checkout:ack"),
    ])  # fmt: skip
    place = Place(spec.flow, "eu", start, world.now + HOUR, handed=handed_to(made, "eu"))
    assert [row["message_id"] for row in world.store.held(place)[0].to_pylist()] == ["relayed"]


@pytest.mark.parametrize("lines", [
    ["{hop: [eu, other], stage: persist, after: checkout, within: 5s}"],
    ["{hop: a, stage: persist, after: checkout, within: 5s}", "{hop: eu, stage: replicate, after: a, within: 5s}"],
])  # fmt: skip
def test_where_another_may_have_taken_it_nothing_unseen_is_written_off(lines: list[str]) -> None:
    """Another hop of the checkpoint, or what comes before it and keeps messages."""
    points = "".join(f"  - {line}\n" for line in ["{hop: checkout, stage: produce}", *lines])
    spec = load_spec(f"flow: orders\ncheckpoints:\n{points}")
    assert handed_to(spec, "eu") == ()


def test_a_copy_beside_the_way_is_named_but_reaches_nobody(world: Installation, spec: FlowSpec) -> None:
    """The consumer reads from the hop that is gone: the message is lost to it, and the answer says who has a copy."""
    start = world.now
    world.observe(way(spec, "mirrored", start, "checkout:produce", "eu:persist", "us:replicate"))
    later(world, spec)
    abandon(world.store, Place(spec.flow, "eu", start, world.now), world.now, "ann", "")
    later(world, spec)
    assert verdicts(world, spec) == {"mirrored": "lost"}
    events = world.store.timeline(spec.flow, "mirrored")
    assert judge(spec, events, world.store.coverage(spec), world.now).held_by == ("us",)


def test_doing_it_again_finds_nothing(world: Installation, spec: FlowSpec) -> None:
    """A copy that was written off is not held; should two do it at once, both write the same natural keys."""
    start = world.now
    world.observe([e for n in range(50) for e in way(spec, f"m-{n}", start, "checkout:produce", "eu:persist")])
    place = Place(spec.flow, "eu", start, world.now + HOUR)
    copies, _ = world.store.held(place)
    assert abandon(world.store, place, world.now, "ann", "").copies == 50
    assert world.store.holdings(place).copies == 0
    assert abandon(world.store, place, world.now, "ann", "").copies == 0
    world.store.insert_events(drops(place, copies, world.now + SECOND, {}))
    events = world.store.events_of(spec.flow, ["m-7"], None)["m-7"]
    assert (len(events), len({natural_key(event) for event in events})) == (4, 3)
    later(world, spec)
    assert set(verdicts(world, spec).values()) == {"lost"}


def test_it_is_done_in_bounded_parts(world: Installation, spec: FlowSpec) -> None:
    """A call writes off about as many as it may and says that there are more; no message is cut in two."""
    start = world.now
    for n in range(10):
        world.observe([seen(spec, f"m-{n}", "eu:persist", start, offset=offset) for offset in (1, 2)])
    place = Place(spec.flow, "eu", start, world.now + HOUR)
    parts: list[Abandoned] = []
    after = ""
    while not parts or after:
        parts.append(abandon(world.store, place, world.now, "ann", "", after, most=6, step=3))
        after = parts[-1].next
    assert [(part.messages, part.copies) for part in parts] == [(4, 8), (4, 8), (2, 4)]
    assert abandon(world.store, place, world.now, "ann", "", most=6, step=3).copies == 0


def test_counting_writes_nothing_and_says_what_is_at_stake(world: Installation, spec: FlowSpec) -> None:
    """How many copies of how many messages, and how they stand."""
    start = world.now
    world.observe([
        *way(spec, "m-1", start, "checkout:produce", "eu:persist"),
        *way(spec, "m-2", start, "checkout:produce", "eu:persist", "us:replicate", "billing:ack"),
        seen(spec, "m-2", "eu:persist", start, offset=8),
    ])  # fmt: skip
    later(world, spec)
    for step in (1_000_000, 1):
        held = world.store.holdings(Place(spec.flow, "eu", start, world.now), step)
        assert (held.messages, held.copies, held.verdicts) == (2, 3, {"unacknowledged": 1, "delivered": 1})


# --- the same rule as the model -----------------------------------------------------------------------------------

HELD = load_spec("""
flow: held
checkpoints:
  - {hop: box, stage: produce, outbox: true}
  - {hop: queue, stage: persist, after: box, within: 5s}
  - {hop: queue, stage: ack, after: "queue:persist", within: 5s}
""")


@st.composite
def observations(draw: st.DrawFn) -> list[Event]:
    """Random events of one message at a queue and an outbox, many of them copies of each other."""
    texts = st.sampled_from(["", "", "d1", "d2"])
    return draw(
        st.lists(
            st.builds(
                Event,
                flow=st.just("held"),
                message_id=st.just("m"),
                hop=st.sampled_from(["box", "queue"]),
                stage=st.sampled_from(
                    [Stage.produce, Stage.persist, Stage.persist, Stage.ack, Stage.drop, Stage.nack, Stage.dead_letter]
                ),
                reason=st.sampled_from(["rejected", RETRY]),
                observed_at=st.integers(10, 20),
                delivery=texts,
                partition=st.sampled_from(["", "p"]),
                offset=st.sampled_from([None, 0, 5]),
                group=st.sampled_from(["", "g"]),
                attempt=st.sampled_from([None, 1]),
                node=st.sampled_from(["", "n"]),
                digest=st.sampled_from(["", "00000000000000aa"]),
            ),
            max_size=6,
        )
    )


@given(cases=st.lists(observations(), min_size=1, max_size=20))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_engine_holds_what_the_model_holds(world: Installation, cases: list[list[Event]]) -> None:
    """For any events: a hop that the model says holds the message is in the engine's list, and no other; once written
    off, neither says so any more, and the judge calls nothing held."""
    flow = f"held-{world.now}"
    world.now += SECOND
    many = {f"m-{n}": [structs.replace(e, flow=flow, message_id=f"m-{n}",
                                       reason="purged" if e.stage == "drop" else e.reason)
                       for e in case] for n, case in enumerate(cases)}  # fmt: skip
    world.observe([event for case in many.values() for event in case] or [seen(HELD, "x", "box:produce", 1)])
    for hop in ("box", "queue"):
        place = Place(flow, hop, *ALWAYS, outbox=hop == "box")
        expected = {m for m, case in many.items() if hop in Facts.of(HELD, case).holding}
        assert set(world.store.held(place)[0]["message_id"].to_pylist()) == expected
        abandon(world.store, place, world.now, "ann", "")
        assert world.store.holdings(place).messages == 0
    after = world.store.events_of(flow, list(many), None)
    for events in after.values():
        judgement = judge(HELD, events, world.store.coverage(HELD), world.now)
        assert judgement.held_by == ()
        assert judgement.verdict in set(Verdict)
