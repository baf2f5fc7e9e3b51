"""What a statement says of a real ledger: every number held against what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from tests.world.installation import T0, Installation
from tracker.control.errors import Conflict
from tracker.model import chain
from tracker.model import statement as statements
from tracker.model.coverage import SourceRef
from tracker.model.errors import Invalid, Unavailable
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile import Reconciler
from tracker.reconcile import statement as made
from tracker.store.exceptions import Asked, row_cursor

SPEC = """flow: {flow}
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: log, stage: persist, after: checkout, within: 5s}}
  - {{hop: billing, stage: ack, after: log, within: 10s}}
"""
DAY = 86_400 * SECOND
ODD = ["ü", "a'b", 'a"b', "a\\b", "a\nb", "a\tb", "{x}", "a:b", "12:a", "%", " ", "𝄞", "a|b"]
"""Ids that a query, a JSON text or a digest might get wrong."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation; each test has a flow of its own."""
    installation = Installation(tmp_path_factory.mktemp("statements"))
    yield installation
    installation.close()


@pytest.fixture
def spec(world: Installation, request: pytest.FixtureRequest) -> FlowSpec:
    """A flow named after the test."""
    return world.put(SPEC.format(flow=request.node.name[5:60].replace("_", "-")))


def way(flow: str, message_id: str, at: int, *places: str) -> list[Event]:
    """The message at `checkout:produce`, `log:persist` and so on, a second apart."""
    return [
        Event(flow=flow, message_id=message_id, hop=hop, stage=Stage(stage), observed_at=at + n * SECOND, offset=n)
        for n, (hop, _, stage) in enumerate(place.partition(":") for place in places)
    ]


def begin(world: Installation, spec: FlowSpec) -> int:
    """A new day; from now on all of the flow's hops are vouched for."""
    world.now += DAY
    vouch(world, spec)
    return world.now


def vouch(world: Installation, spec: FlowSpec) -> None:
    """Everything that happened until now was reported."""
    places = [(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop]
    world.vouch([SourceRef(spec.flow, hop, stage, "s") for hop, stage in places], collector=spec.flow)


def later(world: Installation, spec: FlowSpec, seconds: int = 60) -> None:
    """Time goes by, and a pass looks."""
    world.now += seconds * SECOND
    vouch(world, spec)
    world.run_pass()


WHOLE = ("checkout:produce", "log:persist", "billing:ack")


def of(world: Installation, spec: FlowSpec, start: int, end: int) -> dict[str, Any]:
    """The statement on a span, held against its own sums."""
    said = made.statement(world.store, world.control, spec, start, end)
    sealed = said | {"key": "0" * 16, "made_at": said["as_of"], "made_by": "", "number": 1, "previous": chain.ORIGIN}
    document = statements.Document(sealed, chain.link(chain.ORIGIN, sealed), "", "")
    assert statements.faults(document, statements.read(msgspec.json.encode(document))[1]) == []
    return said


def rows(said: dict[str, Any], *names: str) -> list[tuple[str, ...]]:
    """Its exceptions, cut to these fields."""
    return [tuple(row[name] for name in names) for row in said["exceptions"]["listed"]]


def test_every_message_that_is_not_delivered_is_listed_by_name(world: Installation, spec: FlowSpec) -> None:
    """With hop, kind and status; ids are told apart and shown as they are, and the digest is that of Python."""
    begun = begin(world, spec)
    for message_id in ODD:
        world.observe(way(spec.flow, message_id, begun, *WHOLE[:2]))
        world.observe(way(spec.flow, message_id + "!", begun, *WHOLE))
    later(world, spec)
    said = of(world, spec, begun - DAY, begun + SECOND)
    assert (said["produced"], said["delivered"], said["conserved"], said["settled"]) == (26, 13, True, True)
    assert sorted(rows(said, "message_id")) == sorted((message_id,) for message_id in ODD)
    assert set(rows(said, "hop", "stage", "kind", "status")) == {("billing", "ack", "unacknowledged", "open")}


def test_a_message_in_flight_leaves_a_span_open(world: Installation, spec: FlowSpec) -> None:
    """It is listed by its verdict, and the statement calls itself not settled; so does one of a span not over yet."""
    begun = begin(world, spec)
    world.observe(way(spec.flow, "waits", begun, *WHOLE[:2]))
    world.run_pass()
    said = of(world, spec, begun - 1, begun)
    assert (said["produced"], said["settled"], rows(said, "kind", "status")) == (0, True, [])
    said = of(world, spec, begun, begun + 1)
    assert (said["settled"], rows(said, "message_id", "hop", "kind")) == (False, [("waits", "", "in_flight")])
    later(world, spec)
    assert of(world, spec, begun, world.now + SECOND)["settled"] is False
    assert of(world, spec, begun, world.now)["settled"] is True


def test_a_finding_stays_on_the_list_after_it_recovered(world: Installation, spec: FlowSpec) -> None:
    """Delivered in the end, and yet something had happened to it."""
    begun = begin(world, spec)
    world.observe(way(spec.flow, "late", begun, *WHOLE[:2]))
    later(world, spec)
    world.now += SECOND
    world.observe(way(spec.flow, "late", world.now, "billing:ack"))
    later(world, spec)
    said = of(world, spec, begun, world.now)
    assert rows(said, "verdict", "kind", "status") == [("late", "unacknowledged", "recovered")]


def test_a_pass_under_way_changes_nothing_that_is_stated(
    world: Installation, spec: FlowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts and findings that it has written already are those of the pass before it."""
    begun = begin(world, spec)
    world.observe([*way(spec.flow, "a", begun, *WHOLE[:2]), *way(spec.flow, "b", begun, *WHOLE[:2])])
    world.run_pass()
    before = of(world, spec, begun, begun + SECOND)
    world.now += 60 * SECOND
    vouch(world, spec)
    world.observe(way(spec.flow, "a", begun + SECOND, "billing:ack"))
    monkeypatch.setattr(Reconciler, "_finish", lambda *_: None)
    world.run_pass()
    assert of(world, spec, begun, begun + SECOND) == before
    monkeypatch.undo()
    world.restarted()
    world.run_pass()
    after = of(world, spec, begun, begun + SECOND)
    assert (before["verdicts"], after["verdicts"]) == ({"in_flight": 2}, {"delivered": 1, "unacknowledged": 1})
    assert after["pass"] > before["pass"]


def test_pages_of_exceptions_are_one_list(world: Installation, spec: FlowSpec) -> None:
    """Page after page gives each once, in one order; a message with several findings may lie on two pages."""
    begun = begin(world, spec)
    for n in range(7):
        world.observe(way(spec.flow, f"m-{n}", begun, "checkout:produce"))
    later(world, spec)
    last = world.control.passes.last_finished()
    assert last is not None
    asked = Asked(spec.flow, begun, begun + SECOND, last.number, last.started_at)
    every = world.store.exceptions(asked)
    assert every is not None
    assert len(every) == 14  # log and billing, each
    assert _paged(world, asked, 3) == every
    with pytest.raises(Invalid, match="cursor"):
        world.store.exceptions(asked, "m-1")


def _paged(world: Installation, asked: Asked, limit: int) -> Sequence[dict[str, str]]:
    found: list[dict[str, str]] = []
    while page := world.store.exceptions(asked, row_cursor(found[-1]) if found else "", limit):
        found += page
    return found


def test_what_two_passes_have_overtaken_is_not_told(world: Installation, spec: FlowSpec) -> None:
    """Nobody knows any more what the older pass left of those messages; of others it is still known."""
    begun = begin(world, spec)
    world.observe([*way(spec.flow, "a", begun, *WHOLE[:2]), *way(spec.flow, "b", begun + 5 * SECOND, *WHOLE[:2])])
    later(world, spec)
    last = world.control.passes.last_finished()
    assert last is not None
    both = Asked(spec.flow, begun, begun + 6 * SECOND, last.number, last.started_at)
    only_b = msgspec.structs.replace(both, start=begun + SECOND)
    before, totals = world.store.exceptions(both), world.store.exception_totals(both)
    world.observe(way(spec.flow, "a", world.now, "billing:ack"))
    later(world, spec)
    assert (world.store.exceptions(both), world.store.exception_totals(both)) == (before, totals)
    world.observe(way(spec.flow, "a", world.now, "log:persist"))
    later(world, spec)
    assert (world.store.exceptions(both), world.store.exception_totals(both)) == (None, None)
    assert [row["message_id"] for row in world.store.exceptions(only_b) or ()] == ["b"]


def test_a_span_that_never_rests_is_given_up(
    world: Installation, spec: FlowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries the answer says what to do; nothing half true is stated."""
    world.observe(way(spec.flow, "m-1", begin(world, spec), *WHOLE))
    assert world.run_pass().number
    monkeypatch.setattr(world.store, "exception_totals", lambda asked: None)
    with pytest.raises(Unavailable, match="end it earlier"):
        made.statement(world.store, world.control, spec, T0, T0 + 1)


def test_more_exceptions_than_are_listed_are_counted_and_covered(
    world: Installation, spec: FlowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document stays small; the digest is over all, so that the rest can be held against it."""
    monkeypatch.setattr(made, "LISTED", 3)
    monkeypatch.setattr(statements, "LISTED", 3)
    begun = begin(world, spec)
    for n in range(5):
        world.observe(way(spec.flow, f"m-{n}", begun, *WHOLE[:2]))
    later(world, spec)
    said = of(world, spec, begun, begun + SECOND)
    assert (said["exceptions"]["total"], len(said["exceptions"]["listed"])) == (5, 3)
    last = world.control.passes.last_finished()
    assert last is not None
    every = world.store.exceptions(Asked(spec.flow, begun, begun + SECOND, last.number, last.started_at))
    assert every is not None
    assert statements.digest(every) == said["exceptions"]["digest"]


def test_the_spec_versions_that_judged_are_named(world: Installation, spec: FlowSpec) -> None:
    """Those in force for some origin of the span, and no others."""
    first = begin(world, spec)
    world.run_pass()
    world.put(SPEC.format(flow=spec.flow).replace("10s", "20s"))
    world.observe(way(spec.flow, "m", first, *WHOLE))
    later(world, spec)
    spans = ((first - DAY, first), (first - 1, first + 1), (first, first + 1))
    told = [[one["version"] for one in of(world, spec, *span)["specs"]] for span in spans]
    assert told == [[1], [1, 2], [2]]


def test_before_the_first_pass_nothing_can_be_stated(
    world: Installation, spec: FlowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty book is not a statement that nothing was sent."""
    monkeypatch.setattr(world.control.passes, "last_finished", lambda: None)
    with pytest.raises(Conflict, match="no pass"):
        made.statement(world.store, world.control, spec, T0, T0 + 1)
