"""The archive of a running collector, on a disk that does not always want to."""

from __future__ import annotations

import threading
import time

import pytest

from collectors.archive.config import Place
from collectors.archive.shelves import Shelves
from collectors.archive.shown import Archives
from collectors.archive.writer import Pace
from collectors.archiving import Archived
from collectors.base import Content
from collectors.errors import ConfigInvalid, Unreadable
from collectors.spool import REFUSED
from tests.unit.collectors.archiving import (
    LOG,
    OTHER,
    PATIENCE,
    QUICK,
    archive,
    content,
    files,
    keep,
    key_file,
    place,
    record,
    records,
)  # fmt: skip
from tracker.model.event import Range, Stage


@pytest.fixture
def kept(tmp_path):
    """Archives that are closed at the end: `kept(...)` makes one and starts it."""
    made = []

    def start(name="one", **more):
        made.append(archive(tmp_path, name, **more))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.close()


def wait_for(met):
    """Until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ids(folder):
    """All that a reader finds."""
    shelves = Shelves(Place(**place(folder)))
    return [name for s in shelves.segments() for name in shelves.table(s).column("message_id").to_pylist()]


ALWAYS = [LOG]


class Broken:
    """The archive's folder is a file: nothing can be written. `mend` makes it one again."""

    def __init__(self, folder):
        self.at = folder / "archive"
        self.at.write_text("")

    def mend(self):
        """A folder can be made again."""
        self.at.unlink()


def test_what_was_added_is_durable_when_it_says_so(tmp_path, kept):
    """And there for a reader, with its manifest, when it has ended."""
    one = kept()
    number = one.add(*records(range(100)))
    assert one.wait(number, PATIENCE)
    assert ids(tmp_path) == [f"m-{n}" for n in range(100)]
    assert (one.archived.records, one.archived.segments, one.archived.waiting_records) == (100, 1, 0)
    assert one.archived.waiting_bytes == 0
    assert one.archived.at > 0
    one.close()
    assert not list((tmp_path / "archive").rglob("*.tmp"))
    assert Archives(Place(**place(tmp_path))).verify().wrong == []


def test_only_what_is_opted_in_is_kept(tmp_path, kept):
    """Messages of the flows that are named, at stages at which a hop takes them."""
    one = kept()
    raws, seen = records([1, 2, 3, 4, 5])
    other = [
        record(6, flow="payments"),
        record(7, stage=Stage.ack),
        record(8, stage=Stage.deliver),
        record(9, stage=Stage.drop),
    ]
    span = Range(
        flow="orders",
        hop="log",
        stage=Stage.ack,
        log="log",
        partition="t/0",
        offset=0,
        offset_to=1,
        observed_from=0,
        observed_at=1,
        evidence="range",
    )
    number = one.add([*raws, *(r for r, _ in other), raws[0]], [*seen, *(e for _, e in other), span])
    assert one.wait(number, PATIENCE)
    assert ids(tmp_path) == [f"m-{n}" for n in range(1, 6)]
    assert one.add(*records([], flow="x")) == 0
    assert one.add([raws[0]], [span]) == 0


def test_one_segment_for_each_hop(tmp_path, kept):
    """All of a generation, and it is durable when the last of them is."""
    one = kept()
    raws, seen = records(range(4))
    more = records(range(4, 8), hop="us")
    assert one.wait(one.add(raws + more[0], seen + more[1]), PATIENCE)
    assert [path.parent.name for path in files(tmp_path)] == ["log", "us"]


def test_segments_are_closed_by_size_age_and_demand(tmp_path, kept):
    """Half of what may be under way, the bytes, the time; or because somebody waits."""
    one = kept("by-count", most=10, every=1000)
    one.add(*records(range(10)))
    wait_for(lambda: one.archived.records == 10)
    two = kept("by-size", every=1000, segment_mb=1)
    two.add(*records([1], value=b"x" * 2**20))
    wait_for(lambda: two.archived.records == 1)
    three = kept("by-age", every=0.05)
    three.add(*records([1]))
    wait_for(lambda: three.archived.records == 1)
    four = kept("on-demand", every=1000)
    number = four.add(*records([1]))
    assert four.durable < number
    assert four.wait(number, PATIENCE)


def test_a_store_that_is_away_bounds_what_is_read(tmp_path, kept):
    """What fits is taken, then nothing more; it is told; when the store is back all of it is kept, once."""
    broken = Broken(tmp_path)
    one = kept(most=10, every=1000)
    wait_for(lambda: one.archived.error)
    first = one.add(*records(range(10)))
    assert one.add(*records(range(10, 20))) == REFUSED or one.add(*records(range(20, 30))) == REFUSED
    assert not one.wait(first, 0.05)
    assert one.durable < first
    assert str(tmp_path) in one.archived.error
    assert one.archived.failures
    broken.mend()
    assert one.wait(first, PATIENCE)
    assert one.archived.error == ""
    assert set(ids(tmp_path)) >= {f"m-{n}" for n in range(10)}


def test_what_was_not_durable_at_the_end_is_not_there(tmp_path, kept):
    """A close does not wait for a store that is away: nothing was promised."""
    Broken(tmp_path)
    one = kept(pace=Pace(backoff=(60.0, 60.0)))
    number = one.add(*records([1]))
    before = time.monotonic()
    one.close()
    assert time.monotonic() - before < 5
    assert one.durable < number


def test_an_archive_that_is_not_required_tells_its_holes(tmp_path, kept):
    """What could not be kept is passed over after a while, noted before that is said, and told by the manifest."""
    broken = Broken(tmp_path)
    one = kept(required=False)
    number = one.add(*records(range(5)))
    assert one.wait(number, PATIENCE)
    assert (one.archived.lost, one.archived.records) == (5, 0)
    assert (tmp_path / "archive-holes.json").read_text().count("the store was away") == 1
    broken.mend()
    assert one.wait(one.add(*records(range(5, 8))), PATIENCE)
    assert one.wait(one.add(*records(range(8, 10))), PATIENCE)
    one.close()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [(gap.since, gap.until, gap.cause) for gap in held.gaps] == [
        (1000, 1004, "5 records given up: the store was away")
    ]
    assert held.records == 5
    assert (tmp_path / "archive-holes.json").read_text() == "[]"


def test_a_hole_survives_the_process(tmp_path, kept):
    """The next one tells it, however the first one ended."""
    broken = Broken(tmp_path)
    one = kept(required=False)
    assert one.wait(one.add(*records(range(5))), PATIENCE)
    one.close()
    broken.mend()
    keep(tmp_path, [range(5, 6)])
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [gap.cause for gap in held.gaps] == ["5 records given up: the store was away"]


def test_a_hole_that_cannot_be_noted_is_not_passed_over(tmp_path, kept):
    """Neither the store nor the spool's folder can be written: it waits."""
    broken = Broken(tmp_path)
    (tmp_path / "archive-holes.tmp").mkdir()
    one = kept(required=False)
    number = one.add(*records(range(5)))
    assert not one.wait(number, 0.3)
    (tmp_path / "archive-holes.tmp").rmdir()
    assert one.wait(number, PATIENCE)
    broken.mend()


def test_numbers_and_runs_go_on_after_a_restart(tmp_path):
    """Two runs are one chain without a gap; what the first left half written is gone."""
    keep(tmp_path, [range(3), range(3, 6)], reached=2000)
    left = files(tmp_path)[0]
    half = left.with_name(left.name.replace("-0000000001-", "-0000000009-") + ".tmp")
    half.write_bytes(b"half")
    keep(tmp_path, [range(6, 9)], reached=3000)
    assert not half.exists()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert (held.segments, held.records, held.gaps) == (3, 9, [])
    assert [(run.since, run.until) for run in held.watched] == [(2000, 3000)]


def test_a_segment_that_somebody_removed_is_missed(tmp_path):
    """In the middle, and at the end."""
    keep(tmp_path, [[1], [2], [3], [4]])
    for path in files(tmp_path)[1::2]:
        path.unlink()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [gap.cause for gap in held.gaps] == ["segments missing: 2", "segments missing: 4"]


def test_old_segments_are_deleted(tmp_path, kept):
    """Whole ones, when all in them is older than `keep`; what is left is no gap."""
    now = time.time_ns() // 1000
    keep(tmp_path, [[1], [2]])
    one = kept(keep="1h", pace=Pace(backoff=QUICK.backoff, prune=0.0))
    assert one.wait(one.add(*records([3], at=now)), PATIENCE)
    wait_for(lambda: len(files(tmp_path)) == 1)
    wait_for(lambda: len(files(tmp_path, ".index")) == 1)
    one.close()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert (held.records, held.gaps) == (1, [])


def test_a_wrong_key_ends_it_at_once(tmp_path, kept):
    """It does not write under a second key beside a manifest that it cannot read."""
    keep(tmp_path, [[1]])
    one = archive(tmp_path, key=key_file(tmp_path, OTHER))
    one.start()
    with pytest.raises(Unreadable, match=r"orders/one.manifest: its key [0-9a-f]+ is not known"):
        wait_for(lambda: one.add(*records([2])) == REFUSED)
    one.close()


def test_a_key_that_is_away_is_waited_for(tmp_path, kept):
    """A secret that is being exchanged is not there for a moment."""
    one = kept()
    assert one.wait(one.add(*records([1])), PATIENCE)
    (tmp_path / "key").rename(tmp_path / "elsewhere")
    number = one.add(*records([2]))
    assert not one.wait(number, 0.05)
    assert "No such file" in one.archived.error
    (tmp_path / "elsewhere").rename(tmp_path / "key")
    assert one.wait(number, PATIENCE)


def test_a_content_that_is_not_what_was_observed_is_a_defect(tmp_path):
    """It stops the collector rather than keep a wrong payload, and does not show it."""
    one = archive(tmp_path)
    one._contents = lambda raw, event: Content(raw.key, b"something else", {})
    with pytest.raises(ConfigInvalid, match="not what it observed") as raised:
        one.add(*records([1]))
    assert "something" not in str(raised.value)


def test_quiet_hops_are_vouched_for_too(tmp_path, kept):
    """With nothing to keep the manifest is written now and then, and at the end."""
    one = kept(pace=Pace(backoff=QUICK.backoff, idle=20.0))
    one.vouch([LOG], 1000)
    one.vouch([LOG], 5000)
    wait_for(lambda: files(tmp_path, ".manifest"))
    one.vouch([LOG], 9000)
    one.close()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [(run.since, run.until) for run in held.watched] == [(1000, 9000)] or held.watched[0].until == 9000


def test_a_list_that_is_given_again_counts(tmp_path, kept):
    """The same object, as a collector of thousands of partitions gives it, until its last word; then another list."""
    one = kept()
    wait_for(lambda: one._books.loaded)
    for reached in (1000, None, 5000, None):
        one.vouch(ALWAYS, reached)
    one.vouch([], 6000)
    for reached in (7000, 9000):
        one.vouch(ALWAYS, reached)
    one.close()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [(run.since, run.until) for run in held.watched] == [(1000, 5000), (7000, 9000)]


def test_a_list_that_came_before_the_manifest_counts(tmp_path, kept):
    """It could not be held against what the process before vouched for; the same list again can."""
    one = archive(tmp_path)
    one.vouch(ALWAYS, 1000)
    one.vouch(ALWAYS, 2000)
    one.start()
    wait_for(lambda: one._books.loaded)
    one.close()
    (held,) = Archives(Place(**place(tmp_path))).held()
    assert [(run.since, run.until) for run in held.watched] == [(2000, 2000)]


def test_nothing_is_touched_before_the_start(tmp_path):
    """A configuration is checked without a trace."""
    one = archive(tmp_path)
    one.close()
    assert not (tmp_path / "archive").exists()
    assert one.archived == Archived()
    assert threading.active_count() >= 1


def test_a_log_of_any_size_takes_bounded_memory(tmp_path, kept):
    """Never more than two generations and a batch wait."""
    one = kept(most=50, every=1000)
    most = 0
    for start in range(0, 2000, 10):
        while (number := one.add(*records(range(start, start + 10)))) == REFUSED:
            one.room(PATIENCE)
        most = max(most, one.archived.waiting_records)
    assert one.wait(number, PATIENCE)
    assert most <= 110
    assert len(set(ids(tmp_path))) == 2000
    assert content(*record(1)) == Content(b"k", b"value 1", {"x-message-id": b"m-1"})
