"""The runner with an archive: what is committed is archived, whatever happens between."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest

from collectors.archive.config import Place
from collectors.archive.shelves import Shelves
from collectors.archive.shown import Archives
from collectors.config import read_config
from collectors.emitter import Emitter
from collectors.errors import ConfigInvalid
from collectors.fleet import all_wanted, made
from collectors.metrics import ARCHIVE_WAITING, ARCHIVED, samples
from collectors.runner import Runner
from collectors.status import Seen, readiness
from tests.contract.test_runner import FAST, QUICK, World
from tests.unit.collectors.archiving import archive, place
from tracker.model.carry import MESSAGE_ID


class Archived(World):
    """A world whose runner has an archive."""

    def start(self, bounds=QUICK, pace=FAST, **more):
        """Run."""
        self.archive = archive(self.folder, most=bounds.in_flight // 2, **more)
        self.archive._contents = self.collector.content
        emitter = Emitter(self.tracker.url, collector="one", spool=self.folder / "one", reader=True, pace=pace)
        self.runner = Runner(
            "one", self.collector, emitter, self.folder / "undecodable.ndjson", bounds=bounds, archive=self.archive
        )
        self.failure = None
        self.thread = threading.Thread(target=self.body)
        self.thread.start()

    def kept(self):
        """Ids in the archive, in order."""
        shelves = Shelves(Place(**place(self.folder)))
        every = sorted(shelves.segments(), key=lambda s: s.sequence)
        return [name for s in every for name in shelves.table(s).column("message_id").to_pylist()]

    def until(self, met):
        """Wait."""
        deadline = time.monotonic() + 20
        while not met():
            assert time.monotonic() < deadline, self.runner.health
            time.sleep(0.005)


@pytest.fixture
def world(tmp_path):
    """A world, ended with the test."""
    found = Archived(tmp_path)
    yield found
    if hasattr(found, "thread"):
        found.stop()
    found.tracker.close()


def test_what_is_committed_is_archived(world):
    """All of it, once, in order, with what was in it; and its time is vouched for."""
    world.put(100)
    world.start(every="10ms")
    world.until(lambda: len(world.collector.committed) == 100)
    world.stop()
    assert world.kept() == [f"m-{n}" for n in range(100)]
    (held,) = Archives(Place(**place(world.folder))).held()
    assert held.gaps == []
    assert [run.source for run in held.watched] == ["t/0"]
    assert world.runner.health.committed == 100


def test_nothing_is_committed_before_it_is_durable(world):
    """The store is away: reading stops at its bound, nothing is committed, it is told; then all of it is there."""
    (world.folder / "archive").write_text("in the way")
    world.put(100)
    world.start()
    world.until(lambda: world.runner.health.state == "waiting")
    assert world.tracker.until(lambda: len(world.tracker.ids) >= 10)
    assert world.collector.committed == []
    assert world.runner.health.read <= QUICK.in_flight + QUICK.read
    seen = Seen("one", "memory", world.runner.health, world.runner._emitter.counts, world.archive.archived)
    assert b'"archive_error": "archive file://' in readiness([seen], 0, 1, "")[1]
    values = {sample.metric: sample.value for sample in samples([seen], 0, True, 0, "1")}
    assert (values[ARCHIVED], values[ARCHIVE_WAITING] > 0) == (0, True)
    (world.folder / "archive").unlink()
    world.until(lambda: len(world.collector.committed) == 100)
    assert world.kept() == [f"m-{n}" for n in range(100)]


def test_few_records_do_not_wait_for_many(world):
    """A segment that fills slowly is closed by its age; at the end at once."""
    world.put(3)
    world.start(every=0.2)
    world.until(lambda: len(world.collector.committed) == 3)
    world.put(3, start=3)
    world.until(lambda: world.runner.health.read == 6)
    world.archive._open._every = 1000
    world.stop()
    assert world.collector.committed == list(range(6))
    assert len(world.kept()) == 6


def test_an_age_longer_than_the_bound_does_not_stop_it(world):
    """`every` is an hour: as soon as no more may be under way, what is there is written."""
    world.put(200)
    world.start(every="1h")
    world.until(lambda: len(world.collector.committed) >= 190)


def test_a_record_that_cannot_be_decoded_costs_no_other(world):
    """It is set aside; each of the others is archived with its own content."""
    world.put(3)
    world.broker.append("t", b"no id")
    world.put(3, start=3)
    world.start()
    world.until(lambda: len(world.collector.committed) == 7)
    world.stop()
    assert world.kept() == [f"m-{n}" for n in range(6)]


def test_a_defect_stops_it_before_it_commits(world):
    """A content that is not what was observed is never kept, nor passed over."""
    world.put(5)
    content = world.collector.content
    world.collector.content = lambda raw, event: content(raw, event).__class__(None, b"another", {})
    world.start()
    world.thread.join(20)
    assert isinstance(world.failure, ConfigInvalid)
    assert world.collector.committed == []


CONFIG = """tracker: {{url: 'http://127.0.0.1:1'}}
spool: {folder}
collectors:
  - name: one
    kind: {kind}
    archive: {archive}
"""
MEMORY = "memory\n    topics: [{topic: t, flow: orders, hop: log}]"
GROUPS = (
    "kafka-groups\n    url: kafka://127.0.0.1:1\n"
    "    groups: [{group: g, flow: orders, hop: billing, topic: t, log: log}]"
)


@pytest.mark.parametrize(
    ("archived", "why"),
    [
        ("{url: 'file:///x', flows: [orders]}", "unencrypted: true"),
        ("{url: 'file:///x', flows: [orders], key: 'env:NOT_THERE'}", "env:NOT_THERE is not set"),
        ("{url: 'nosuch://x', flows: [orders], unencrypted: true}", "nosuch"),
        ("{url: 'file:///x', flow: orders, unencrypted: true}", "flow: Extra"),
        ("{flows: [orders], unencrypted: true}", "url: Field required"),
    ],
)
def test_a_configuration_is_refused_with_its_line(tmp_path, archived, why):
    """Before anything runs."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, kind=MEMORY, archive=archived))
    located = read_config(path)
    with pytest.raises(ConfigInvalid, match=f"config.yaml:4: .*{why}"):
        made(all_wanted(located.config), located, path)


def test_what_sees_no_messages_cannot_archive(tmp_path):
    """A group's offsets are no payloads: that is said, not silently nothing."""
    path = tmp_path / "config.yaml"
    path.write_text(
        CONFIG.format(folder=tmp_path, kind=GROUPS, archive="{url: 'file:///x', flows: [orders], unencrypted: true}")
    )
    located = read_config(path)
    with pytest.raises(ConfigInvalid, match="sees no messages"):
        made(all_wanted(located.config), located, path)


def test_a_full_disk_pauses_and_loses_nothing(world):
    """A real one, of 128 KiB: what is committed is there; with more room it goes on."""
    disk = world.folder / "archive"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here; other tests put a file in the archive's place")
    try:
        for n in range(300):
            world.broker.append("t", os.urandom(1024), None, {MESSAGE_ID: b"m-%d" % n})
        world.start()
        world.until(lambda: "No space left" in world.archive.archived.error)
        world.until(lambda: world.runner.health.state == "waiting")
        committed = len(world.collector.committed)
        assert 0 < committed < 300
        assert set(world.kept()) >= {f"m-{n}" for n in world.collector.committed[:committed]}
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        world.until(lambda: len(world.collector.committed) == 300)
        world.stop()
        assert sorted(set(world.kept())) == sorted(f"m-{n}" for n in range(300))
        assert Archives(Place(**place(world.folder))).verify().wrong == []
    finally:
        world.runner.stop()
        world.thread.join(10)
        subprocess.run(["umount", str(disk)], capture_output=True)
