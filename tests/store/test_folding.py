"""The fold, message by message: each of these in one go and cut in two at every place, against the reference.

One pass over many messages each, so that they are quick: faults in the queries that make states show here first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from msgspec import structs

from tests.properties.promises import Promises
from tests.unit.reconcile.folding import states
from tests.world.installation import Installation
from tests.world.stories import PLAIN, RICH, SAFE, Stories, at, rich, safe, whole
from tracker.model.counted import counted
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Range, Stage
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.store import folding, handful, reach
from tracker.store.bounds import from_json
from tracker.store.engine import Engine
from tracker.store.reach import Portion, Reach
from tracker.store.shape import Shape
from tracker.store.sql import ask

numbers = count()

Place = tuple[str, str]
UUID7, ULID = "018bcfe5-6800-7000-8000-0000000000", "01HF7YAT000000000000000"
"""The beginnings of ids with a time in them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all: opening the engine takes a second."""
    installation = Installation(tmp_path_factory.mktemp("folding"))
    yield installation
    installation.close()


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with so many messages that the engine judges what is plainly delivered."""
    monkeypatch.setattr(reach, "FEW", 0)


def tell(world: Installation, text: str, stories: Stories, vouched: bool) -> None:
    """Each story now, later, and cut in two somewhere; then all that is late is late."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(text.format(flow=promises.flow))
    beside = world.put(text.format(flow=f"{promises.flow}-beside")).flow
    told = _told(stories, promises.flow, world.now)
    for batch, wait in zip([*told, []], (25, 12, 200), strict=True):
        world.now += SECOND
        if vouched:
            _vouch(world, promises)
        promises.observe(batch)
        promises.observe(batch[:9])
        world.observe([structs.replace(e, flow=beside, digest="cc", reason="") for e in told[batch is told[0]][:200]])
        promises.pass_()
        world.now += wait * SECOND
        if vouched:
            _vouch(world, promises)
        promises.pass_()
    for flow in (promises.flow, beside):
        world.control.flows.delete(flow, world.now)


def _told(stories: Stories, flow: str, base: int) -> tuple[list[Event], list[Event]]:
    """What comes first, and what comes second; ids with a time in them are among them."""
    told: tuple[list[Event], list[Event]] = ([], [])
    for n, (name, events) in enumerate(stories.items()):
        for cut in sorted({0, n % (len(events) + 1), len(events)}):
            begin = ("", UUID7, ULID)[n % 3] if cut == 0 else ""
            ident = f"{begin}{n:02}"[:36] if begin == UUID7 else f"{begin}{n:03}" if begin else f"{flow} {name}/{cut}"
            for place, e in enumerate(events):
                told[place >= cut].append(_dated(e, flow, ident, base))
    return told


def _dated(e: Event, flow: str, ident: str, base: int) -> Event:
    moved = {
        name: base + value
        for name in ("observed_at", "observed_from", "origin_at")
        if (value := getattr(e, name)) is not None
    }
    return structs.replace(e, flow=flow, message_id=ident, **moved)


def _vouch(world: Installation, promises: Promises) -> None:
    places = [(hop, c.stage.value) for c in promises.newest.checkpoints for hop in c.hop]
    world.vouch([SourceRef(promises.flow, hop, stage, "s") for hop, stage in places], collector=promises.flow)


@pytest.mark.parametrize(("text", "stories"), [(RICH, rich()), (SAFE, safe())], ids=["rich", "safe"])
def test_what_is_kept_of_a_message(world: Installation, text: str, stories: Stories) -> None:
    """Column by column what the same fold in Python keeps; another flow with the same ids changes nothing, nor does it
    to do the pass again."""
    flow = f"fold{next(numbers)}"
    spec = world.put(text.format(flow=flow))
    other = world.put((RICH if text == SAFE else SAFE).format(flow=f"{flow}-beside"))
    parts, kept, told = _told(stories, flow, world.now), dict[str, dict[str, Any]](), set[str]()
    strangers = set[str]()
    for part, strange in (parts, reversed(parts)):
        world.now += SECOND
        beside = [structs.replace(e, flow=other.flow, reason="") for e in strange[:200]]
        world.observe([*part, *part[:9], *beside])
        number, before = world.run_pass().number, kept
        kept = _kept(world, flow)
        assert _rows(world, flow, number) == sum(row["pass"] == number for row in kept.values()), "one row for each"
        for ident in (i for i, row in kept.items() if row["pass"] == number):
            was = before.get(ident, {"verdict": "", "origin_at": 0})
            assert (kept[ident]["was"], kept[ident]["was_from"]) == (was["verdict"], was["origin_at"])
        told |= {e.message_id for e in part}
        strangers |= {e.message_id for e in beside}
        _equal_to_python(world, spec, told)
        _equal_to_python(world, other, strangers)
    found = {f.message_id for f in world.store.findings(flow=flow, limit=10_000)}
    assert {ident for ident, row in kept.items() if row["found"]} == found
    world.cut_short()
    world.run_pass()
    assert _kept(world, flow) == kept
    for name in (flow, other.flow):
        world.control.flows.delete(name, world.now)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with so few messages that flows are asked about together, and all is read out."""
    monkeypatch.setattr(reach, "FEW", 1_000_000)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("text", "stories"), [(RICH, rich()), (SAFE, safe())], ids=["rich", "safe"])
def test_what_is_kept_of_few(world: Installation, text: str, stories: Stories) -> None:
    """The same, when two flows are asked about at once."""
    test_what_is_kept_of_a_message(world, text, stories)


SAME = ("seen", "ranged", "hops", "kept", "gone", "marks", "observed", "received", "origin_at", "first_observed",
        "first_received", "produced_first", "produced_last")  # fmt: skip


def _equal_to_python(
    world: Installation, spec: FlowSpec, ids: Iterable[str], moved: Sequence[Range] = (), places: Sequence[Place] = ()
) -> None:
    """What is kept of these messages is what the Python fold makes of their events, and of ranges at `places`."""
    events, bits = world.store.events_of(spec.flow, list(ids), None), world.control.flows.bits(spec.flow)
    shape = Shape(spec, bits.checkpoints, bits.hops)
    known = {ident: some for ident, some in events.items() if any(e.hop in spec.hops for e in some)}
    wanted = {row["message_id"]: row for row in states(shape, known, moved, places).to_pylist()}
    kept = _kept(world, spec.flow)
    assert set(kept) == set(wanted)
    limits = {bit: c.at_most for i, c in enumerate(spec.checkpoints) for bit in shape.bits(i) if c.at_most}
    for ident, row in kept.items():
        other = wanted[ident]
        assert {name: row[name] for name in SAME} == {name: other[name] for name in SAME}, ident
        assert _per_bit(row["deliveries"], limits) == _per_bit(other["deliveries"], limits), ident
        assert _per_bit(row["nodes"], {}) == _per_bit(other["nodes"], {}), ident
        _counted(row)
        assert (min(row["digests"], default=0), max(row["digests"], default=0)) == (
            min(other["digests"], default=0), max(other["digests"], default=0)), ident  # fmt: skip


def _counted(row: dict[str, Any]) -> None:
    """A state remembers all that it counts as now, and counted as before this pass; nothing before its first."""
    assert row["counted"] == counted(row["counted_was"], row["verdict"], row["flags"])
    if row["was"]:
        assert row["counted_was"] == counted(row["counted_was"], row["was"])
    else:
        assert row["counted_was"] == 0


def _kept(world: Installation, flow: str) -> dict[str, dict[str, Any]]:
    sql = (
        f"SELECT * EXCEPT (origin_at, origin_was), toUnixTimestamp64Micro(origin_at) AS origin_at, "
        f"toUnixTimestamp64Micro(origin_was) AS was_from FROM {world.store.engine.database}.states FINAL "
        "WHERE flow = {flow:String} SETTINGS prefer_column_name_to_alias = 1"
    )
    rows = world.store.engine.rows(sql, {"flow": flow})
    sets = ("deliveries", "nodes", "digests")
    return {row["message_id"]: row | {name: sorted(row[name]) for name in sets} for row in rows}


def _rows(world: Installation, flow: str, number: int) -> int:
    table = f"{world.store.engine.database}.states"
    sql = f"SELECT count() AS n FROM {table} WHERE flow = {{flow:String}} AND pass = {{n:UInt64}}"
    return int(world.store.engine.rows(sql, {"flow": flow, "n": number})[0]["n"])


def _per_bit(tagged: Sequence[int], limits: dict[int, int]) -> dict[int, int]:
    """How many distinct values each bit has; of a bit that may have one, more are not told apart."""
    counts = Counter(value >> 58 for value in set(tagged))
    return {bit: min(count, 2) if limits.get(bit) == 1 else count for bit, count in counts.items()}


@pytest.mark.parametrize("vouched", [True, False], ids=["vouched for", "assumed"])
def test_every_way_to_go(world: Installation, vouched: bool) -> None:
    """Whatever is odd about a message, in whichever of two passes it comes."""
    tell(world, RICH, rich(), vouched)


def test_on_so_many_nodes(world: Installation) -> None:
    """Nodes are counted over alternatives, and an outbox holds a copy."""
    tell(world, SAFE, safe(), True)


def test_very_many_deliveries(world: Installation) -> None:
    """As many as are kept say nothing about how many there were: they are counted from the events."""
    text = PLAIN.replace("within: {within}s", "within: {within}s, at_most: 64").replace("{within}", "10")
    made = [at("shop:produce", 0), at("log:persist", 1)]
    acks = [at("billing:ack", 2, delivery=f"d{n}") for n in range(70)]
    tell(world, text, {f"{n}": [*made, *acks[:n]] for n in (63, 64, 65, 70)}, True)


@pytest.fixture
def in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow is folded a few messages at a time."""
    monkeypatch.setattr(folding, "PORTION", 5)


def test_versions(world: Installation) -> None:
    """A message is judged by the version in force at its origin, to the microsecond, whoever its neighbours are."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    world.now += 100 * SECOND
    promises.put(PLAIN.format(flow=promises.flow, within=3))
    base, events = world.now, list[Event]()
    for ident, shift in (("before", -1), ("at", 0), ("after", 1), ("long before", -9 * SECOND)):
        made = [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 5)]
        events += [_dated(e, promises.flow, ident, base + shift) for e in made]
        events += [_dated(e, promises.flow, f"{ident}, lacking", base + shift) for e in made[:2]]
        events += [_dated(e, promises.flow, f"{ident}, quick", base + shift) for e in [*made[:2], at("billing:ack", 2)]]
    _vouch(world, promises)
    for wait in (1, 4, 8, 60):
        world.now += wait * SECOND
        _vouch(world, promises)
        promises.observe(events)
        events = []
        promises.pass_()
    world.control.flows.delete(promises.flow, world.now)


def test_folded_before_a_version_asked_for_more(world: Installation) -> None:
    """By an origin from a clock that is ahead the new version judges who was folded without what it counts."""
    promises = Promises(world, f"fold{next(numbers)}")
    text = PLAIN.format(flow=promises.flow, within=10)
    promises.put(text)
    base, made = world.now, [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 2, delivery="first")]
    ahead = base + 60 * SECOND
    early = [structs.replace(_dated(e, promises.flow, "early", base), origin_at=ahead) for e in made]
    _vouch(world, promises)
    promises.observe(early)
    promises.pass_()
    world.now += 30 * SECOND
    promises.put(text.replace("within: 10s", "within: 10s, at_most: 1"))
    world.now += 60 * SECOND
    _vouch(world, promises)
    promises.observe([structs.replace(early[2], delivery="second")])
    promises.pass_()
    assert [state["flags"] for state in world.store.message_states(promises.flow)] == [["duplicated"]]
    world.control.flows.delete(promises.flow, world.now)


def test_nobody_made_it(world: Installation) -> None:
    """Where its production need not be seen, a message without it is delivered, and an orphan."""
    text = PLAIN.replace("stage: produce", "stage: produce, required: false").replace("{within}", "10")
    made = [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 2)]
    tell(world, text, {"orphan": made[1:], "whole": made}, True)


def test_found_and_then_delivered(world: Installation) -> None:
    """It was in time by its own clock and came late to us: nothing is wrong with it but that it was found."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    made = [_dated(at(place, n), promises.flow, "found", world.now)
            for n, place in enumerate(("shop:produce", "log:persist", "billing:ack"))]  # fmt: skip
    _vouch(world, promises)
    promises.observe(made[:2])
    promises.pass_()
    world.now += 60 * SECOND
    _vouch(world, promises)
    promises.pass_()
    assert [f.status for f in world.store.findings(flow=promises.flow)] == ["open"]
    world.now += SECOND
    promises.observe(made[2:])
    promises.pass_()
    assert [f.status for f in world.store.findings(flow=promises.flow)] != ["open"]
    world.control.flows.delete(promises.flow, world.now)


def test_moved_past_in_the_middle(world: Installation) -> None:
    """When that was, a range tells only roughly, and an event better: the reference says whether it was in time."""
    promises = Promises(world, f"fold{next(numbers)}")
    text = PLAIN.replace(
        "{{hop: billing,", "{{hop: mover, stage: deliver, after: log, within: 5s}}\n  - {{hop: billing,"
    )
    promises.put(text.replace("after: log, within: {within}s", "after: mover, within: 60s").format(flow=promises.flow))
    base = world.now
    for name, offset, took, seen in (("quick", 1, 1, []), ("slow", 2, 30, []), ("both", 3, 30, [20])):
        told = [at("billing:ack", 40), *(at("mover:deliver", when) for when in seen)]
        events = [*persisted(name, "p", offset), *told]
        promises.observe([_dated(e, promises.flow, name, base) for e in events])
        moved = Range(flow="", hop="mover", stage=Stage.deliver, log="log", partition="p", offset=offset,
                      offset_to=offset + 1, observed_from=SECOND, observed_at=(1 + took) * SECOND,
                      evidence="range")  # fmt: skip
        promises.move(_moved(base, promises.flow, moved))
    for wait in (50, 60, 600):
        world.now += wait * SECOND
        promises.pass_()
    world.control.flows.delete(promises.flow, world.now)


def persisted(name: str, partition: str, offset: int, place: str = "log:persist") -> list[Event]:
    """A message that lies in a log."""
    made = [at("shop:produce", 0), at(place, 1, partition=partition, offset=offset)]
    return [structs.replace(e, message_id=name) for e in made]


def _moved(base: int, flow: str, one: Range) -> Range:
    times = {"observed_from": base + one.observed_from, "observed_at": base + one.observed_at}
    return structs.replace(one, flow=flow, **times)


def commit(offset: int, until: int, seconds: float = 2, partition: str = "p", hop: str = "billing",
           log: str = "log") -> Range:  # fmt: skip
    """Somebody has moved past [offset, until)."""
    taken = round(seconds * SECOND)
    return Range(flow="", hop=hop, stage=Stage.ack, log=log, partition=partition, offset=offset, offset_to=until,
                 observed_from=taken - SECOND, observed_at=taken, evidence="range")  # fmt: skip


def read(world: Installation, steps: Sequence[tuple[list[Event], list[Range]]]) -> None:
    """What comes step by step, a pass after each; and then all that is late is late."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    _vouch_logs(world, promises)
    base = world.now
    for wait, (events, moved) in zip(
        [1] * len(steps) + [30, 300, 3000], [*steps, ([], []), ([], []), ([], [])], strict=True
    ):
        world.now += wait * SECOND
        _vouch_logs(world, promises)
        promises.observe([_dated(e, promises.flow, e.message_id, base) for e in events])
        for one in moved:
            promises.move(_moved(base, promises.flow, one))
        promises.pass_()
    world.control.flows.delete(promises.flow, world.now)


@pytest.mark.usefixtures("in_portions")
def test_ranges(world: Installation) -> None:
    """A commit acks what lies under it, whichever of the two comes first; not its neighbours."""
    first = [e for n in range(8) for e in persisted(f"p{n}", "p", n)]
    first += [e for n in range(3) for e in persisted(f"q{n}", "q", n)] + persisted("shop0", "p", 0, "shop:persist")
    elsewhere = [
        commit(0, 1, 2, "q"),
        commit(0, 3, log="mirror"),
        commit(0, 9, hop="mail"),
        structs.replace(commit(0, 9), stage=Stage.deliver),
    ]
    read(world, [
        (first, []),
        ([], [commit(2, 4)]),
        (persisted("late2", "p", 3) + persisted("late5", "p", 5), []),
        ([], [commit(4, 6, 30), commit(6, 6), *elsewhere]),
        (persisted("p0", "p", 0), [commit(1, 2, 2, "q"), commit(0, 1)]),
    ])  # fmt: skip


def test_positions_are_kept_of_flows_with_ranges(world: Installation) -> None:
    """Of all that lies in a log, from the first range on, also where that one comes late; of no other flow, stage or
    time, and where a pass is done again, of nothing that it did not know."""
    flow, other = (world.put(PLAIN.format(flow=f"fold{next(numbers)}", within=10)).flow for _ in range(2))

    def come(*ids: int) -> None:
        made = [e for n in ids for e in persisted(f"{n}", "p", n)]
        made += [structs.replace(at("log:persist", 3, partition="p", node="b"), message_id=f"{n}") for n in ids]
        for place, offset in (("log:replicate", 100), ("billing:ack", 0)):
            made += [structs.replace(at(place, 2, partition="p", offset=n + offset), message_id=f"{n}") for n in ids]
        world.observe([_dated(e, name, e.message_id, world.now) for name in (flow, other) for e in made])

    def passed() -> set[int]:
        world.now += SECOND
        world.run_pass()
        return kept()

    def kept() -> set[int]:
        asked = f"SELECT flow, hop, partition, offset, message_id FROM {world.store.engine.database}.positions"
        rows = [row for row in world.store.engine.rows(asked) if row["flow"] in (flow, other)]
        assert all((row["flow"], row["hop"]) == (flow, "log") for row in rows)
        assert all(int(row["message_id"]) == row["offset"] % 100 for row in rows)
        return {row["offset"] for row in rows}

    come(0, 1)
    assert passed() == set()
    come(2)
    assert passed() == set()
    world.move([_moved(world.now, flow, commit(0, 1))])
    come(3)
    assert passed() == {0, 1, 2, 3, 100, 101, 102, 103}
    come(4)
    assert passed() == {0, 1, 2, 3, 4, 100, 101, 102, 103, 104}
    world.cut_short()
    come(5)
    world.run_pass()
    assert kept() == {0, 1, 2, 3, 4, 100, 101, 102, 103, 104}
    assert passed() == {0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105}
    for name in (flow, other):
        world.control.flows.delete(name, world.now)


def test_what_is_kept_of_ranges(world: Installation) -> None:
    """Of whom nothing else is known at the shop, too, and whether the range or the place in the log comes first."""
    flow = f"fold{next(numbers)}"
    spec = world.put(PLAIN.format(flow=flow, within=10))
    base = world.now
    placed = [_dated(e, flow, f"{n}", base) for n in range(6) for e in persisted(f"{n}", "p", n)[1:]]
    moved = [_moved(base, flow, one) for one in (commit(0, 3), commit(2, 5, 4), commit(1, 2, 1))]
    over_two, in_two_places = persisted("", "p", 2)[1:], [*persisted("", "p", 0)[1:], *persisted("", "p", 4)[1:]]
    late = [_dated(e, flow, "over two", base) for e in over_two]
    late += [_dated(e, flow, "in two places", base) for e in in_two_places]
    late.append(_dated(structs.replace(over_two[0], stage=Stage.nack), flow, "never in the log", base))
    beside = world.put(PLAIN.format(flow=f"{flow}-beside", within=10)).flow
    world.observe([_dated(e, beside, "5", base) for e in persisted("", "p", 0)])
    for part, some in ((placed[:4], moved[:1]), (placed[4:], moved[1:2]), ([], moved[2:]), (late, [])):
        world.now += SECOND
        world.observe(part)
        world.move(some)
        moved = [structs.replace(one, received_at=world.now) if one in some else one for one in moved]
        world.run_pass()
    _equal_to_python(world, spec, {e.message_id for e in [*placed, *late]}, moved, [("billing", "ack")])
    for name in (flow, beside):
        world.control.flows.delete(name, world.now)


TWO_LOGS = """
flow: {flow}
checkpoints:
  - {{hop: log, stage: persist}}
  - {{hop: mirror, stage: replicate, after: log, within: 5s}}
  - {{hop: billing, stage: ack, after: log, within: 10s}}
"""


def test_places_of_two_logs_are_not_the_same(world: Installation) -> None:
    """They have a partition of one name, and offsets that count from 0 each."""
    flow = f"fold{next(numbers)}"
    spec = world.put(TWO_LOGS.format(flow=flow))
    places = {
        "a": ("log:persist", 6),
        "b": ("mirror:replicate", 1),
        "c": ("log:persist", 1),
        "d": ("mirror:replicate", 6),
        "e": ("log:persist", 6),
        "f": ("mirror:replicate", 1),
    }
    lying = [
        _dated(e, flow, name, world.now)
        for name, (place, offset) in places.items()
        for e in persisted(name, "p", offset, place)[1:]
    ]
    moved = [_moved(world.now, flow, one) for one in (commit(0, 3), commit(5, 8, 4, log="mirror"))]
    for part, some in ((lying[:2], []), ([], moved), (lying[2:], [])):
        world.now += SECOND
        world.observe(part)
        world.move(some)
        moved = [structs.replace(one, received_at=world.now) if one in some else one for one in moved]
        world.run_pass()
    _equal_to_python(world, spec, places, moved, [("billing", "ack")])
    world.control.flows.delete(flow, world.now)


def test_what_came_later_is_not_in_a_pass(world: Installation) -> None:
    """Neither an event nor a range, when it is done again: the next one takes them."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    _vouch_logs(world, promises)
    base, first = world.now, [e for n in range(4) for e in persisted(f"{n}", "p", n)]
    world.now += SECOND
    promises.move(_moved(base, promises.flow, commit(9, 10)))
    promises.pass_()
    world.now += SECOND
    promises.observe([_dated(e, promises.flow, e.message_id, base) for e in first])
    promises.pass_()
    left = promises.contents()
    world.cut_short()
    promises.move(_moved(base, promises.flow, commit(0, 2)))
    promises.observe([_dated(at("billing:ack", 2), promises.flow, "3", base)])
    world.run_pass()
    assert promises.contents() == left
    for wait in (1, 30):
        world.now += wait * SECOND
        _vouch_logs(world, promises)
        promises.pass_()
    world.control.flows.delete(promises.flow, world.now)


def test_ranges_over_ranges(world: Installation) -> None:
    """A commit within another, or told again from further back, hides nothing; the earliest that moved past counts."""
    first = [e for n in range(8) for e in persisted(f"p{n}", "p", n)]
    read(world, [
        ([], [commit(0, 10, 4), commit(2, 4, 3), commit(5, 6, 30)]),
        (first, []),
        (persisted("late7", "p", 7) + persisted("late5", "p", 5), [commit(0, 6, 3)]),
    ])  # fmt: skip


def test_ranges_far_apart(world: Installation) -> None:
    """Of two that are told of at once, both count; of one in another partition, or that is empty, nothing else does."""
    first = [e for n in range(9) for e in persisted(f"p{n}", "p", n)]
    read(world, [
        (first + persisted("q0", "q", 0) + persisted("q5", "q", 5), []),
        ([], [commit(0, 2), commit(6, 8, 3), commit(4, 4), commit(5, 6, 3, partition="q")]),
        ([], [commit(8, 9, 4), commit(3, 4, 4)]),
        (persisted("p3a", "p", 3) + persisted("p7a", "p", 7) + persisted("q1", "q", 1), []),
    ])  # fmt: skip


def gone(offset: int, until: int, hop: str = "log", reason: str = "expired", seconds: float = 2, **more: Any) -> Range:
    """What lay in [offset, until) is there no more; at a consumer's hop it was passed over unread."""
    return structs.replace(commit(offset, until, seconds, hop=hop, **more), stage=Stage.drop, reason=reason)


def test_dropped_ranges(world: Installation) -> None:
    """What lay there is lost, or was skipped, whichever of the two comes first; not its neighbours, nor what lies in
    another log, or was dropped at a hop that nobody names."""
    first = [e for n in range(8) for e in persisted(f"p{n}", "p", n)]
    first += [e for n in range(3) for e in persisted(f"q{n}", "q", n)] + persisted("shop0", "p", 0, "shop:persist")
    elsewhere = [
        gone(0, 9, log="mirror"),
        gone(0, 9, hop="mail"),
        gone(0, 1, partition="q", hop="mirror", log="mirror"),
    ]
    acked = structs.replace(at("billing:ack", 2), message_id="p1")
    read(world, [
        (first, []),
        ([acked], [gone(1, 3), *elsewhere]),
        (persisted("late2", "p", 2) + persisted("late6", "p", 6), []),
        ([], [gone(5, 7, "billing", "skipped", 30), gone(6, 6)]),
        (persisted("p1", "q", 7) + persisted("p2", "q", 8),
         [gone(7, 8, reason="compacted"), gone(7, 8, partition="q")]),
    ])  # fmt: skip


@pytest.mark.usefixtures("in_portions")
def test_a_flow_whose_first_range_is_a_drop(world: Installation) -> None:
    """All that lies in the log is known by its place from then on; what was dropped before it came is dropped."""
    first = [e for n in range(4) for e in persisted(f"p{n}", "p", n)]
    read(world, [
        (first, []),
        ([], [gone(0, 2, "billing", "skipped")]),
        ([], [commit(2, 3), gone(6, 9)]),
        (persisted("p6", "p", 6), []),
    ])  # fmt: skip


def test_moved_past_and_skipped(world: Installation) -> None:
    """Of two that tell of the same commit the one that saw that nobody read counts; read again later, it is read."""
    first = [e for n in range(8) for e in persisted(f"p{n}", "p", n)]
    read(world, [
        (first, [commit(0, 4)]),
        ([], [gone(2, 6, "billing", "skipped")]),
        ([], [commit(0, 6)]),
        ([], [commit(3, 5, 40), structs.replace(commit(0, 8), group="other")]),
    ])  # fmt: skip


def test_what_is_kept_of_dropped_ranges(world: Installation) -> None:
    """What a drop of each message would leave, whether the range or the place in the log comes first; of messages at
    hops that the flow does not name, nothing."""
    flow = f"fold{next(numbers)}"
    spec = world.put(PLAIN.format(flow=flow, within=10))
    placed = [_dated(e, flow, f"{n}", world.now) for n in range(6) for e in persisted(f"{n}", "p", n)[1:]]
    strange = structs.replace(at("elsewhere:persist", 1, partition="p", offset=1), message_id="strange")
    moved = [gone(0, 3), gone(2, 5, "billing", "skipped", 4), commit(1, 2, 1), gone(0, 9, "billing", log="elsewhere")]
    moved = [_moved(world.now, flow, one) for one in moved]
    for part, some in ((placed[:4], moved[:1]), (placed[4:], moved[1:]), ([_dated(strange, flow, "s", world.now)], [])):
        world.now += SECOND
        world.observe(part)
        world.move(some)
        moved = [structs.replace(one, received_at=world.now) if one in some else one for one in moved]
        world.run_pass()
    _equal_to_python(world, spec, {e.message_id for e in placed}, moved, [("billing", "ack")])
    world.control.flows.delete(flow, world.now)


def test_a_dropped_range_in_a_pass_that_is_done_again(world: Installation) -> None:
    """It leaves the same rows, and takes nothing that came since."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    _vouch_logs(world, promises)
    base, first = world.now, [e for n in range(4) for e in persisted(f"{n}", "p", n)]
    world.now += SECOND
    promises.observe([_dated(e, promises.flow, e.message_id, base) for e in first])
    promises.move(_moved(base, promises.flow, gone(0, 2)))
    promises.pass_()
    left = promises.contents()
    world.cut_short()
    promises.move(_moved(base, promises.flow, gone(2, 4)))
    world.run_pass()
    assert promises.contents() == left
    promises.pass_()
    assert [f.kind for f in world.store.findings(flow=promises.flow)] == ["lost"] * 4
    world.control.flows.delete(promises.flow, world.now)


@pytest.mark.parametrize("told", [gone(0, 2), commit(0, 2)], ids=["dropped", "moved past"])
def test_ranges_over_what_a_version_adds(world: Installation, told: Range) -> None:
    """A message that was seen only at a hop which the flow did not name yet, and lies in a range that was told then."""
    flow = f"fold{next(numbers)}"
    before = PLAIN.replace("  - {{hop: log, stage: persist, after: shop, within: 5s}}\n", "").replace(
        "after: log", "after: shop"
    )
    world.put(before.format(flow=flow, within=10))
    lying = [structs.replace(e, message_id=f"{n}") for n in range(3) for e in persisted("", "p", n)[1:]]
    base = world.now
    ahead = [structs.replace(_dated(e, flow, e.message_id, base), origin_at=base + 60 * SECOND) for e in lying]
    world.observe([*ahead, _dated(at("shop:produce", 0), flow, "somebody", base)])
    world.move([_moved(base, flow, told)])
    world.now += SECOND
    world.run_pass()
    world.now += SECOND
    spec = world.put(PLAIN.format(flow=flow, within=10))
    places = [SourceRef(flow, "log", "persist", "s"), SourceRef(flow, "billing", "ack", "s", "range")]
    world.vouch(places, collector=flow)
    world.run_pass()
    seen = {row["message_id"]: (row["verdict"], row["marks"], row["ranged"]) for row in _kept(world, flow).values()}
    touched = {ident for ident, (_, marks, ranged) in seen.items() if marks or ranged}
    assert touched == {"0", "1"}, (seen, spec)
    world.control.flows.delete(flow, world.now)


def test_what_ranges_span(world: Installation) -> None:
    """Only what is new of this flow, hop and stage, and what was newly persisted in a log that somebody reads: a wider
    span would say the same, and cost more."""
    flow, other = (world.put(PLAIN.format(flow=f"fold{next(numbers)}", within=10)) for _ in range(2))
    told = {(flow.flow, "billing", Stage.ack)}
    told |= {
        (f, h, s) for f in (flow.flow, other.flow) for h in ("billing", "shop") for s in (Stage.ack, Stage.deliver)
    }

    def move(begin: int, end: int, partition: str, places: Iterable[tuple[str, str, Stage]] = told) -> None:
        world.move([structs.replace(commit(begin, end, partition=partition), flow=f, hop=h, stage=s,
                                    observed_from=world.now, observed_at=world.now) for f, h, s in places])  # fmt: skip

    def persist(ident: str, offset: int, partition: str, hop: str = "log", stage: str = "persist") -> None:
        for spec, further in ((flow, 0), (other, 50)):
            seen = at(f"{hop}:{stage}", 1, partition=partition, offset=offset + further)
            world.observe([_dated(seen, spec.flow, ident, world.now)])

    mine = [(flow.flow, "billing", Stage.ack)]
    others = sorted(told - {*mine})
    move(0, 5, "p")
    move(0, 1, "q")
    persist("m1", 1, "q")
    world.run_pass()
    last = world.control.passes.last_finished()
    assert last is not None
    before, world.now = from_json(last.bounds), world.now + SECOND
    move(10, 20, "p", mine)
    move(30, 40, "p", mine)
    move(500, 500, "p", mine)
    move(0, 900, "p", others)
    move(0, 900, "r", others)
    for ident, offset, partition in (
        ("m2", 9, "q"),
        ("m3", 7, "q"),
        ("m4", 3, "r"),
        ("m9", 60, "q"),
        ("m5", 4, "late"),
    ):
        persist(ident, offset, partition)
    persist("m6", 100, "q", stage="deliver")
    world.observe([_dated(at("log:persist", 1, partition="q"), flow.flow, "m7", world.now)])
    bounds = before.next(world.store.stored_since(before), last.started_at, 1 << 40)
    world.now += SECOND
    move(0, 1000, "p", mine)
    move(0, 1000, "late", mine)
    persist("m2", 0, "q")
    reach = Reach(Shape(flow, {("billing", "ack"): 2}, {"log": 0}), bounds, 9, world.now, 9, True)
    asked = ask("range_spans", world.store.engine.database, new_since=reach.new, placed=reach.new,
                until=bounds.known(), slice="message_id < 'm8'")  # fmt: skip
    found = world.store.engine.rows(asked, reach.parameters | {"hop": "billing", "stage": "ack"})
    assert sorted(tuple(row.values()) for row in found) == [("log", "p", 10, 40), ("log", "q", 7, 10)]
    world.run_pass()
    for spec in (flow, other):
        world.control.flows.delete(spec.flow, world.now)


def _vouch_logs(world: Installation, promises: Promises) -> None:
    """Messages are seen at the shop and in the log; of those who read it, ranges."""
    sources = [SourceRef(promises.flow, hop, stage, "s") for hop, stage in (("shop", "produce"), ("log", "persist"))]
    ranged = SourceRef(promises.flow, "billing", "ack", "s", "range")
    world.vouch([*sources, ranged], collector=promises.flow)


@pytest.mark.usefixtures("in_portions")
def test_a_range_over_many_is_folded_in_portions(world: Installation) -> None:
    """The first commit that is told of may lie over all that the log holds: that must not be in memory at once."""
    flow = f"fold{next(numbers)}"
    spec = world.put(PLAIN.format(flow=flow, within=10))
    world.observe([structs.replace(e, flow=flow, message_id=f"m{n:03}", observed_at=world.now)
                   for n in range(60) for e in persisted(f"m{n:03}", "p", n)])  # fmt: skip
    world.run_pass()
    cut = list[int]()
    portions = folding.Folding.portions

    def counted(self: folding.Folding, reach: Reach) -> list[Portion]:
        made = portions(self, reach)
        cut.append(len(made))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.store), "portions", counted)
        world.now += SECOND
        world.move([structs.replace(commit(0, 60), flow=flow, observed_from=world.now, observed_at=world.now)])
        assert world.run_pass().messages == 60
    assert max(cut) >= 6
    world.control.flows.delete(spec.flow, world.now)


def test_only_new_ranges_that_count_move_a_flow(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once drops were told of, too: commits that come with every pass, where single messages are vouched for, have
    nobody count messages before they are folded."""
    flow = f"fold{next(numbers)}"
    world.put(PLAIN.format(flow=flow, within=10))
    place = SourceRef(flow, "billing", "ack", "s")
    moved = list[bool]()
    portions = folding.Folding.portions

    def noted(self: folding.Folding, reach: Reach) -> list[Portion]:
        moved.append(reach.moved)
        return portions(self, reach)

    monkeypatch.setattr(type(world.store), "portions", noted)
    for told in ([gone(0, 3)], [commit(3, 4)], [], [gone(4, 5, "elsewhere")], [gone(5, 6)], [commit(6, 7, hop="mail")]):
        world.now += SECOND
        world.vouch([place], collector=flow)
        name = f"m{world.now}"
        world.observe([_dated(e, flow, name, world.now) for e in persisted(name, "p", 9)])
        world.move([_moved(world.now, flow, one) for one in told])
        world.run_pass()
    assert moved == [True, False, False, False, True, False]
    world.control.flows.delete(flow, world.now)


@pytest.mark.usefixtures("in_portions")
def test_merges_go_on_after_a_pass_that_failed(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are not merged while portions are written, and always are afterwards."""
    flow = f"fold{next(numbers)}"
    world.put(PLAIN.format(flow=flow, within=10))
    made = [f"m{n:02}" for n in range(40)]
    world.observe([structs.replace(e, flow=flow, message_id=ident) for ident in made for e in persisted(ident, "p", 1)])
    said, command, folds = list[str](), Engine.command, count(1)

    def heard(self: Engine, text: str, *rest: Any) -> Any:
        if text.startswith("SYSTEM"):
            said.append(text)
        return command(self, text, *rest)

    def failing(*_: Any) -> Any:
        assert next(folds) < 3
        return 0, pa.table({})

    monkeypatch.setattr(Engine, "command", heard)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.store), "fold", failing)
        with pytest.raises(AssertionError):
            world.run_pass()
    states = f"{world.store.engine.database}.states"
    assert said == [f"SYSTEM STOP MERGES {states}", f"SYSTEM START MERGES {states}"]
    assert world.run_pass().messages == len(made)
    assert said[2:] == said[:2]
    monkeypatch.setattr(folding, "UNMERGED", -1)
    world.cut_short()
    world.run_pass()
    assert len(said) == 4, "too many parts: they are merged all the while"
    world.control.flows.delete(flow, world.now)


def _verdicts(world: Installation, flow: str) -> set[str]:
    return {state["verdict"] for state in world.store.message_states(flow, limit=1000)}


def test_known_to_one_flow_alone(world: Installation) -> None:
    """What was seen of a message before counts, whatever other flows know."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    base = world.now
    for event in whole():
        promises.observe([_dated(event, promises.flow, f"alone in {promises.flow}", base)])
        promises.pass_()
        world.now += SECOND
    assert _verdicts(world, promises.flow) == {"delivered"}
    world.control.flows.delete(promises.flow, world.now)


@pytest.mark.usefixtures("in_portions")
def test_who_waits(world: Installation) -> None:
    """Timers fire at their microsecond and once; the blind are judged again when coverage leaps, and nobody else is;
    another flow with the same ids changes nothing."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    beside = world.put(PLAIN.format(flow=f"{promises.flow}-beside", within=10)).flow
    _vouch(world, promises)
    base = world.now
    made = [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 2)]
    ends = {"lost": 1, "stuck": 2, "gone": 1, "left": 2, "fine": 3, "done": 3}
    promises.observe([_dated(e, promises.flow, name, base) for name, end in ends.items() for e in made[:end]])
    deadlines = [0, 5 * SECOND - 1, 5 * SECOND, 5 * SECOND + 9, 10 * SECOND, 15 * SECOND, 40 * SECOND]
    for vouched, begin in ((True, 0), (False, 60 * SECOND)):
        late = [
            _dated(e, promises.flow, f"{name}{begin}", base + begin) for name, end in ends.items() for e in made[:end]
        ]
        for n, moment in enumerate(deadlines):
            world.now = max(base + begin + moment, world.now + 1)
            if vouched:
                _vouch(world, promises)
            if n == 0:
                promises.observe(late)
            if n < 2:  # waits, and no more when its timer fires
                promises.observe([_dated(e, promises.flow, f"quick{begin}", base + begin) for e in made[n : 2 * n + 1]])
            if n == 3:
                promises.observe(late[-1:])  # so that there is a pass
            if n in (2, 4):
                world.observe([_dated(e, beside, f"{name}{begin}", base) for name in ends for e in made])
            promises.pass_()
            promises.nothing_more()
    world.now += SECOND
    promises.observe([_dated(made[2], promises.flow, "stuck60000000", base)])
    world.observe([_dated(e, beside, f"{name}{60 * SECOND}", base) for name in ends for e in made])
    promises.pass_()
    assert "blind" in _verdicts(world, promises.flow)
    _vouch(world, promises)
    world.observe(
        [_dated(e, beside, f"{name}{begin}", base) for name in ends for begin in (0, 60 * SECOND) for e in made]
    )
    promises.pass_()
    assert "blind" not in _verdicts(world, promises.flow)
    for wait in (60, 6000):
        world.now += wait * SECOND
        promises.pass_()
    for flow in (promises.flow, beside):
        world.control.flows.delete(flow, world.now)


@pytest.mark.usefixtures("in_portions")
def test_a_silent_place_is_heard_again(world: Installation) -> None:
    """What is assumed to be covered was not while it was silent: who was blind for that is judged when it speaks."""
    promises = Promises(world, f"fold{next(numbers)}")
    promises.put(PLAIN.format(flow=promises.flow, within=10))
    made = [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 2)]
    promises.observe([_dated(e, promises.flow, "before", world.now) for e in made])
    promises.pass_()
    world.now += 20 * 60 * SECOND
    promises.observe([_dated(e, promises.flow, "waits", world.now) for e in made[:2]])
    world.now += 20 * SECOND
    promises.pass_()
    assert promises.said["waits"].judgement.verdict == "blind"
    world.now += SECOND
    promises.observe([_dated(e, promises.flow, "after", world.now - 3 * SECOND) for e in made])
    promises.pass_()
    assert promises.said["waits"].judgement.verdict == "unacknowledged"
    world.control.flows.delete(promises.flow, world.now)


@pytest.mark.usefixtures("at_once")
def test_few_that_wait(world: Installation) -> None:
    """The same, of two flows that are asked about at once."""
    test_who_waits(world)
    test_a_silent_place_is_heard_again(world)


def test_flows_are_asked_about_in_groups(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that a question stays short, and its answer, too; each has its own verdicts."""
    flows = [f"group{next(numbers)}-{n}" for n in range(9)]
    for within, flow in enumerate(flows, 2):
        world.put(PLAIN.format(flow=flow, within=within))
    made = [at("shop:produce", 0), at("log:persist", 1)]
    groups, ask = list[int](), folding.Folding._fold_together

    def noted(self: folding.Folding, reaches: Sequence[Reach]) -> pa.Table:
        groups.append(len(reaches))
        return ask(self, reaches)

    monkeypatch.setattr(folding.Folding, "_fold_together", noted)
    for rows, names in ((50, handful.MOST), (1_000_000, 300)):
        monkeypatch.setattr(reach, "FEW", rows)
        monkeypatch.setattr(reach, "MOST", names)
        groups.clear()
        world.observe([_dated(e, flow, f"{n}-{rows}", world.now) for flow in flows for n in range(10) for e in made])
        world.run_pass()
        assert sum(groups) == len(flows)
        assert 1 < max(groups) < len(flows)
    for flow in flows:
        assert len(world.store.message_states(flow, limit=1000)) == 20
        world.control.flows.delete(flow, world.now)


def test_who_is_unclear(world: Installation) -> None:
    """The blind and those that wait for something they lack, of the flows asked for, if they were due late enough."""
    flows = [f"fold{next(numbers)}" for _ in range(3)]
    for flow, within in zip(flows, (10, 20, 10), strict=True):
        world.put(PLAIN.format(flow=flow, within=within))
    base, made = world.now, [at("shop:produce", 0), at("log:persist", 1)]
    told = {"lost": made[:1], "stuck": made}  # billing is never heard of
    world.observe([_dated(e, flow, name, base) for flow in flows for name, some in told.items() for e in some])
    world.run_pass()
    longest = {flow: load_spec(PLAIN.format(flow=flow, within=within)).paths.longest
               for flow, within in zip(flows[:2], (10, 20), strict=True)}  # fmt: skip
    unclear = world.store.unclear
    assert unclear(dict.fromkeys(longest, 0), longest) == {}, "in flight"
    world.now += 1000 * SECOND
    world.run_pass()
    assert _verdicts(world, flows[0]) == {"blind", "lost"}
    latest = {flow: base + longest[flow] for flow in longest}  # they were received at `base`
    assert unclear(dict.fromkeys(longest, 0), longest) == dict.fromkeys(longest, 2)
    assert unclear(latest, longest) == dict.fromkeys(longest, 2)
    assert unclear(latest | {flows[0]: latest[flows[0]] + 1}, longest) == {flows[1]: 2}
    assert unclear({}, {}) == {}
    for flow in flows:
        world.control.flows.delete(flow, world.now)


def test_hops_that_a_version_adds(world: Installation) -> None:
    """Who was seen only there is folded with the pass after; whoever has a state keeps it."""
    promises, other = (Promises(world, f"fold{next(numbers)}") for _ in range(2))
    text = PLAIN.format(flow=promises.flow, within=10)
    promises.put(text)
    other.put(PLAIN.format(flow=other.flow, within=10))
    base = world.now
    world.observe(
        [_dated(at(place, 0), flow, f"{ident} in {promises.flow}", base)
         for flow, ident, place in (
             (promises.flow, "known", "shop:produce"), (promises.flow, "known", "store:produce"),
             (promises.flow, "strange", "store:produce"), (promises.flow, "foreign", "elsewhere:produce"),
             (other.flow, "strange", "shop:produce"), (other.flow, "beside", "store:produce"))]
    )  # fmt: skip
    world.run_pass()
    known = _kept(world, promises.flow)
    assert set(known) == {f"known in {promises.flow}"}
    world.now += SECOND
    world.put(text.replace("hop: shop", "hop: [shop, store]"))
    world.run_pass()
    kept = _kept(world, promises.flow)
    assert set(kept) == {f"known in {promises.flow}", f"strange in {promises.flow}"}
    assert {ident: kept[ident] for ident in known} == known
    assert set(_kept(world, other.flow)) == {f"strange in {promises.flow}"}
    for flow in (promises.flow, other.flow):
        world.control.flows.delete(flow, world.now)


@pytest.mark.usefixtures("in_portions")
def test_who_was_away(world: Installation) -> None:
    """A flow is deleted and put again: what came meanwhile, and what came due, is judged when it is back; and nobody
    waits for what has come already."""
    promises = Promises(world, f"fold{next(numbers)}")
    text = PLAIN.format(flow=promises.flow, within=10)
    promises.put(text)
    _vouch(world, promises)
    base, made = world.now, [at("shop:produce", 0), at("log:persist", 1), at("billing:ack", 2)]
    for cut in (0, 1):
        promises.observe([_dated(e, promises.flow, f"{n}", base) for n in range(1, 4) for e in made[cut:n]])
        promises.pass_()
    world.control.flows.delete(promises.flow, world.now)
    promises.observe([_dated(e, promises.flow, name, base) for name in ("unseen", "unheard") for e in made[:2]])
    for wait in (1, 60):
        world.now += wait * SECOND
        _vouch(world, promises)
        world.run_pass()
    promises.come_back(text)
    for wait in (1, 60, 600):
        world.now += wait * SECOND
        promises.pass_()
        promises.nothing_more()
    world.control.flows.delete(promises.flow, world.now)
