"""Who was overtaken, as passes find it, is what the reference finds among all events."""

from __future__ import annotations

from itertools import count

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.world.installation import Installation
from tracker.model.event import Event, Stage
from tracker.model.order import Ordered, ordered, reordered
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND

SPECS = [
    """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s, order: partition}}
  - {{hop: [billing, mail], stage: ack, after: log, within: 60s, order: key}}
""",
    """
flow: {flow}
checkpoints:
  - {{hop: log, stage: persist}}
  - {{hop: billing, stage: deliver, after: log, within: 5s, order: key}}
  - {{hop: billing, stage: ack, after: "billing:deliver", within: 60s, order: partition}}
""",
]
PLACES = [("shop", Stage.produce), ("log", Stage.persist), ("billing", Stage.deliver), ("billing", Stage.ack),
          ("mail", Stage.ack)]  # fmt: skip
numbers = count()
MESSAGES = 5
Happening = tuple[tuple[str, Stage], int, Event]
"""Where, which message, and what else."""


@st.composite
def happenings(draw: st.DrawFn) -> Happening:
    """Coincidences are common. A message is produced in one place of the log, or in none."""
    number, at = draw(st.integers(0, MESSAGES - 1)), draw(st.integers(0, 12))
    error = draw(st.sampled_from([None, 0, SECOND // 4, 2 * SECOND]))
    span = draw(st.sampled_from([0, 0, 0, 2]))
    seen = Event(
        flow="", message_id=f"m{number}", hop="", stage=Stage.ack, observed_at=at * SECOND,
        observed_from=(at - span) * SECOND if span else None, node=draw(st.sampled_from(["n1", "n1", "n2"])),
        origin_at=draw(st.sampled_from([None, None, 5])), clock_error=error,
        clock_offset=0 if error is None else draw(st.sampled_from([0, 3 * SECOND])),
        replay_id=draw(st.sampled_from(["", "", "", "", "r"])), delivery=draw(st.sampled_from(["", "", "d"])),
    )  # fmt: skip
    return draw(st.sampled_from([*PLACES, *PLACES[1:], *PLACES[3:]])), number, seen


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=st.sampled_from(SPECS),
    batches=st.lists(st.lists(happenings(), min_size=4, max_size=16), min_size=1, max_size=4),
    makers=st.none() | st.lists(st.sampled_from(["n1", "n2"]), min_size=MESSAGES, max_size=MESSAGES),
    times=st.lists(st.integers(0, 12), min_size=MESSAGES, max_size=MESSAGES),
    keys=st.lists(st.sampled_from(["k1", "k1", "k1", "k1", "k2", ""]), min_size=MESSAGES, max_size=MESSAGES),
    offsets=st.lists(st.sampled_from([None, None, 1, 2, 3, 4]), min_size=MESSAGES, max_size=MESSAGES),
    partitions=st.lists(st.sampled_from(["", "p0", "p0", "p1"]), min_size=MESSAGES, max_size=MESSAGES),
)
def test_passes_find_who_was_overtaken(
    installation: Installation,
    text: str,
    batches: list[list[Happening]],
    makers: list[str] | None,
    times: list[int],
    keys: list[str],
    offsets: list[int | None],
    partitions: list[str],
) -> None:
    """In any batches, any order, late or twice: after every pass the same messages, at every checkpoint that asks."""
    world, base = installation, installation.now
    spec = world.put(text.format(flow=f"order{next(numbers)}"))
    for batch in [[*begun(makers, times), *batches[0]], *batches[1:]] if makers else batches:
        events = [
            structs.replace(
                seen, flow=spec.flow, hop=hop, stage=stage, key=keys[number], partition=partitions[number],
                offset=offsets[number], observed_at=base + seen.observed_at,
                observed_from=None if seen.observed_from is None else base + seen.observed_from,
                origin_at=None if seen.origin_at is None else base + (number + seen.origin_at) * SECOND,
            )
            for (hop, stage), number, seen in batch
        ]  # fmt: skip
        world.observe(events)
        world.observe(events[:2])
        world.now += SECOND
        world.restarted()
        world.run_pass()
        for point in ordered(spec):
            expected = told(world, spec, point)
            event(f"{len(expected)} overtaken")
            assert found(world, spec, point) == expected, point
    world.control.flows.delete(spec.flow, world.now)


def begun(makers: list[str], times: list[int]) -> list[Happening]:
    """Every message is produced and stored, one after the other, by these nodes, and handled at these seconds."""
    return [
        (place, n, Event(flow="", message_id=f"m{n}", hop="", stage=Stage.ack, node=node, observed_at=at * SECOND))
        for n, maker in enumerate(makers)
        for place, node, at in [(p, maker, n) for p in PLACES[:2]] + [(p, "n1", times[n]) for p in PLACES[2:]]
    ]


def told(world: Installation, spec: FlowSpec, point: Ordered) -> set[str]:
    """What the reference says of everything that was stored."""
    stored = world.store.events_of(spec.flow, [f"m{n}" for n in range(MESSAGES)], None)
    note(f"{point}: {stored}")
    return set(reordered(spec, point, stored))


def found(world: Installation, spec: FlowSpec, point: Ordered) -> set[str]:
    """What passes have written."""
    place = (point.hop, point.stage.value)
    return {
        ident
        for ident in (f"m{n}" for n in range(MESSAGES))
        if place in {(one.hop, one.stage) for one in world.store.overtaken(spec.flow, ident)}
    }
