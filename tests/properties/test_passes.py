"""What the passes make of events, however they come, is what the reference makes of them."""

from __future__ import annotations

from itertools import count

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile

SPECS = [
    """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: mirror, stage: replicate, after: log, within: 10s, same_payload: true}}
  - {{hop: billing, stage: ack, after: log, within: 20s, at_most: 1}}
""",
    """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: [east, west], stage: persist, after: shop, within: 5s}}
  - {{hop: audit, stage: deliver, after: east, within: 3s, required: false}}
  - {{hop: billing, stage: deliver, after: audit, within: 10s}}
  - {{hop: billing, stage: ack, after: "billing:deliver", within: 10s, at_most: 2}}
  - {{hop: mail, stage: ack, after: [east, "billing:ack"], within: 10s}}
""",
    """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce, outbox: true}}
  - {{hop: log, stage: persist, after: shop, within: 5s, quorum: 2}}
  - {{hop: billing, stage: ack, after: log, within: 10s}}
""",
]
REASONS = {Stage.drop: ["filtered", "expired", "skipped"], Stage.dead_letter: ["poison", "retry"]}
numbers = count()
IDS = ["a", "b", "018bcfe5-6800-7000-8000-000000000001", "01HF7YAT00000000000000000A"]
Story = tuple[str, list[list[Event]], list[int], bool]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """(spec text, batches of events, seconds between passes, whether collectors vouch)."""
    flow = "FLOW"
    text = draw(st.sampled_from(SPECS))
    hops = load_spec(text.format(flow=flow)).hops
    event = st.builds(
        _event,
        st.just(flow),
        st.sampled_from(IDS),
        st.sampled_from([*hops, "elsewhere"]),
        st.sampled_from([*Stage, Stage.produce, Stage.persist, Stage.ack, Stage.ack]),
        st.integers(-3, 40),
        st.sampled_from(["", "", "d1", "d2"]),
        st.sampled_from(["", "n1", "n2"]),
        st.sampled_from(["", "aa", "bb"]),
        st.sampled_from(["", "", "", "r1"]),
        st.sampled_from([0, 0, 3]),
        st.sampled_from([None, None, 1]),
        st.integers(0, 1),
    )
    batches = draw(st.lists(st.lists(event, max_size=8), min_size=1, max_size=4))
    waits = draw(st.lists(st.integers(0, 15), min_size=len(batches) + 2, max_size=len(batches) + 2))
    return text, batches, waits, draw(st.booleans())


def _event(flow: str, ident: str, hop: str, stage: Stage, at: int, delivery: str, node: str, digest: str,
           replay: str, span: int, origin: int | None, which: int) -> Event:  # fmt: skip
    reasons = REASONS.get(stage, [""])
    return Event(flow=flow, message_id=ident, hop=hop, stage=stage, observed_at=at, delivery=delivery, node=node,
                 digest=digest, replay_id=replay, observed_from=at - span if span else None, origin_at=origin,
                 reason=reasons[which % len(reasons)])  # fmt: skip


def _dated(event: Event, flow: str, base: int) -> Event:
    return structs.replace(
        event,
        flow=flow,
        observed_at=base + event.observed_at * SECOND,
        observed_from=None if event.observed_from is None else base + event.observed_from * SECOND,
        origin_at=None if event.origin_at is None else base + event.origin_at * SECOND,
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(story=stories())
def test_states_equal_the_reference(installation: Installation, story: Story) -> None:
    """After every pass each message has the verdict and flags that `judge` gives it from the same events, and the
    books are conserved; restarts in between, and events twice, change nothing."""
    text, batches, waits, vouched = story
    world = installation
    spec = world.put(text.format(flow=f"f{next(numbers)}"))
    base = world.now
    sources = [SourceRef(spec.flow, h, c.stage.value, "s") for c in spec.checkpoints for h in c.hop]
    for batch, wait in zip([*batches, [], []], waits, strict=True):
        if vouched:
            world.vouch(sources, collector=spec.flow)
        dated = [_dated(event, spec.flow, base) for event in batch]
        world.observe(dated)
        world.observe(dated[:2])
        world.now += 1
        world.restarted()
        world.run_pass()
        _same(world, spec)
        world.now += wait * SECOND
    world.control.flows.delete(spec.flow, world.now)


def _same(world: Installation, spec: FlowSpec) -> None:
    last = world.control.passes.last_finished()
    if last is None:
        return
    states = {s["message_id"]: s for s in world.store.message_states(spec.flow)}
    asked = (
        f"SELECT message_id, look_again FROM {world.store.engine.database}.states FINAL WHERE flow = {{flow:String}}"
    )
    waiting = {row["message_id"]: row["look_again"] for row in world.store.engine.rows(asked, {"flow": spec.flow})}
    stored = world.store.events_of(spec.flow, IDS, None)
    coverage = world.store.coverage(spec)
    known = {i: e for i, e in stored.items() if any(x.hop in spec.hops for x in e)}
    assert set(states) == set(known)
    for ident, events in known.items():
        judged = judge(spec, events, coverage, last.started_at)
        note(f"{ident}: {judged.why}")
        state = states[ident]
        if "blind" in (state["verdict"], judged.verdict):
            continue  # looked at again at growing distances, not at once
        assert state["verdict"] == judged.verdict, (ident, state, judged, last)
        undecided = {"gap"} if waiting[ident] else set()  # looked for again at growing distances, too
        assert set(state["flags"]) - undecided == set(judged.flags) - undecided
        assert state["origin"] == judged.origin_at
    books = reconcile(world.store, world.control, spec, 0, 1 << 61)
    assert books.conserved, books
