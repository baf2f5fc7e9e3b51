"""No hop's clock decides what is missing: absence is judged by receipts, whatever the clocks show.

Where nobody measured a clock it can widen the span that has to be covered: a clock that is behind may make blind what
is overdue, where coverage has a hole in the time that it claims. It never makes anything overdue, and never hides one.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.properties import cases
from tests.properties.test_judge import everywhere
from tests.properties.test_passes import SPECS
from tests.unit.ingest.lines import NOW, batch
from tests.world.installation import Installation
from tracker.model.coverage import Coverage, SourceCover, SourceRef
from tracker.model.event import Event, Stage
from tracker.model.judge import judge
from tracker.model.units import SECOND
from tracker.model.verdict import Judgement, Status

YEAR = 365 * 86_400 * SECOND
Clock = tuple[int, float]
"""(offset in µs, drift) of one node."""
behind = st.tuples(st.integers(-30 * YEAR, 0), st.sampled_from([0.0, 0.0, -0.2]))
ahead = st.tuples(st.integers(0, 30 * YEAR), st.sampled_from([0.0, 0.0, 0.2]))
clocks = st.one_of(st.just((0, 0.0)), st.tuples(st.integers(-99, 99).map(lambda s: s * SECOND), st.just(0.0)), behind,
                   ahead)  # fmt: skip
numbers = count()


def shown(event: Event, clock: Clock, base: int = 0) -> Event:
    """The event as a node with this clock tells it; every time by the same clock."""
    offset, drift = clock

    def by(at: int | None) -> int | None:
        return None if at is None else at + offset + round((at - base) * drift)

    return structs.replace(event, observed_at=by(event.observed_at), observed_from=by(event.observed_from))


def dated(data: st.DataObject, events: list[Event], of: st.SearchStrategy[Clock], base: int = 0) -> list[Event]:
    """Each node of each hop with a clock of its own."""
    places = sorted({(e.hop, e.node) for e in events})
    drawn = {place: data.draw(of, label=f"clock of {place}") for place in places}
    return [shown(e, drawn[e.hop, e.node], base) for e in events]


def absence(judgement: Judgement) -> dict[str, Any]:
    """All that a judgement says, but what goes by observed times: lateness, and times themselves."""
    return {s.name: (s.status, s.due, s.deadline, s.kind, s.cause, s.divergent) for s in judgement.checkpoints}


def story(data: st.DataObject) -> tuple[Any, list[Event], int]:
    """A spec, what was observed, and now; nothing of it backfilled: that is judged by observed times on purpose."""
    spec = data.draw(cases.specs())
    events = [structs.replace(e, backfill=False) for e in data.draw(cases.histories(spec))]
    return spec, events, data.draw(cases.instants)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_where_all_is_vouched_for_no_clock_matters(data: st.DataObject) -> None:
    """Any offset, any drift, on any node: the same checkpoints missing, with the same deadlines and findings."""
    spec, events, now = story(data)
    always = ((-99 * YEAR, 99 * YEAR),)
    coverage = Coverage({place: [SourceCover("s", always)] for place in everywhere(spec).sources})
    true, told = judge(spec, events, coverage, now), judge(spec, dated(data, events, clocks), coverage, now)
    assert absence(told) == absence(true)
    assert told.held_by == true.held_by


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_clock_that_is_behind_never_makes_a_message_overdue(data: st.DataObject) -> None:
    """With any holes in the coverage: overdue can only become unknown, and nothing else changes."""
    spec, events, now = story(data)
    coverage = data.draw(cases.coverages(spec))
    true, told = judge(spec, events, coverage, now), judge(spec, dated(data, events, behind), coverage, now)
    for was, found in zip(true.checkpoints, told.checkpoints, strict=True):
        note(f"{was} {found}")
        assert found.due == was.due or (was.due, found.due) == (Status.overdue, Status.unknown)
        assert found.deadline == was.deadline


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_clock_that_is_ahead_changes_nothing_of_what_comes_at_once(data: st.DataObject) -> None:
    """With any holes: a passage is never dated later than its receipt."""
    spec, events, now = story(data)
    events = [structs.replace(e, observed_from=None, received_at=e.observed_at) for e in events]
    coverage = data.draw(cases.coverages(spec))
    assert absence(judge(spec, dated(data, events, ahead), coverage, now)) == absence(
        judge(spec, events, coverage, now)
    )


@settings(max_examples=50, deadline=None)
@given(offset=st.integers(-9 * YEAR, 9 * YEAR), error=st.integers(0, SECOND), ages=st.lists(st.integers(0, 3600)))
def test_a_measured_clock_shows_what_a_true_one_would(offset: int, error: int, ages: list[int]) -> None:
    """What ingest keeps of lines that a wrong, measured clock dated: the very times of a true clock, or, where the
    offset is within its error, times that are wrong by no more than that."""
    true = [NOW - age * SECOND for age in [0, *ages]]
    place = {"flow": "orders", "hop": "shop", "stage": "produce"}
    lines = [place | {"message_id": str(n), "observed_at": at - offset} for n, at in enumerate(true)]
    said = {"collector": "c", "epoch": 1, "sequence": 1, "offset_us": offset, "error_us": error}
    got = batch(*lines, header=json.dumps(said))
    assert got.answer.quarantined == 0
    kept = got.events["observed_at"].to_pylist()
    assert kept == true or (abs(offset) <= error and all(abs(a - b) <= error for a, b in zip(kept, true, strict=True)))


happened = st.builds(
    lambda place, ident, at, late, node: (place, ident, at, late, node),
    st.integers(0, 20), st.sampled_from(["a", "b", "c"]), st.integers(0, 30), st.sampled_from([0, 0, 5]),
    st.sampled_from(["n1", "n2"]),
)  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    text=st.sampled_from(SPECS),
    batches=st.lists(st.lists(happened, max_size=6), min_size=1, max_size=3),
)
def test_passes_say_the_same_of_a_world_with_wrong_clocks(
    installation: Installation, data: st.DataObject, text: str, batches: list[list[Any]]
) -> None:
    """Two flows with the same messages, one of them told by wrong clocks: after every pass the same messages are
    missing, through the columns that judge millions."""
    world, base = installation, installation.now
    true, wrong = (world.put(text.format(flow=f"clock{next(numbers)}")) for _ in range(2))
    places = [(h, c.stage.value) for c in true.checkpoints for h in c.hop]
    clock_of = {(hop, node): data.draw(clocks) for hop, _ in places for node in ("n1", "n2")}
    for each in (true, wrong):
        sources = [SourceRef(each.flow, hop, stage, "s") for hop, stage in places]
        world.vouch(sources, collector=each.flow, lag_ms=40 * YEAR // 1000)
    for batch_ in [*batches, [], []]:
        for place, ident, at, late, node in batch_:
            hop, stage = places[place % len(places)]
            event = Event(flow=true.flow, message_id=ident, hop=hop, stage=Stage(stage), node=node, digest="aa",
                          observed_at=base + (at - late) * SECOND)  # fmt: skip
            world.observe([event, structs.replace(shown(event, clock_of[hop, node], base), flow=wrong.flow)])
        for each in (true, wrong):
            world.vouch([SourceRef(each.flow, hop, stage, "s") for hop, stage in places], collector=each.flow)
        world.now += 12 * SECOND
        world.run_pass()
        assert missing(world, wrong.flow) == missing(world, true.flow)
    for each in (true, wrong):
        world.control.flows.delete(each.flow, world.now)


def missing(world: Installation, flow: str) -> dict[str, str]:
    """Verdict by message; delivered and late are one here: lateness goes by observed times."""
    return {
        row["message_id"]: "delivered" if row["verdict"] == "late" else row["verdict"]
        for row in world.store.message_states(flow)
    }
