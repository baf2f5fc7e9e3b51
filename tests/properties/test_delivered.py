"""What the engine judges by itself, against the verdicts on columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.properties import cases
from tests.unit.reconcile.folding import shape_of, states
from tests.world.installation import Installation
from tests.world.stories import PLAIN, RICH, Stories, rich
from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.reconcile.plain import DELIVERED, Court, Plain, judge_plain
from tracker.store.delivered import delivered
from tracker.store.shape import Shape

STAGES = (Stage.produce, Stage.persist, Stage.replicate, Stage.deliver, Stage.ack, Stage.nack)


@st.composite
def specs(draw: st.DrawFn) -> FlowSpec:
    """Mostly without quorums, which the engine leaves to the columns; limits are common."""
    spec = draw(cases.specs())
    if draw(st.integers(0, 5)):
        quiet = {"quorum": 1, "at_most": draw(st.sampled_from([None, 1, 2]))}
        spec = spec.model_copy(update={"checkpoints": [c.model_copy(update=quiet) for c in spec.checkpoints]})
    return spec


ODD = ("late", "twice", "left out", "early", "digest", "replayed", "anything")


@st.composite
def nearly_whole(draw: st.DrawFn, spec: FlowSpec) -> list[Event]:
    """Every checkpoint in its turn, and at most one of them odd."""
    at, found = draw(st.integers(0, 5)), []
    odd = draw(st.sampled_from([i for i in spec.paths.order for _ in range(2)] + [-1]))
    how = draw(st.sampled_from(ODD))
    for i in spec.paths.order:
        point = spec.checkpoints[i]
        one = draw(cases.events(spec, stages=(point.stage,)))
        plain = structs.replace(one, hop=draw(st.sampled_from(point.hop)), observed_from=None, backfill=False,
                                digest="aa", replay_id="", observed_at=at * SECOND,
                                received_at=at * SECOND, delivery="d1")  # fmt: skip
        near = (point.within or 0) // SECOND + draw(st.integers(-1, 3))
        far = max(near, 1) * SECOND
        found += {
            "late": [structs.replace(plain, observed_at=plain.observed_at + far)],
            "twice": [plain, structs.replace(plain, delivery="d2")],
            "left out": [],
            "early": [structs.replace(plain, observed_at=plain.observed_at - far)],
            "digest": [structs.replace(plain, digest="bb")],
            "replayed": [structs.replace(plain, replay_id="r1")],
            "anything": [one],
        }[how] if i == odd else [plain]  # fmt: skip
        if i == odd and how == "late":
            at += far // SECOND  # else what follows would contradict it
    return found


def _rows(judged: Plain, shape: Shape, merged: pa.Table) -> set[str]:
    """Ids of those that the columns call delivered, of which everything required was seen and nothing is odd."""
    seen = np.asarray(merged["seen"].to_numpy(), dtype=np.uint64)
    whole = np.ones(merged.num_rows, dtype=bool)
    for i in range(len(shape.spec.checkpoints)):
        if shape.spec.paths.required[i]:
            whole &= (seen & np.uint64(sum(1 << bit for bit in shape.bits(i)))) != 0
    quiet = (judged.codes == DELIVERED) & (judged.flags == 0) & (judged.look_again == 0)
    unmarked = np.asarray(merged["marks"].to_numpy()) == 0
    return set(merged.filter(pa.array(quiet & unmarked & whole))["message_id"].to_pylist())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equal_to_the_columns(installation: Installation, data: st.DataObject) -> None:
    """The engine keeps as delivered exactly those to whom the columns have nothing to add."""
    spec = data.draw(specs())
    messages = {
        f"m{n}": [structs.replace(e, message_id=f"m{n}") for e in data.draw(nearly_whole(spec))] for n in range(4)
    }
    messages = {m: events for m, events in messages.items() if any(e.hop in spec.hops for e in events)}
    if not messages:
        return
    shape, since = shape_of(spec), data.draw(st.sampled_from([0, 0, 0, 3 * SECOND]))
    merged = states(shape, messages, [], set())
    older = data.draw(st.sampled_from([0, 0, 0, 1]))  # the bit of a hop that an older version knew
    merged = merged.set_column(
        merged.column_names.index("hops"), "hops", pc.bit_wise_or(merged["hops"], pa.scalar(older, pa.uint64()))
    )
    court = Court.of(shape, data.draw(cases.instants), data.draw(cases.coverages(spec)), since)
    wanted = _rows(judge_plain(court, merged), shape, merged)
    if any(point.quorum > 1 for point in spec.checkpoints):
        wanted = set()
    assert _kept(installation, shape, merged, since) == wanted


@pytest.mark.parametrize(("text", "stories"), [(RICH, rich()), (PLAIN.replace("{within}", "10"), rich())])
def test_every_oddity(installation: Installation, text: str, stories: Stories) -> None:
    """Each is left to the columns, and only those."""
    spec = load_spec(text.format(flow="f"))
    messages = {name: [_received(e, name) for e in events] for name, events in stories.items()}
    messages = {name: events for name, events in messages.items() if any(e.hop in spec.hops for e in events)}
    shape = shape_of(spec)
    merged = states(shape, messages, [], set())
    everywhere = {(hop, c.stage.value): [SourceCover("s", ((-SECOND, 900 * SECOND),))]
                  for c in spec.checkpoints for hop in c.hop}  # fmt: skip
    for since in (0, 1):
        court = Court.of(shape, 900 * SECOND, Coverage(everywhere), since)
        assert _kept(installation, shape, merged, since) == _rows(judge_plain(court, merged), shape, merged)


def _received(e: Event, ident: str) -> Event:
    """At once, and nothing at the moment 0, which stands for none."""
    moved = {"observed_at": e.observed_at + 1, "received_at": e.observed_at + 1}
    return structs.replace(e, flow="f", message_id=ident, **moved)


def _kept(world: Installation, shape: Shape, merged: pa.Table, since: int) -> set[str]:
    engine = world.store.engine
    of_table = {row["name"] for row in engine.rows("SELECT name FROM system.columns WHERE table = 'merged'")}
    columns = [name for name in merged.column_names if name in of_table]
    table = f"{engine.database}.merged"
    engine.command(f"TRUNCATE TABLE {table}")
    engine.insert("merged", merged.select(columns))
    found = engine.rows(f"SELECT message_id FROM {table} WHERE {delivered(shape)}", {"in_force_from": since})
    return {row["message_id"] for row in found}
