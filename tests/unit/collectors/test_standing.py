from __future__ import annotations

import msgspec
import pytest

from collectors import standing
from collectors.errors import ConfigInvalid
from collectors.sources import MOST, Sources
from collectors.standing import Pending, Standing, load, save
from tracker.model.coverage import Report, SourceRef

A, B = (SourceRef("orders", "log", "persist", f"t/{i}") for i in range(2))
NOW = 1_800_000_000_000_000


def whole(_acknowledged):
    """A spool that lacks nothing."""
    return False


@pytest.fixture
def left(tmp_path):
    """What an earlier process left, mid-way in a report; its path."""
    path = tmp_path / "standing.json"
    pending = Pending(report=Report(collector="c", epoch=5, sequence=8, events=2), start=10, end=20, reached=NOW)
    old = load(path, "c", NOW, whole)
    save(path, msgspec.structs.replace(old, epoch=5, sequence=7, acknowledged=10, sources=[A], pending=pending))
    return path


def test_the_first_start_is_a_new_epoch(tmp_path):
    """The start time in milliseconds; nothing is vouched for before what the spool holds is known to be all."""
    fresh = load(tmp_path / "standing.json", "c", NOW, whole)
    assert (fresh.epoch, fresh.sequence, fresh.blind_until) == (NOW // 1000, 0, 0)
    assert load(tmp_path / "standing.json", "c", NOW, lambda _: True).blind_until == NOW


def test_epoch_sequence_and_pending_report_go_on(left):
    """After a SIGKILL the report that was on its way is sent again as it was."""
    found = load(left, "c", NOW + 1, whole)
    assert (found.epoch, found.sequence, found.acknowledged, found.sources) == (5, 7, 10, [A])
    assert found.pending is not None
    assert found.pending.report.sequence == 8


def test_lost_records_begin_a_new_epoch(left, caplog):
    """Sources stay open, the acknowledged position too; nothing is vouched for until now, and the log says why."""
    found = load(left, "c", NOW, lambda acknowledged: acknowledged == 10)
    assert found.epoch > 5
    assert (found.sequence, found.acknowledged, found.sources, found.pending) == (0, 10, [A], None)
    assert found.blind_until == NOW
    assert "lacks records" in caplog.text


def test_the_epoch_grows_though_the_clock_went_back(left):
    """An epoch of a past clock is still later than the one before."""
    assert load(left, "c", 1000, lambda _: True).epoch == 6


def test_another_name_begins_anew(left):
    """The sources of somebody else are not ours to end."""
    found = load(left, "d", NOW, whole)
    assert (found.collector, found.sequence, found.sources) == ("d", 0, [])


def test_a_host_that_went_down_begins_a_new_epoch(left, monkeypatch):
    """Page cache that was not written may be gone without a trace; after an orderly close nothing was in it."""
    monkeypatch.setattr(standing, "_boot", lambda: "another run")
    assert load(left, "c", NOW, whole).epoch > 5
    old = msgspec.json.decode(left.read_bytes(), type=Standing)
    save(left, msgspec.structs.replace(old, boot=""))
    assert load(left, "c", NOW, whole).epoch == 5


def test_an_unreadable_standing_begins_anew(tmp_path, caplog):
    """Half a file is said, and is no reason to stop."""
    (tmp_path / "standing.json").write_bytes(b'{"collector": "c", "epo')
    assert load(tmp_path / "standing.json", "c", NOW, whole).sequence == 0
    assert "unreadable" in caplog.text


def test_what_was_given_up_is_not_counted_again():
    """A pending report without events stands for lines that are in the spool and will not be sent."""
    pending = Pending(report=Report(collector="c", epoch=1, sequence=1, dropped=1), start=10, end=20, reached=None)
    assert Standing(collector="c", epoch=1, acknowledged=10, pending=pending).undelivered == 20
    assert Standing(collector="c", epoch=1, acknowledged=10).undelivered == 10


def test_what_a_reader_leaves_out_is_let_go():
    """Named until it has its place in the log, however often replace is called."""
    sources = Sources()
    assert sources.replace([A, B], NOW) == []
    assert sources.replace([A], NOW) == [B]
    assert sources.replace([A], NOW) == [B]
    sources.told()
    assert sources.replace([A], NOW) == []
    assert sources.listed() == [A]


def test_an_inherited_source_that_nobody_announces_is_let_go():
    """A partition that the last process had and this one does not."""
    sources = Sources([A, B])
    assert sources.listed() == [A, B]
    assert sources.replace([A], NOW) == [B]
    assert sources.inherited() == []


def test_a_new_source_begins_at_its_time():
    """A report dated before does not list it; one that was inherited goes on."""
    sources = Sources([A])
    sources.replace([A, B], NOW)
    assert sources.begun([A, B], NOW - 1) == [A]
    assert sources.begun([A, B], NOW) == [A, B]
    sources.let_go([A], NOW + 5)
    assert sources.begun([A, B], NOW) == [B]


def test_a_beginning_outlives_the_process():
    """What nobody watched before it is not claimed by the next process either."""
    before = Sources()
    before.replace([A], NOW)
    after = Sources([A], before.begins(NOW - 5))
    after.replace([A], NOW + 5)
    assert after.begun([A], NOW - 1) == []
    assert after.begun([A], NOW) == [A]


def test_what_was_let_go_begins_anew_in_the_next_process_too():
    """It announces the source before it knows how far it has read: its reports are dated as the last ones were."""
    before = Sources()
    before.replace([A, B], NOW - 9)
    before.replace([B], NOW - 9)
    before.told()
    before.let_go([A], NOW)
    after = Sources([B], before.begins(NOW - 1))
    assert after.replace([A, B], NOW - 10**15) == []
    assert after.begun([A, B], NOW - 1) == [B]
    assert after.begun([A, B], NOW) == [A, B]
    after.replace([A, B], NOW + 1)
    assert after.begun([A], NOW) == [A]


def test_what_was_let_go_is_forgotten_once_no_report_can_be_dated_before():
    """Queues and partitions come and go for ever."""
    sources = Sources()
    sources.replace([A, B], NOW - 9)
    sources.replace([B], NOW - 9)
    sources.let_go([A], NOW)
    assert sources.begins(NOW - 1) == [(A, NOW), (B, NOW - 9)]
    assert sources.begins(None) == [(A, NOW), (B, NOW - 9)]
    assert sources.begins(NOW) == [(B, NOW - 9)]


def test_a_source_signed_off_and_announced_again_does_not_end():
    """The sign-off that is still in the log finds it announced."""
    sources = Sources()
    sources.add([A])
    assert sources.end([A]) == [A]
    assert sources.still_ending([A]) == [A]
    sources.add([A])
    assert sources.still_ending([A]) == []
    assert sources.end([B]) == []


def test_more_sources_than_a_report_holds():
    """The error says what to do."""
    with pytest.raises(ConfigInvalid, match="share them out"):
        Sources().replace([SourceRef("f", "h", "ack", str(i)) for i in range(MOST + 1)], 0)


def test_moments_of_a_clock_that_was_set_back_are_not_believed(left):
    """In the future nothing was read yet: neither is it vouched for, nor does a source begin there."""
    old = msgspec.json.decode(left.read_bytes(), type=Standing)
    save(left, msgspec.structs.replace(old, reached=NOW, blind_until=NOW, begins=[(A, NOW)]))
    found = load(left, "c", NOW - 60_000_000, whole)
    assert (found.reached, found.pending.reached) == (None, None)
    assert (found.blind_until, found.begins) == (NOW - 60_000_000, [(A, NOW - 60_000_000)])
    later = load(left, "c", NOW + 1, whole)
    assert (later.reached, later.pending.reached, later.begins) == (NOW, NOW, [(A, NOW)])
