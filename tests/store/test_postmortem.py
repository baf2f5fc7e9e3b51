"""An incident from its first finding to its last, on the real engine, and what is told of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.world.installation import Installation
from tracker.api.history import history
from tracker.api.postmortem import postmortem
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.control.errors import NotFound
from tracker.control.incidents import Incident
from tracker.control.messages import Planned
from tracker.control.replays import Request
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND, rfc3339
from tracker.slo.metrics import Metrics

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: log, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: log, within: 10s}
"""
ODD = "m-6` <script>[x](y)\n# @all"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Eight messages that billing did not take; then three came late, one by a replay, and it happened again."""
    made = Installation(tmp_path_factory.mktemp("postmortem"))
    made.put(SPEC)
    _later(made)
    begun = made.now
    ids = [f"m-{n}" for n in range(6)] + [ODD, "m-7"]
    for n, message_id in enumerate(ids):
        made.observe(
            [_event(message_id, "checkout", "produce", begun), _event(message_id, "log", "persist", begun, offset=n)]
        )
    _later(made)
    _later(
        made,
        120,
        _event("m-0", "billing", "ack", made.now + SECOND),
        _event("m-1", "billing", "ack", made.now + SECOND),
    )
    _replayed(made, "m-2")
    _later(made, 60, _event("m-2", "billing", "ack", made.now + SECOND, replay_id="r-1"))
    yield made
    made.close()


def _event(message_id: str, hop: str, stage: str, at: int, **more: Any) -> Event:
    return Event(flow="orders", message_id=message_id, hop=hop, stage=Stage(stage), observed_at=at, **more)


def _later(world: Installation, seconds: int = 60, *events: Event) -> None:
    """Time goes by, these come, all is reported, a pass looks."""
    world.now += seconds * SECOND
    world.observe(events)
    world.vouch([SourceRef("orders", h, s, "s")
                 for h, s in (("checkout", "produce"), ("log", "persist"), ("billing", "ack"))])  # fmt: skip
    world.run_pass()


def _replayed(world: Installation, message_id: str) -> None:
    """A replay that nobody asked for by the incident's name."""
    books, now = world.control, world.now
    books.replays.create(Request(id="r-1", flow="orders", selection={}, plan={"messages": 1}, mode="approve", rate=1.0,
                                 requested_by="ann", reason="billing was down | <b>"), now)  # fmt: skip
    books.messages.add("r-1", [Planned(message_id, 0, {})], now)
    books.replays.move("r-1", "awaiting_approval", now, by="ann")
    books.replays.move("r-1", "approved", now + 1, by="bob")
    books.replays.move("r-1", "running", now + 2, by="tracker")
    books.messages.mark("r-1", {message_id: 0}, "refused", now + 3, error="copy is gone")
    books.replays.move("r-1", "done", now + 3, by="tracker")


@pytest.fixture(scope="module")
def service(world: Installation) -> Service:
    """What the routes stand on."""
    return Service(world.store, world.control, cast(Any, None), Specs(world.control), Metrics(), lambda: world.now)


def only(world: Installation) -> Incident:
    """The incident."""
    [incident] = world.control.incidents.page().items
    return incident


def test_it_tells_when_how_many_which_and_what_was_done(world: Installation, service: Service) -> None:
    """Each fact that somebody asks for afterwards stands on the page."""
    incident = only(world)
    text = postmortem(service, incident.id)
    facts = world.store.incident_facts(incident.id)
    assert f"# Incident `{incident.id}`: unacknowledged at billing" in text
    assert (incident.total, incident.open, incident.recovered, incident.recovered_by_itself) == (8, 5, 3, 2)
    assert (facts.messages, facts.by_itself, facts.by_replay, facts.lost) == (8, 2, 1, 0)
    for at in (facts.first_origin, facts.first_deadline, facts.first_known, facts.first_opened):
        assert rfc3339(at)[:-4] in text
    assert "| open | 5 |" in text
    assert f"by replay (1) | {_seconds(facts.replay_p50)} |" in text
    assert f"by itself (2) | {_seconds(facts.itself_p50)} |" in text
    assert "- `m-3`: open, opened" in text
    assert "The list is whole" in text
    assert "replay r-1 asked for: 1 messages; billing was down | <b>" in text
    assert "| `r-1` | 1 | 0 | 0 | 1 |" in text
    assert "No blind spot at billing" in text


def _seconds(span: int | None) -> str:
    assert span is not None
    minutes, rest = divmod(span // SECOND, 60)
    return f"{minutes}m{f'{rest}s' if rest else ''}" if minutes else f"{rest}s"


def test_evidence_is_one_message_of_each_end(world: Installation, service: Service) -> None:
    """One that is open, one that came by itself, one that a replay brought, each with its way."""
    text = postmortem(service, only(world).id).partition("## Evidence")[2]
    assert text.count("```text") == 3
    assert "is unacknowledged: " in text
    assert text.count("is late: ") == 2
    assert "ack by a replay" in text


def test_ids_and_reasons_of_others_are_code(world: Installation, service: Service) -> None:
    """Line breaks and backticks in an id end neither the line nor the span."""
    text = postmortem(service, only(world).id)
    assert "``m-6` <script>[x](y)<U+000A># @all``" in text
    assert ODD not in text


def test_the_history_has_replays_that_were_asked_for_by_its_name(world: Installation) -> None:
    """Asked for, approved, begun, ended: with who and how it ended, in order of time."""
    books, now, ident = world.control, world.now, only(world).id
    books.replays.create(Request(id="r-2", flow="orders", incident_id=ident, selection={}, plan={"messages": 5},
                                 mode="approve", rate=1.0, requested_by="ann", reason=""), now)  # fmt: skip
    books.replays.move("r-2", "awaiting_approval", now, by="ann")
    books.replays.move("r-2", "cancelled", now + 5, by="bob")
    lines = [(entry.who, entry.what) for entry in history(books, ident)]
    assert lines[0] == ("tracker", "opened: unacknowledged at billing; 8 findings: 8 open")
    assert lines[-2:] == [("ann", "replay r-2 asked for: 5 messages"), ("tracker", "replay r-2 cancelled: no messages")]
    assert [what for _, what in lines if what.startswith("now")] == [
        "now 8 findings: 6 open, 2 recovered (2 by itself)",
        "now 8 findings: 5 open, 3 recovered (2 by itself)",
    ]


def test_an_incident_that_is_not_there_is_named(service: Service) -> None:
    """With what lists them."""
    with pytest.raises(NotFound, match="inc-none"):
        postmortem(service, "inc-none")
