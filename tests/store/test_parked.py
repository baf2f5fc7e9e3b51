"""A replay that does not help, on the real engine, books and worker: its message is parked, and its incident ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from collectors.memory import Config, MemoryBroker, MemoryCollector, MemoryPublisher, MemorySource, Tailed
from tests.world.installation import Installation
from tracker.control.incidents import Incident
from tracker.control.tokens import Principal
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND
from tracker.replay import Keeper, Replays, Selection, Worker

SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: kafka, within: 10s}
  - {hop: stock, stage: ack, after: kafka, within: 10s}
replay: {sources: [log: kafka], mode: auto, max_attempts: 1}
"""
PLACES = (("checkout", "produce"), ("kafka", "persist"), ("billing", "ack"), ("stock", "ack"))
ANN = Principal("1", "ann", frozenset({"replay"}))


class Scene:
    """Message `a` lies in the log; neither billing nor stock has taken it."""

    def __init__(self, folder: Path) -> None:
        self.world, self.broker = Installation(folder), MemoryBroker()
        self.world.put(SPEC)
        config = Config(topics=[Tailed(topic="orders", flow="orders", hop="kafka")])
        self.collector = MemoryCollector("tail", config, self.broker, lambda: self.world.now)
        self.later(60)
        self.broker.append("orders", b"aaa", b"k", {MESSAGE_ID: b"a"})
        self.later(2, Event(flow="orders", message_id="a", hop="checkout", stage=Stage.produce,
                            observed_at=self.world.now))  # fmt: skip
        self.later(60)
        ports = {Keeper("log", "kafka"): MemorySource(self.broker)}, {"kafka": MemoryPublisher(self.broker)}
        self.replays = Replays(self.world.store, self.world.control, *ports, lambda: self.world.now)

    def worker(self) -> Worker:
        """As a tracker has it."""
        return self.replays.worker(lambda: self.world.now / SECOND)

    def later(self, seconds: int, *events: Event) -> None:
        """Time goes by, the log is read, these come, all is reported, a pass looks."""
        self.world.now += seconds * SECOND
        seen = [event for raw in self.collector.read(100, 0) for event in self.collector.decode(raw)]
        self.world.observe([*(structs.replace(e, received_at=self.world.now) for e in seen if isinstance(e, Event)),
                            *events])  # fmt: skip
        self.world.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in PLACES])
        self.world.run_pass()

    def acked(self, hop: str) -> Event:
        """It was processed there, just now."""
        return Event(flow="orders", message_id="a", hop=hop, stage=Stage.ack, observed_at=self.world.now + SECOND)

    def incident(self, hop: str) -> Incident:
        """The one of this hop."""
        [found] = [one for one in self.world.control.incidents.page().items if one.hop == hop]
        return found

    def statuses(self) -> dict[str, tuple[str, str]]:
        """(status, by) of its finding, by hop."""
        return {f.hop: (f.status, f.by) for f in self.world.store.findings("orders")}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """The flow in a box."""
    made = Scene(tmp_path)
    yield made
    made.world.close()


def test_what_a_replay_parks_ends_its_finding_and_its_incident(scene: Scene) -> None:
    """At the hop that it was asked for, and nowhere else. Seen after all, it is recovered, not parked."""
    asked = scene.replays.create(Selection(flow="orders", hop="billing"), ANN, "a test").replay
    worker = scene.worker()
    for _ in range(12):
        worker.step()
        scene.later(10)
    assert scene.replays.get(asked.id).messages["parked"] == 1
    assert scene.statuses() == {"billing": ("parked", "replay"), "stock": ("open", "")}
    incident = scene.incident("billing")
    assert (incident.status, incident.parked, incident.open, incident.recovered) == ("resolved", 1, 0, 0)
    assert (scene.incident("stock").status, scene.incident("stock").acted_at) == ("open", None)
    assert incident.acted_at == asked.approved_at
    told = [entry.what for entry in scene.world.control.incidents.timeline(incident.id)]
    assert told[-1] == "resolved: no finding is open; 1 finding: 1 parked"
    scene.later(10, scene.acked("billing"))
    assert scene.statuses()["billing"] == ("recovered", "itself")
    incident = scene.incident("billing")
    assert (incident.status, incident.parked, incident.recovered) == ("resolved", 0, 1)
