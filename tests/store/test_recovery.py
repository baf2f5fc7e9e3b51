"""How soon what was missing was found, seen to and back, and what is lost for good: on the real engine and books."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.world.installation import T0, Installation
from tracker.api.loss import loss
from tracker.api.postmortem import postmortem
from tracker.api.recovery import recovery
from tracker.api.service import Service
from tracker.api.snapshot import Snapshot
from tracker.api.specs import Specs
from tracker.control.errors import Invalid
from tracker.control.incidents import Incident
from tracker.control.replays import Request
from tracker.control.rulings import of_incident
from tracker.ingest.commit import Bounds
from tracker.model.carry import Copy, Locator, Missing, Sent
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND
from tracker.replay import Keeper, Replays
from tracker.slo.metrics import Metrics

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: log, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: log, within: 10s}
objectives: {recovery: {p50: 2m, p90: 15m}}
replay: {sources: [snapshot: log], targets: {log: log}}
"""
DAY = 86_400 * SECOND
PLACES = (("checkout", "produce"), ("log", "persist"), ("billing", "ack"))


class Archive:
    """A snapshot that holds `held`."""

    def __init__(self, *held: str) -> None:
        self.held, self.asked = held, 0

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those that it holds."""
        self.asked += 1
        return [Locator(one, "log", "0", 0) for one in message_ids if one in self.held]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """Nobody sends anything here."""
        return [Missing(one, "not asked for") for one in locators]

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """Nobody sends anything here."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""


class Queue(Archive):
    """It gives out what it is asked for."""

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """Nothing was given out."""


class Away(Archive):
    """It does not answer."""

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Its disk is gone."""
        self.asked += 1
        raise OSError("no such mount")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """On the first day billing leaves `a` to `d`: one is back by itself after 60 s, one by a replay after 180 s, one is
    parked, one stays open; `w` was only late to be told of. The next day `x`, `y`, `z` never come to the log."""
    made = Installation(tmp_path_factory.mktemp("recovery"))
    made.put(SPEC)
    later(made)
    at = made.now
    for name in "abcdw":
        made.observe([seen(name, "checkout", at), seen(name, "log", at)])
    late = seen("w", "billing", at + SECOND)
    later(made, 15)
    [incident] = made.control.incidents.page().items
    made.now += 30 * SECOND
    made.control.replays.create(Request(id="r-1", flow="orders", selection={"hop": "billing"}, plan={}, mode="approve",
                                        rate=1.0, requested_by="ann", reason=""), made.now)  # fmt: skip
    made.control.replays.move("r-1", "awaiting_approval", made.now, by="ann")
    made.control.replays.move("r-1", "approved", made.now, by="bob")
    later(made, 30, late, seen("a", "billing", made.now + 30 * SECOND))
    later(made, 120, seen("b", "billing", made.now + 120 * SECOND, replay_id="r-1"))
    made.control.rulings.add(of_incident("orders", incident.id, "parked", ["c"]), made.now)
    later(made, 10)
    made.now = T0 + DAY
    later(made, 0, *(seen(name, "checkout", made.now) for name in "xyz"))
    later(made, 15)
    yield made
    made.close()


def seen(message_id: str, hop: str, at: int, **more: Any) -> Event:
    """An observation."""
    return Event(flow="orders", message_id=message_id, hop=hop, stage=Stage(dict(PLACES)[hop]), observed_at=at, **more)


def later(world: Installation, seconds: int = 60, *events: Event) -> None:
    """Time goes by, these come, all is reported, a pass looks."""
    world.now += seconds * SECOND
    world.observe(events)
    world.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in PLACES])
    world.run_pass()


@pytest.fixture(scope="module")
def service(world: Installation) -> Service:
    """What the routes stand on; an archive still holds `x`."""
    ports = {Keeper("snapshot", "log"): Archive("x")}, {"log": Archive()}
    replays = Replays(world.store, world.control, *ports, lambda: world.now)
    intake = SimpleNamespace(committer=SimpleNamespace(held=0, spool=None, bounds=Bounds()))
    return Service(world.store, world.control, cast(Any, intake), Specs(world.control), Metrics(), lambda: world.now,
                   replays)  # fmt: skip


def of_kind(world: Installation, kind: str) -> Incident:
    """The incident of this kind."""
    [found] = [one for one in world.control.incidents.page().items if one.kind == kind]
    return found


def test_times_are_those_that_went_by(world: Installation, service: Service) -> None:
    """Detected 5 s after the deadline, acted on 30 s later by a replay that was approved; back after 60 s by itself and
    after 180 s by the replay, each told apart; what was withdrawn counts nowhere."""
    found = recovery(service, T0, world.now + 1, DAY)
    by_kind = {one.kind: one for one in found.items}
    one = by_kind["unacknowledged"]
    assert (one.findings, one.open, one.recovered_by_replay, one.recovered_by_itself) == (5, 1, 1, 1)
    assert (one.withdrawn, one.superseded, one.parked, one.abandoned, one.lost) == (1, 0, 1, 0, 1)
    assert (one.detect.p50_s, one.detect.p90_s) == (5.0, 5.0)
    assert (one.incidents, one.acted, one.act.p50_s) == (1, 1, 30.0)
    assert (one.recover_by_itself.p50_s, one.recover_by_replay.p50_s) == (60.0, 180.0)
    assert (one.recover.p50_s, one.recover.p90_s) == (180.0, 180.0)
    lost = by_kind["lost"]
    assert (lost.findings, lost.open, lost.lost, lost.incidents, lost.acted) == (3, 3, 3, 1, 0)
    assert (lost.recover.p50_s, lost.act.p50_s) == (None, None)


def test_what_is_not_back_makes_the_objective_missed(world: Installation, service: Service) -> None:
    """Over all but the withdrawn: what is open counts with its age, what is parked as never, so that recovering little
    and quickly does not look good."""
    [flow] = recovery(service, T0, T0 + DAY, DAY).flows
    age = (world.now - world.store.findings(message_id="d")[0].opened_at) / SECOND
    assert [(said.percentile, said.target_s, said.stands_s, said.met) for said in flow.objectives] == [
        ("p50", 120.0, age, False), ("p90", 900.0, None, False),
    ]  # fmt: skip
    [second] = recovery(service, T0 + DAY, world.now + 1, DAY).flows  # open for seconds only
    assert [said.met for said in second.objectives] == [True, True]


def test_the_trend_goes_step_by_step(world: Installation, service: Service) -> None:
    """Each finding and incident in the step that it was opened in; narrowed by kind."""
    steps = recovery(service, T0, T0 + 2 * DAY, DAY).trend
    assert [(one.start, one.findings, one.incidents) for one in steps] == [(T0, 5, 1), (T0 + DAY, 3, 1)]
    assert [one.start for one in recovery(service, T0, T0 + 2 * DAY, DAY, kind="lost").trend] == [T0 + DAY]
    assert recovery(service, T0, T0 + 2 * DAY, DAY, flow="payments").trend == []
    for start, end, step in ((T0, T0, DAY), (T0, T0 + DAY, 0), (T0, T0 + DAY, 60 * SECOND)):
        with pytest.raises(Invalid):
            recovery(service, start, end, step)


def refreshed(service: Service, now: int) -> None:
    """What is worked out aside is of this moment, and lets go of the engine's folder."""
    with closing(Snapshot(service)) as snapshot:
        snapshot.refresh(now)
        told = ("tracker_counted_timestamp_seconds", "tracker_slo_timestamp_seconds")
        deadline = time.monotonic() + 60
        while {service.metrics.registry.get_sample_value(name) for name in told} != {now / SECOND}:
            assert time.monotonic() < deadline, "nothing was counted within a minute"
            time.sleep(0.05)


def test_metrics_say_the_same(world: Installation, service: Service) -> None:
    """Of the last day, by flow and kind; what was given up is +Inf; what is lost, since ever."""
    value = service.metrics.registry.get_sample_value
    of = {"flow": "orders", "kind": "lost"}
    refreshed(service, world.now)
    assert value("tracker_recovery_findings", of | {"outcome": "open"}) == 3
    assert value("tracker_recovery_seconds", of | {"span": "detect", "percentile": "p90"}) == 10.0
    assert value("tracker_recovery_seconds", of | {"span": "act", "percentile": "p50"}) is None
    assert value("tracker_recovery_target_seconds", {"flow": "orders", "percentile": "p90"}) == 900
    assert value("tracker_lost_for_good", of) == 3
    assert value("tracker_lost_for_good", of | {"kind": "unacknowledged"}) == 1
    refreshed(service, T0 + 1000 * SECOND)
    assert value("tracker_recovery_back_seconds", {"flow": "orders", "percentile": "p90"}) == math.inf


def test_loss_names_what_no_source_holds(world: Installation, service: Service) -> None:
    """The archive holds `x`, so two are lost; what is parked counts; what merely waits does not."""
    gone = loss(service, of_kind(world, "lost").id)
    assert (gone.lost, gone.gone, gone.unknown, gone.retrievable) == (2, 2, 0, 1)
    assert {(one.message_id, one.copy_held) for one in gone.items} == {("y", "none"), ("z", "none")}
    parked = loss(service, of_kind(world, "unacknowledged").id)
    assert (parked.lost, parked.parked, parked.gone) == (1, 1, 0)
    assert [(one.message_id, one.status, one.copy_held) for one in parked.items] == [("c", "parked", "")]
    page = loss(service, of_kind(world, "lost").id, limit=1)
    rest = loss(service, of_kind(world, "lost").id, page.next or "", limit=2)
    assert {one.message_id for one in [*page.items, *rest.items]} == {"y", "z"}


def test_without_sources_to_ask_it_says_that_it_does_not_know(world: Installation) -> None:
    """No hop holds them; whether anybody else does, nobody was asked."""
    alone = Service(world.store, world.control, cast(Any, None), Specs(world.control), Metrics(), lambda: world.now)
    gone = loss(alone, of_kind(world, "lost").id)
    assert (gone.lost, gone.gone, gone.unknown, gone.retrievable) == (3, 3, 3, 0)
    assert {one.copy_held for one in gone.items} == {"unknown"}


@pytest.mark.parametrize(("source", "asked"), [(Queue("x"), 0), (Away(), 1)])
def test_a_source_that_cannot_be_asked_leaves_it_open(world: Installation, source: Archive, asked: int) -> None:
    """A queue would hand the messages out to whoever only looks; one that is away may hold them."""
    ports = {Keeper("snapshot", "log"): source}, {"log": Archive()}
    replays = Replays(world.store, world.control, *ports, lambda: world.now)
    asking = Service(world.store, world.control, cast(Any, None), Specs(world.control), Metrics(), lambda: world.now,
                     replays)  # fmt: skip
    gone = loss(asking, of_kind(world, "lost").id)
    assert (gone.lost, gone.gone, gone.unknown, gone.retrievable) == (3, 3, 3, 0)
    assert source.asked == asked


def test_the_postmortem_states_the_loss(world: Installation, service: Service) -> None:
    """By number and by name, with the command that gives all of it."""
    text = postmortem(service, of_kind(world, "lost").id)
    assert "| **lost for good (RPO)** | 2 |" in text
    assert "2: 0 parked, 0 abandoned, 2 open while no hop holds a copy." in text
    assert "- `y`: open, created" in text
    assert "- `x`: open, created" not in text
    assert "1 more are open that a source of the flow holds a copy of" in text
    text = postmortem(service, of_kind(world, "unacknowledged").id)
    assert "From detected to the first act, an acknowledgement or the approval of a replay: 30s." in text
