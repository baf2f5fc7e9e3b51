"""Findings become incidents on the real engine: one page for what belongs together, again when it comes again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from tests.world.installation import Installation
from tracker.control.incidents import Incident
from tracker.control.rulings import of_incident
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile.incidents import GAP
from tracker.replay.ledger import statuses
from tracker.replay.routes import Missing
from tracker.store.findings import Finding

SPEC = """flow: {flow}
owner: team
checkpoints:
  - {{hop: log, stage: persist}}
  - {{hop: mirror, stage: replicate, after: log, within: 5s, same_payload: true}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation; each test has a flow of its own."""
    installation = Installation(tmp_path_factory.mktemp("incidents"))
    yield installation
    installation.close()


@pytest.fixture
def spec(world: Installation, request: pytest.FixtureRequest) -> FlowSpec:
    """A flow named after the test, vouched for from now on."""
    made = world.put(SPEC.format(flow=re.sub(r"\W|_", "-", request.node.name)[5:90]))
    later(world, made, 3600)
    return made


def later(world: Installation, spec: FlowSpec, seconds: int = 10, *events: Event) -> None:
    """Time goes by, these come, all is reported, a pass looks."""
    world.now += seconds * SECOND
    world.observe(events)
    world.vouch([SourceRef(spec.flow, hop, stage, "s") for hop, stage in (("log", "persist"), ("mirror", "replicate"))],
                collector=spec.flow)  # fmt: skip
    world.run_pass()


def seen(world: Installation, spec: FlowSpec, message_id: str, hop: str, **more: Any) -> Event:
    """An observation of this moment, a second before it is received."""
    stage = Stage.persist if hop == "log" else Stage.replicate
    return Event(flow=spec.flow, message_id=message_id, hop=hop, stage=stage, observed_at=world.now + SECOND, **more)


def incidents(world: Installation, spec: FlowSpec) -> list[Incident]:
    """Those of the flow, oldest first."""
    return world.control.incidents.page(flow=spec.flow).items[::-1]


def lines(world: Installation, incident: Incident) -> list[str]:
    """Its timeline, without the times."""
    return [entry.what for entry in world.control.incidents.timeline(incident.id)]


def test_a_new_finding_soon_after_opens_the_same_incident_again(world: Installation, spec: FlowSpec) -> None:
    """It needs to be acknowledged again; much later it is another incident."""
    later(world, spec, 10, seen(world, spec, "a", "log"))
    later(world, spec)
    [first] = incidents(world, spec)
    world.control.incidents.patch(first.id, world.now, "ann", acknowledge=True)
    later(world, spec, 10, seen(world, spec, "a", "mirror"))
    assert [one.status for one in incidents(world, spec)] == ["resolved"]
    later(world, spec, 60, seen(world, spec, "b", "log"))
    later(world, spec)
    [again] = incidents(world, spec)
    assert (again.id, again.status, again.open, again.total) == (first.id, "open", 1, 2)
    later(world, spec, 10, seen(world, spec, "b", "mirror"))
    later(world, spec, 2 * GAP // SECOND, seen(world, spec, "c", "log"))
    later(world, spec)
    old, new = incidents(world, spec)
    assert (old.id, old.status, old.total, new.status, new.total) == (first.id, "resolved", 2, "open", 1)
    assert lines(world, old) == [
        "opened: under_replicated at mirror; 1 finding: 1 open",
        "acknowledged",
        "resolved: no finding is open; 1 finding: 1 recovered (1 by itself)",
        "opened again; 2 findings: 1 open, 1 recovered (1 by itself)",
        "resolved: no finding is open; 2 findings: 2 recovered (2 by itself)",
    ]


def test_a_finding_that_comes_again_opens_its_incident_again(world: Installation, spec: FlowSpec) -> None:
    """A payload that was repaired and differs again is the same finding, counted once."""
    same, other = "00000000000000aa", "00000000000000bb"
    later(world, spec, 10, seen(world, spec, "a", "log", digest=same), seen(world, spec, "a", "mirror", digest=other))
    later(world, spec, 20, seen(world, spec, "a", "mirror", digest=same, delivery="repair"))
    later(world, spec, 20, seen(world, spec, "a", "mirror", digest=other, delivery="again"))
    [incident] = incidents(world, spec)
    assert (incident.status, incident.open, incident.total) == ("open", 1, 1)
    assert [line.partition(";")[0] for line in lines(world, incident)] == [
        "opened: divergent at mirror", "resolved: no finding is open", "opened again",
    ]  # fmt: skip


def test_a_finding_that_comes_again_much_later_returns_to_its_own_incident(world: Installation, spec: FlowSpec) -> None:
    """Though another one is the latest by then: neither loses what it counted, nor how it went."""
    same, other = "00000000000000aa", "00000000000000bb"

    def copied(ident: str, digest: str, delivery: str) -> Event:
        return seen(world, spec, ident, "mirror", digest=digest, delivery=delivery)

    later(world, spec, 10, seen(world, spec, "a", "log", digest=same), copied("a", other, "first"))
    later(world, spec, 20, copied("a", same, "repair"))
    later(world, spec, 2 * GAP // SECOND, seen(world, spec, "b", "log", digest=same), copied("b", other, "first"))
    old, new = incidents(world, spec)
    assert (old.status, old.total, new.status, new.total) == ("resolved", 1, "open", 1)
    later(world, spec, 20, copied("b", same, "repair"))
    later(world, spec, 20, copied("a", other, "again"))
    old, new = incidents(world, spec)
    assert (old.status, old.open, old.total, new.status, new.recovered, new.total) == ("open", 1, 1, "resolved", 1, 1)
    assert [line.partition(";")[0] for line in lines(world, old)][-1] == "opened again"
    assert lines(world, new)[-1] == "resolved: no finding is open; 1 finding: 1 recovered (1 by itself)"
    world.store.engine.command(f"OPTIMIZE TABLE {world.store.engine.database}.findings FINAL")
    world.cut_short()
    world.run_pass()
    assert incidents(world, spec) == [old, new]  # done again, though the row that was replaced is merged away


def test_a_finding_that_was_wrong_is_withdrawn_and_counted(world: Installation, spec: FlowSpec) -> None:
    """What had been observed in time and came late to us was never missing."""
    later(world, spec, 10, seen(world, spec, "a", "log"))
    in_time = seen(world, spec, "a", "mirror")
    later(world, spec, 60)
    [incident] = incidents(world, spec)
    assert incident.open == 1
    later(world, spec, 10, in_time)
    [incident] = incidents(world, spec)
    assert (incident.status, incident.open, incident.withdrawn, incident.total) == ("resolved", 0, 1, 1)
    assert lines(world, incident)[-1] == "resolved: no finding is open; 1 finding: 1 withdrawn"


def test_another_kind_takes_the_place_of_a_finding(world: Installation, spec: FlowSpec) -> None:
    """The copy is gone, so what had only not reached the mirror is lost: one finding is open, in an incident of its
    kind, and a replay that was sent for the first asks after the second."""
    later(world, spec, 10, seen(world, spec, "a", "log"))
    later(world, spec)
    later(world, spec, 10, structs.replace(seen(world, spec, "a", "log"), stage=Stage.drop, reason="purged"))
    copies, loss = sorted(incidents(world, spec), key=lambda one: one.kind, reverse=True)
    assert (copies.kind, copies.status, copies.open, copies.superseded) == ("under_replicated", "resolved", 0, 1)
    assert (loss.kind, loss.status, loss.open) == ("lost", "open", 1)
    assert lines(world, copies)[-1] == "resolved: no finding is open; 1 finding: 1 superseded"
    first = Missing("mirror", "replicate", "under_replicated")
    assert statuses(world.store, spec.flow, ["a"])["a"][first] == "open"
    later(world, spec, 10, seen(world, spec, "a", "mirror"))
    assert statuses(world.store, spec.flow, ["a"])["a"][first] == "recovered"
    told = {f.kind: (f.status, f.by) for f in world.store.findings(spec.flow)}
    assert told == {"under_replicated": ("superseded", "lost"), "lost": ("recovered", "itself")}


def test_a_thousand_findings_of_one_cause_are_one_incident(world: Installation, spec: FlowSpec) -> None:
    """Also those that come passes later, while it is open."""
    for part in range(4):
        later(world, spec, 60, *(seen(world, spec, f"m-{part}-{n}", "log") for n in range(250)))
    later(world, spec)
    [incident] = incidents(world, spec)
    assert (incident.open, incident.total, incident.owner) == (1000, 1000, "team")
    told = [line for line in lines(world, incident) if line.startswith("now")]
    assert told[-1] == "now 1000 findings: 1000 open"


def test_the_oldest_that_are_open_and_their_own_cause(world: Installation, spec: FlowSpec) -> None:
    """In the order in which they were opened, in pages, up to a moment, of the kinds asked for; what recovered, what
    another flow lacks, and what follows from something before it are left out."""
    for ids in (("b", "a"), ("c",), ("d",)):
        later(world, spec, 10, *(seen(world, spec, one, "log") for one in ids))
        later(world, spec)
    later(world, spec, 10, seen(world, spec, "c", "mirror"))
    other = world.put(SPEC.format(flow=f"{spec.flow}-2"))
    later(world, other, 3600)
    later(world, other, 10, seen(world, other, "x", "log"))
    later(world, other)

    def oldest(*kinds: str, until: int = world.now, after: tuple[int, str] = (0, ""), limit: int = 10) -> list[Finding]:
        return world.store.oldest_open(spec.flow, kinds, until, after, limit)

    found = oldest("under_replicated", "lost")
    assert [one.message_id for one in found] in (["a", "b", "d"], ["b", "a", "d"])
    assert found == oldest("under_replicated")
    assert oldest("lost", "unacknowledged") == []
    assert oldest("under_replicated", until=found[-1].opened_at - 1) == found[:2]
    paged, place = [], (0, "")
    while page := oldest("under_replicated", after=place, limit=1):
        paged += page
        place = (page[0].opened_at, page[0].finding_id)
    assert paged == found
    with_cause = structs.replace(found[-1], message_id="e", finding_id="f", cause="log:persist")
    world.store.keep_findings([with_cause], 1)
    assert oldest("under_replicated") == found


def ruled(world: Installation, incident: Incident, status: str, *ids: str) -> None:
    """A person says so, and the next pass carries it out, though nothing else is new."""
    world.control.rulings.add(of_incident(incident.flow, incident.id, status, ids), world.now)
    world.now += SECOND
    assert world.run_pass().number


def stand(world: Installation, spec: FlowSpec) -> dict[str, tuple[str, str]]:
    """(status, by) of each finding, by message."""
    return {f.message_id: (f.status, f.by) for f in world.store.findings(spec.flow)}


def test_an_incident_resolves_when_its_last_finding_is_parked(world: Installation, spec: FlowSpec) -> None:
    """Its counts and its history say so; what comes after all recovers all the same."""
    later(world, spec, 10, *(seen(world, spec, name, "log") for name in "abc"))
    later(world, spec)
    [incident] = incidents(world, spec)
    ruled(world, incident, "parked", "a", "b")
    assert stand(world, spec) == {"a": ("parked", "person"), "b": ("parked", "person"), "c": ("open", "")}
    [incident] = incidents(world, spec)
    assert (incident.status, incident.open, incident.parked) == ("open", 1, 2)
    later(world, spec, 10, seen(world, spec, "c", "mirror"))
    [incident] = incidents(world, spec)
    assert (incident.status, incident.recovered, incident.parked) == ("resolved", 1, 2)
    assert lines(world, incident)[-1] == (
        "resolved: no finding is open; 3 findings: 1 recovered (1 by itself), 2 parked"
    )
    later(world, spec, 10, seen(world, spec, "a", "mirror"))
    [incident] = incidents(world, spec)
    assert (incident.status, incident.recovered, incident.parked) == ("resolved", 2, 1)
    assert stand(world, spec)["a"] == ("recovered", "itself")


def test_what_was_parked_stays_so_until_somebody_says_otherwise(world: Installation, spec: FlowSpec) -> None:
    """Passes look at it again and change nothing; opened again it is as old as it was; given up, nobody parks it."""
    later(world, spec, 10, seen(world, spec, "a", "log"), seen(world, spec, "b", "log"))
    later(world, spec)
    [incident] = incidents(world, spec)
    opened = {f.message_id: f.opened_at for f in world.store.findings(spec.flow)}
    ruled(world, incident, "parked")
    later(world, spec, 60, seen(world, spec, "a", "log", delivery="again"))
    assert stand(world, spec) == {"a": ("parked", "person"), "b": ("parked", "person")}
    ruled(world, incident, "open", "a")
    [incident] = incidents(world, spec)
    assert (incident.status, incident.open, incident.parked) == ("open", 1, 1)
    assert {f.message_id: f.opened_at for f in world.store.findings(spec.flow)} == opened
    assert [f.resolved_at for f in world.store.findings(spec.flow, message_id="a")] == [0]
    ruled(world, incident, "abandoned")
    ruled(world, incident, "parked")
    assert stand(world, spec) == {"a": ("abandoned", "person"), "b": ("abandoned", "person")}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("status", ["parked", "open"])
def test_a_pass_that_rules_leaves_the_same_when_done_again(
    world: Installation, spec: FlowSpec, status: str, merged: bool
) -> None:
    """Also where the engine has merged away what stood before, and where the same pass looked at the message."""
    later(world, spec, 10, seen(world, spec, "a", "log"), seen(world, spec, "b", "log"))
    later(world, spec)
    [incident] = incidents(world, spec)
    if status == "open":
        ruled(world, incident, "parked")
    world.control.rulings.add(of_incident(spec.flow, incident.id, status), world.now)
    later(world, spec, 10, seen(world, spec, "a", "log", delivery="again"))
    before = (world.store.findings(spec.flow), incidents(world, spec), lines(world, incident))
    assert {f.status for f in before[0]} == {status}
    if merged:
        world.store.engine.command(f"OPTIMIZE TABLE {world.store.engine.database}.findings FINAL")
    with world.control.transaction() as books:  # as they were when the pass began
        number = world.control.passes.last_finished().number
        books.rulings.add(of_incident(spec.flow, incident.id, status), world.now)
        assert books.rulings.take(number)
    world.cut_short()
    world.control.rulings.add(of_incident(spec.flow, incident.id, "abandoned"), world.now)  # of a later pass
    world.run_pass()
    assert (world.store.findings(spec.flow), incidents(world, spec), lines(world, incident)) == before
    world.run_pass()
    assert {f.status for f in world.store.findings(spec.flow)} == {"abandoned"}
    assert not world.control.rulings.waiting()
