"""Reading the configuration again: in one process with the in-memory log, and as `collectors run` with signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, ClassVar

import httpx
import pytest

from collectors import registry
from collectors.clock import steady
from collectors.config import read_config
from collectors.errors import ConfigInvalid, SpoolHeld, Unavailable
from collectors.fleet import Fleet
from collectors.memory import Config, MemoryBroker, MemoryCollector, Tailed
from collectors.registry import Kind
from collectors.service import SIGNALS, Service, blocked_signals
from collectors.spool import Spool
from tests.contract.http_tracker import HttpTracker
from tracker.model.carry import MESSAGE_ID
from tracker.model.spec import load_spec
from tracker.reconcile.cover import Cover

PATIENCE = 30


def wait_for(met):
    """Until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Fed(MemoryCollector):
    """Tails the topic of its name in the world's broker; `slow` keeps `close` waiting, `wrong` fails for good."""

    made: ClassVar[list[Any]] = []
    broker: ClassVar[MemoryBroker]
    wrong: ClassVar[set[str]] = set()
    slow: ClassVar[float] = 0.0

    def __init__(self, name, config):
        super().__init__(name, Config([Tailed(name, "orders", config["hop"])]), self.broker)
        self.name, self.hop, self.closed = name, config["hop"], False
        self.made.append(self)

    def read(self, limit, wait):
        """Fails for good where it is told to."""
        if self.name in self.wrong:
            raise ConfigInvalid(f"no permission to read {self.name}")
        return super().read(limit, min(wait, 0.01))

    def close(self):
        """Noted."""
        time.sleep(self.slow)
        self.closed = True


def fed(name, config):
    """The factory."""
    if set(config) != {"hop"}:
        raise ConfigInvalid(f"collector {name}: hop: missing, or there is another key")
    return Fed(name, config)


class World:
    """A fleet, a tracker, a broker."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "config.yaml"
        self.tracker, Fed.broker, Fed.made, Fed.wrong, Fed.slow = HttpTracker(), MemoryBroker(), [], set(), 0.0
        self.fleet, self.topics, self.token = Fleet(self.path, steady()), set(), ""

    def say(self, **collectors):
        """The configuration: name -> hop, or more keys."""
        lines = [f"  - {{name: {name}, kind: fed, {more}}}" for name, more in collectors.items()]
        head = f"tracker: {{url: '{self.tracker.url}'{self.token}}}\nspool: {self.folder}/spool\nheartbeat: 50ms\n"
        head += "collectors:\n"
        self.path.write_text(head + "\n".join(lines) + "\n")

    def apply(self, **collectors):
        """Say it, and have it read."""
        for name in collectors:
            if name not in self.topics:
                self.topics.add(name)
                Fed.broker.create(name)
        self.say(**collectors)
        self.fleet.apply(read_config(self.path))

    def until(self, met):
        """Tick until it holds."""
        deadline = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < deadline, self.states
            self.fleet.tick()
            time.sleep(0.005)

    @property
    def states(self):
        """Name -> state."""
        return {seen.name: seen.health.state for seen in self.fleet.seen()}

    def put(self, topic, name):
        """A record."""
        Fed.broker.append(topic, b"v", None, {MESSAGE_ID: name.encode()})

    def reports(self, collector):
        """What it reported."""
        return [request.report for request in self.tracker.stored if request.report["collector"] == collector]

    def close(self):
        """All ends."""
        Fed.slow = 0.0
        self.fleet.stop()
        self.until(lambda: not self.fleet.tick())
        self.tracker.close()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world whose configurations know the kind `fed`."""
    monkeypatch.setitem(registry.KINDS, "fed", Kind("tests.contract.test_reload:fed"))
    monkeypatch.setitem(sys.modules, "tests.contract.test_reload", sys.modules[__name__])
    found = World(tmp_path)
    yield found
    found.close()


def test_what_is_new_starts_and_what_is_the_same_is_left_alone(world):
    """A second reading starts the new one, exchanges the changed one and stops the one that is gone. The same one goes
    on in its thread with its connection: its reports follow each other in one epoch without a restart."""
    world.apply(same="hop: h", changed="hop: h", gone="hop: h")
    world.until(lambda: set(world.states.values()) == {"running"})
    same, changed, gone = Fed.made
    member = world.fleet._members["same"]
    world.apply(same="hop: h", changed="hop: other", new="hop: h")
    exchanged = {"same": "running", "changed": "running", "new": "running"}
    world.until(lambda: not world.fleet._next and world.states == exchanged)
    assert (same.closed, changed.closed, gone.closed) == (False, True, True)
    assert world.fleet._members["same"] is member
    assert [(each.name, each.hop) for each in Fed.made[3:]] == [("changed", "other"), ("new", "h")]
    for topic in ("same", "changed", "new"):
        world.put(topic, f"m-{topic}")
    assert world.tracker.until(lambda: len(set(world.tracker.ids)) == 3)


def test_nothing_is_lost_while_one_is_exchanged(world):
    """What was read is delivered and committed by the old one, the rest is read by the new one: every record arrives,
    and the sequence of reports has no gap."""
    world.apply(a="hop: h")
    for i in range(200):
        if i in (50, 100, 150):
            world.apply(a=f"hop: h{i}")
        world.put("a", f"m-{i}")
        world.fleet.tick()
    world.until(lambda: len(set(world.tracker.ids)) == 200)
    assert {report["epoch"] for report in world.reports("a")} == {world.reports("a")[0]["epoch"]}
    sequences = sorted({report["sequence"] for report in world.reports("a")})
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"b": "hop: h, typo: 1"}, r"config\.yaml:6: collector b: hop: missing, or there is another key"),
        ({"b": "hop: h", "c": "typo: 1"}, r"config\.yaml:7: collector c"),
    ],
)
def test_a_wrong_configuration_changes_nothing(world, wrong, said):
    """It is refused as a whole, naming file, line and key: also what would have been right in it is not done, and what
    was made for it is let go of."""
    world.apply(a="hop: h")
    world.until(lambda: world.states == {"a": "running"})
    with pytest.raises(ConfigInvalid, match=said):
        world.apply(a="hop: other", **wrong)
    world.fleet.tick()
    assert world.states == {"a": "running"}
    assert not Fed.made[0].closed
    assert all(made.closed for made in Fed.made[1:])
    world.put("a", "m-1")
    assert world.tracker.until(lambda: world.tracker.ids == ["m-1"])


def test_a_held_spool_refuses_the_whole(world):
    """Another process has the spool of a new collector: nothing is begun, and the folders taken meanwhile are free."""
    world.apply(a="hop: h")
    held = Spool(world.folder / "spool" / "c")
    with pytest.raises(SpoolHeld):
        world.apply(a="hop: h", b="hop: h", c="hop: h")
    held.close()
    assert list(world.states) == ["a"]
    Spool(world.folder / "spool" / "b").close()
    world.apply(a="hop: h", b="hop: h", c="hop: h")
    world.until(lambda: set(world.states.values()) == {"running"})


def test_a_spool_that_cannot_be_made_refuses_the_whole(world):
    """A file stands where its folder should: the error names collector and folder."""
    world.apply(a="hop: h")
    (world.folder / "spool" / "b").write_text("no folder")
    with pytest.raises(ConfigInvalid, match=r"collector b: spool .*/b: "):
        world.apply(a="hop: other", b="hop: h")
    assert list(world.states) == ["a"]
    assert not Fed.made[0].closed


def test_one_that_cannot_begin_does_not_end_the_others(world):
    """A successor whose folder has become unusable has failed, and says so; the others go on, and so does the fleet."""
    world.apply(a="hop: h", b="hop: h")
    world.until(lambda: set(world.states.values()) == {"running"})
    Fed.slow, before = 0.2, world.fleet._members["b"]._thread
    world.apply(a="hop: h", b="hop: other")
    before.join(PATIENCE)
    held = Spool(world.folder / "spool" / "b")
    world.until(lambda: world.states == {"a": "running", "b": "failed"})
    held.close()
    world.apply(a="hop: h", b="hop: other")
    world.until(lambda: world.states == {"a": "running", "b": "running"})


def test_one_that_failed_is_started_again(world):
    """The same configuration, read again, starts what had ended for good and leaves the other alone."""
    Fed.wrong = {"b"}
    world.apply(a="hop: h", b="hop: h")
    world.until(lambda: world.states == {"a": "running", "b": "failed"})
    assert world.fleet.failed
    Fed.wrong = set()
    world.apply(a="hop: h", b="hop: h")
    world.until(lambda: world.states == {"a": "running", "b": "running"})
    assert not world.fleet.failed
    assert [each.name for each in Fed.made] == ["a", "b", "b"]


def test_the_last_of_several_readings_counts(world):
    """Readings that come while one still ends: only the last one's collector is run, those in between are let go of."""
    world.apply(a="hop: h")
    world.until(lambda: world.states == {"a": "running"})
    Fed.slow = 0.3
    for hop in ("h1", "h2", "h"):  # the last is what runs, but that was told to stop
        world.apply(a=f"hop: {hop}")
    world.until(lambda: len(world.fleet._next) == 0 and world.states == {"a": "running"})
    assert [each.closed for each in Fed.made] == [True, True, True, False]
    assert Fed.made[-1].hop == "h"


def test_gone_and_back_again(world):
    """A collector that is taken out and put back while it still ends runs in the end."""
    world.apply(a="hop: h", b="hop: h")
    Fed.slow = 0.2
    world.apply(b="hop: h")
    world.apply(a="hop: h", b="hop: h")
    world.until(lambda: not world.fleet._next and world.states == {"a": "running", "b": "running"})
    world.put("a", "m-1")
    assert world.tracker.until(lambda: world.tracker.ids == ["m-1"])


def test_a_stop_while_one_is_exchanged(world):
    """Nobody is started any more, and all that was made is closed."""
    world.apply(a="hop: h", b="hop: h")
    Fed.slow = 0.2
    world.apply(a="hop: other", b="hop: h")
    world.fleet.stop()
    world.until(lambda: not world.fleet.tick())
    assert all(made.closed for made in Fed.made)
    assert [made.hop for made in Fed.made] == ["h", "h", "other"]


def test_what_is_gone_is_not_signed_off(world):
    """Taken out of the configuration, a partition goes on without a watcher: a blind spot, for nobody said that it is
    over. Its last report names it, and none signs it off."""
    world.apply(a="hop: h", b="hop: h")
    assert world.tracker.until(lambda: any(report["sources"] for report in world.reports("b")), PATIENCE)
    world.apply(a="hop: h")
    world.until(lambda: list(world.states) == ["a"])
    assert all(report["signed_off"] == [] for report in world.reports("b"))


def test_what_is_retired_is_signed_off(world):
    """Somebody says that it is over: what was read is delivered, then its sources end, and the system is not asked."""
    world.apply(a="hop: h", b="hop: h")
    assert world.tracker.until(lambda: any(report["sources"] for report in world.reports("b")), PATIENCE)
    world.put("b", "m-1")
    count = len(Fed.made)
    world.apply(a="hop: h", b="hop: h, retired: true")
    world.until(lambda: world.states == {"a": "running", "b": "retired"})
    last = world.reports("b")[-1]
    assert [(s["hop"], s["stage"], s["source"]) for s in last["signed_off"]] == [("h", "persist", "b/0")]
    assert last["sources"] == []
    assert len(Fed.made) == count
    world.apply(a="hop: h", b="hop: h, retired: true")  # the next reading leaves it alone
    world.until(lambda: world.states == {"a": "running", "b": "retired"})


def test_what_nobody_read_before_it_was_retired_stays_a_blind_spot(world, monkeypatch):
    """The system was away when somebody said that it is over. Nobody vouches for the time since the collector's
    last word, though the reports of a retirement follow those of the collector."""
    world.apply(a="hop: h", b="hop: h")
    assert world.tracker.until(lambda: any(report["sources"] for report in world.reports("b")), PATIENCE)
    monkeypatch.setattr(Fed, "read", lambda self, limit, wait: (_ for _ in ()).throw(Unavailable("away")))
    world.until(lambda: world.states["b"] == "unavailable")
    away = time.time_ns() // 1000 + 100_000  # all that was read before has been reported by then, or lies before it
    world.until(lambda: time.time_ns() // 1000 > away + 300_000)
    world.apply(a="hop: h", b="hop: h, retired: true")
    world.until(lambda: world.states["b"] == "retired")
    cover = Cover(())
    cover.fold({**request.report, "received": request.at} for request in world.tracker.stored)
    found = cover.coverage(load_spec("{flow: orders, checkpoints: [{hop: h, stage: persist}]}"), ()).of("h", "persist")
    (source,) = [one for one in found if one.source == "b/0"]
    assert source.closed is not None
    assert source.closed > away + 300_000
    assert source.hole(away, away + 300_000) == (away, away + 300_000)


def test_a_retirement_after_a_crash_of_the_host_signs_off(world):
    """The first moments of a new epoch may say nothing of any source. It is retired only when its end was told."""
    world.apply(a="hop: h", b="hop: h")
    assert world.tracker.until(lambda: any(report["sources"] for report in world.reports("b")), PATIENCE)
    world.fleet.stop()
    world.until(lambda: not world.fleet.tick())
    path = world.folder / "spool" / "b" / "standing.json"
    left = json.loads(path.read_text())
    path.write_text(json.dumps({**left, "boot": "another run of this host"}))
    world.fleet = Fleet(world.path, steady())
    world.apply(a="hop: h", b="hop: h, retired: true")
    world.until(lambda: world.states["b"] == "retired")
    assert [s["source"] for s in world.reports("b")[-1]["signed_off"]] == ["b/0"]
    assert json.loads(path.read_text())["sources"] == []


def test_a_retirement_whose_spool_is_held_refuses_the_whole(world):
    """As for any other collector that is new."""
    world.apply(a="hop: h")
    held = Spool(world.folder / "spool" / "b")
    with pytest.raises(SpoolHeld):
        world.apply(a="hop: other", b="hop: h, retired: true")
    held.close()
    assert list(world.states) == ["a"]
    assert len(Fed.made) == 2
    assert Fed.made[1].closed


def test_a_token_file_is_read_again(world):
    """A token that was renewed counts after a reading of the configuration, though that is the same; one that cannot be
    read changes nothing."""
    token = world.folder / "token"
    world.token = f", token_file: {token}"
    token.write_text("old\n")
    world.tracker.token = "old"
    world.apply(a="hop: h")
    assert world.tracker.until(lambda: world.tracker.stored, PATIENCE)
    world.tracker.token = "new"
    token.write_text("")
    with pytest.raises(ConfigInvalid, match="the file is empty"):
        world.apply(a="hop: h")
    assert len(Fed.made) == 1
    token.write_text("new\n")
    count = len(world.tracker.stored)
    world.apply(a="hop: h")
    world.until(lambda: len(world.tracker.stored) > count)
    assert len(Fed.made) == 2
    world.apply(a="hop: h")
    assert len(Fed.made) == 2


def test_a_retirement_waits_for_the_tracker(world):
    """While the tracker is away nothing is signed off; the next start goes on with it."""
    world.apply(a="hop: h", b="hop: h")
    assert world.tracker.until(lambda: any(report["sources"] for report in world.reports("b")), PATIENCE)
    world.tracker.script.extend([(503, {}, {})] * 10**5)
    world.apply(a="hop: h", b="hop: h, retired: true")
    world.until(lambda: world.states["b"] == "retiring")
    world.tracker.script.clear()
    world.until(lambda: world.states["b"] == "retired")
    assert world.reports("b")[-1]["signed_off"]


def test_an_unavailable_system_does_not_hold_up_the_exchange(world, monkeypatch):
    """One that backs off ends at once when it is exchanged."""
    monkeypatch.setattr(Fed, "read", lambda self, limit, wait: (_ for _ in ()).throw(Unavailable("away")))
    world.apply(a="hop: h")
    world.until(lambda: world.states == {"a": "unavailable"})
    world.apply(a="hop: other")
    world.until(lambda: len(Fed.made) == 2 and Fed.made[0].closed and not world.fleet._next)


def test_a_reading_during_a_stop_is_left_alone(world, caplog):
    """SIGHUP while the collectors still end: nothing is started any more, though the file names one more."""
    caplog.set_level("INFO")
    Fed.slow = 0.5
    for name in ("a", "b"):
        Fed.broker.create(name)
    world.say(a="hop: h")
    service, caller = Service(world.path), threading.get_ident()
    over = threading.Event()

    def operator():
        try:
            wait_for(lambda: [seen.health.state for seen in service._fleet.seen()] == ["running"])
        finally:
            signal.pthread_kill(caller, signal.SIGTERM)
        wait_for(lambda: "stopping" in caplog.text)
        world.say(a="hop: h", b="hop: h")
        signal.pthread_kill(caller, signal.SIGHUP)
        if not over.wait(PATIENCE):
            signal.pthread_kill(caller, signal.SIGTERM)

    with blocked_signals():
        thread = threading.Thread(target=operator)
        thread.start()
        try:
            assert service.run(read_config(world.path))
        finally:
            over.set()
            thread.join(PATIENCE)
            while signal.sigtimedwait(SIGNALS, 0):
                pass
    assert [made.name for made in Fed.made] == ["a"]


def test_a_defect_of_the_process_ends_its_collectors(world, monkeypatch):
    """Were they to go on, nothing could stop them: signals are blocked, and who takes them is gone."""
    for name in ("a", "b"):
        Fed.broker.create(name)
    world.say(a="hop: h", b="hop: h")
    service, tick = Service(world.path), Fleet.tick

    def broken(fleet):
        if [seen.health.state for seen in fleet.seen()] == ["running", "running"]:
            raise RuntimeError("can't start new thread")
        return tick(fleet)

    monkeypatch.setattr(Fleet, "tick", broken)
    with blocked_signals(), pytest.raises(RuntimeError):
        service.run(read_config(world.path))
    wait_for(lambda: all(made.closed for made in Fed.made))


CONFIG = """\
tracker: {{url: '{url}'}}
spool: {folder}/spool
listen: 127.0.0.1:0
collectors:
"""
ONE = "  - {{name: {name}, kind: memory, topics: [{{topic: t, flow: orders, hop: log}}]}}\n"


class Process:
    """`collectors run` with a configuration of so many collectors."""

    def __init__(self, folder, tracker):
        self.path, self.head = folder / "config.yaml", CONFIG.format(url=tracker.url, folder=folder)
        self.say("a")
        self.log = folder / "log"
        command = [sys.executable, "-m", "collectors.main", "run", str(self.path)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    def say(self, *names):
        """Write the configuration."""
        self.path.write_text(self.head + "".join(ONE.format(name=name) for name in names))

    def until(self, met):
        """Wait for it; fails with the log."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if found := met():
                    return found
            except (httpx.TransportError, IndexError):
                pass
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def get(self, path):
        """From the listener, whose port the log tells."""
        port = self.log.read_text().split("port=")[1].split()[0]
        return httpx.get(f"http://127.0.0.1:{port}{path}")

    def ready(self):
        """Names and states, when all are ready."""
        answer = self.get("/readyz")
        return answer.status_code == 200 and [(one["name"], one["state"]) for one in answer.json()["collectors"]]


@pytest.fixture
def process(tmp_path):
    """One that runs."""
    with HttpTracker() as tracker:
        found = Process(tmp_path, tracker)
        yield found
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait(PATIENCE)


def test_an_operator_asks_and_reloads(process):
    """The listener tells that it lives, who is ready, and metrics. SIGHUP takes up a new collector; a configuration
    that is wrong is refused with file, line and key, is told, and all goes on; then SIGTERM ends it with 0."""
    process.until(lambda: process.ready() == [("a", "running")])
    assert process.get("/healthz").text == "alive\n"
    process.say("a", "b")
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: process.ready() == [("a", "running"), ("b", "running")])
    metrics = process.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'collector_state{collector="b",kind="memory",state="running"} 1.0' in metrics.text
    process.path.write_text(process.path.read_text().replace("topics", "topix", 1))
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: "configuration_refused" in process.get("/readyz").json())
    refused = process.get("/readyz").json()["configuration_refused"]
    assert refused.startswith(f"{process.path}:5: collector a: ")
    assert "topix" in refused
    assert "collectors_config_last_reload_successful 0.0" in process.get("/metrics").text
    assert process.ready() == [("a", "running"), ("b", "running")]
    assert "configuration refused: everything goes on as before" in process.log.read_text()
    process.say("b")
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: process.ready() == [("b", "running")])
    assert "configuration_refused" not in json.loads(process.get("/readyz").text)
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE) == 0, process.log.read_text()


def test_signals_together(process):
    """Any number of SIGHUPs at once, and one while it ends: it stops in order, with 0, and does not begin anew."""
    process.until(process.ready)
    process.say("a", "b")
    for _ in range(20):
        process.process.send_signal(signal.SIGHUP)
    process.process.send_signal(signal.SIGTERM)
    process.process.send_signal(signal.SIGHUP)
    assert process.process.wait(PATIENCE) == 0, process.log.read_text()
    assert process.log.read_text().count("configuration in force") <= 3
    assert "stopping" in process.log.read_text()
