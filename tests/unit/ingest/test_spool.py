"""What the spool keeps, and what becomes of files that a crash, a full disk or a bad one left."""

import errno
import os
from itertools import count

import pytest

from tests.unit.ingest.lines import NOW, batch, event
from tracker.ingest import segment
from tracker.ingest.batch import Batch
from tracker.ingest.errors import Busy
from tracker.ingest.spool import ASIDE, Spool
from tracker.model.errors import Invalid, Unavailable

REPORT = '{"collector": "c", "epoch": 1, "sequence": 1, "sources": []}'
LEDGER = "0190163d"


def opened(folder, limit=1 << 20, ledger=LEDGER, each=1 << 16) -> Spool:
    """A spool as a tracker opens it, without fsync; its clock ticks."""
    ticks = count(NOW)
    return Spool.open(folder, limit, fsync=False, ledger=ledger, clock=lambda: next(ticks), each=each)


def one(name: str) -> Batch:
    """A batch of one event with this id, a bad line and a report."""
    return batch(event(message_id=name), b"bad", header=REPORT)


def names(spool, rows=1_000_000) -> list[str]:
    """The ids that wait, oldest first; all of it is taken out."""
    found = []
    while held := spool.peek(rows):
        found += [name for h in held for name in h.batch.events["message_id"].to_pylist()]
        spool.done(held[-1])
    return found


def test_what_goes_in_comes_out_in_order_and_leaves_no_file(tmp_path):
    """All four tables come back as they were; when everything is done nothing is left on disk."""
    spool = opened(tmp_path)
    spool.append([one("a"), one("b")])
    spool.append([one("c")])
    held = spool.peek(1000)
    assert [h.batch.events for h in held] == [one(name).events for name in "abc"]
    assert held[0].batch.reports == one("a").reports
    assert held[0].batch.quarantine == one("a").quarantine
    assert (spool.holds, spool.oldest()) == (True, NOW)
    spool.done(held[1])
    assert names(spool) == ["c"]
    assert (spool.holds, spool.size, spool.oldest()) == (False, 0, None)
    assert list(tmp_path.glob("*.spool")) == []
    spool.close()


def test_it_begins_new_segments_and_removes_the_old_ones(tmp_path):
    """Segments end at their size; each is removed as soon as all of it is in the store."""
    spool = opened(tmp_path, each=5000)
    for n in range(9):
        spool.append([one(str(n))])
    assert len(list(tmp_path.glob("*.spool"))) > 2
    before = spool.size
    assert names(spool, rows=1)[:3] == ["0", "1", "2"]
    assert before > 9000
    spool.close()


def test_a_restart_goes_on_where_the_store_stands(tmp_path):
    """Another process finds what waits, in order, before what comes then."""
    spool = opened(tmp_path)
    spool.append([one("a"), one("b")])
    spool.close()
    again = opened(tmp_path)
    again.append([one("c")])
    assert names(again) == ["a", "b", "c"]
    again.close()


def test_a_torn_tail_was_answered_to_nobody(tmp_path):
    """A record that a crash cut off, at whatever byte, is left out; what stands before and after it is not."""
    spool = opened(tmp_path / "whole")
    spool.append([one("a")])
    good = spool.size
    spool.append([one("b")])
    [file] = (tmp_path / "whole").glob("*.spool")
    whole = file.read_bytes()
    spool.close()
    for cut in (good + 1, good + segment.HEAD - 1, good + segment.HEAD, good + segment.HEAD + 9, len(whole) - 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / file.name).write_bytes(whole[:cut])
        torn = opened(folder)
        torn.append([one("c")])
        assert names(torn) == ["a", "c"]
        assert (torn.set_aside, (folder / ASIDE).exists()) == (0, False)
        torn.close()


def test_what_the_disk_changed_is_set_aside_and_blocks_nobody(tmp_path):
    """A flipped bit in payload or head costs that record alone; its bytes are kept in a file of their own."""
    spool = opened(tmp_path / "whole")
    ends = []
    for name in "abc":
        spool.append([one(name)])
        ends.append(spool.size)
    [file] = (tmp_path / "whole").glob("*.spool")
    whole = file.read_bytes()
    spool.close()
    for place in (ends[0] + 1, ends[0] + 9, ends[0] + segment.HEAD + 40, ends[1] - 1):
        folder = tmp_path / str(place)
        folder.mkdir()
        changed = bytearray(whole)
        changed[place] ^= 4
        (folder / file.name).write_bytes(changed)
        bad = opened(folder)
        assert names(bad) == ["a", "c"]
        [kept] = (folder / ASIDE).iterdir()
        assert kept.read_bytes() == bytes(changed[ends[0] : ends[1]])
        assert bad.set_aside == 1
        bad.close()


def test_what_the_store_refuses_for_ever_is_set_aside(tmp_path):
    """It can be read, so it can be stored by hand; those behind it go on."""
    spool = opened(tmp_path)
    spool.append([one("a"), one("b")])
    spool.reject(spool.peek(1)[0], "type mismatch")
    [kept] = (tmp_path / ASIDE).iterdir()
    [again] = segment.records(kept, 0, kept.stat().st_size)
    assert again.batch is not None
    assert again.batch.events == one("a").events
    assert names(spool) == ["b"]
    spool.close()


def test_it_is_bounded(tmp_path):
    """Beyond its bound it says so, and names the setting; what it has stays, and when some is stored it takes more."""
    spool = opened(tmp_path, limit=3 * len(segment.record(one("a"), NOW)) + 30, each=1)
    for name in "abc":
        spool.append([one(name)])
    with pytest.raises(Busy, match="TRACKER_SPOOL_MB"):
        spool.append([one("d")])
    spool.done(spool.peek(1)[0])
    spool.append([one("e")])
    assert names(spool) == ["b", "c", "e"]
    spool.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_disk_that_is_full_or_bad_is_said_and_hides_nothing(tmp_path, monkeypatch, call, code):
    """The batch is not taken, whether writing or syncing failed; those before it stay, and later ones are taken."""
    spool = Spool.open(tmp_path, 1 << 20, fsync=True, ledger=LEDGER, clock=lambda: NOW)
    spool.append([one("a")])
    real = os.write

    def fails(file, *data):
        if data:
            real(file, bytes(data[0][:100]))  # some of it gets there
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(Busy, match="cannot be written"):
            spool.append([one("b")])
    spool.append([one("c")])
    assert names(spool) == ["a", "c"]
    spool.close()


def test_a_segment_that_cannot_be_read_leaves_the_way(tmp_path, monkeypatch):
    """An I/O error on reading costs that file, which is kept; the next segments are stored."""
    spool = opened(tmp_path, each=1)
    spool.append([one("a")])
    spool.append([one("b")])
    bad = min(tmp_path.glob("*.spool"))
    real = segment.records

    def records(path, start, until):
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, start, until)

    monkeypatch.setattr(segment, "records", records)
    assert names(spool) == ["b"]
    assert (tmp_path / ASIDE / bad.name).exists()
    spool.close()


def test_one_process_at_a_time_and_one_ledger(tmp_path):
    """A second tracker on the same folder is told, and so is one of another ledger while batches wait there."""
    spool = opened(tmp_path)
    with pytest.raises(Unavailable, match="held by another tracker"):
        opened(tmp_path)
    spool.append([one("a")])
    spool.close()
    with pytest.raises(Invalid, match="ledger of installation 0190163d"):
        opened(tmp_path, ledger="other")
    (tmp_path / "ledger").write_text("")  # a full disk left it so
    (tmp_path / "notes.spool").write_text("not one of ours")
    mine = opened(tmp_path)
    assert names(mine) == ["a"]
    mine.close()
    opened(tmp_path, ledger="other").close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """A file where the folder should be: the message says which, and what to set."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(Unavailable, match="TRACKER_SPOOL"):
        opened(tmp_path / "spool")
