from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from collectors.errors import SpoolHeld
from collectors.segment import HEADER, Kind, Segment
from collectors.spool import _END, REFUSED, Spool


def lines_of(spool, start=0):
    """The payloads of lines from a position on."""
    return [record.payload for record in spool.read(start) if record.kind is Kind.lines]


def test_what_was_appended_is_read_in_order(tmp_path):
    """Lines come out as they went in, over several segments."""
    spool = Spool(tmp_path, segment=4096, limit=2**20)
    for i in range(200):
        assert spool.append(Kind.lines, b"%d\n" % i * 20, 1) != REFUSED
    assert lines_of(spool) == [b"%d\n" % i * 20 for i in range(200)]
    assert len(list(tmp_path.glob("*.seg"))) > 2
    spool.close()


def test_positions_go_on_after_a_restart(tmp_path):
    """A new process reads what the old one left, and its positions lie behind it."""
    spool = Spool(tmp_path)
    end = spool.append(Kind.lines, b"a\n", 1)
    spool.close()
    again = Spool(tmp_path)
    assert again.append(Kind.lines, b"b\n", 1) > end
    assert lines_of(again) == [b"a\n", b"b\n"]
    again.close()


def test_acknowledged_segments_are_deleted(tmp_path):
    """A segment goes when everything in it was acknowledged, and only then."""
    spool = Spool(tmp_path, segment=4096, limit=2**20)
    ends = [spool.append(Kind.lines, bytes(1000), 1) for _ in range(20)]
    before = spool.used
    spool.release(ends[9], 10)
    assert spool.used < before
    assert len(lines_of(spool, ends[9])) == 10
    spool.release(ends[-1], 10)
    assert len(list(tmp_path.glob("*.seg"))) == 1
    spool.close()


def test_a_full_spool_refuses_and_counts(tmp_path):
    """At the bound lines are refused and counted; the disk never holds more than the bound."""
    spool = Spool(tmp_path, segment=4096, limit=4 * 4096)
    answers = [spool.append(Kind.lines, bytes(900), 1) for _ in range(30)]
    assert answers.count(REFUSED) == spool.refused > 0
    assert spool.used <= spool.limit
    spool.close()


def test_refused_lines_get_their_place_in_the_log(tmp_path):
    """What was refused is written down before the first line that is taken again."""
    spool = Spool(tmp_path, segment=4096, limit=4 * 4096)
    taken = 0
    while (end := spool.append(Kind.lines, bytes(900), 1)) != REFUSED:
        taken = end
    spool.append(Kind.lines, bytes(900), 1)
    spool.release(taken, 0)
    assert spool.append(Kind.lines, b"after\n", 1) != REFUSED
    kinds = [(record.kind, record.lines) for record in spool.read(taken)]
    assert kinds == [(Kind.dropped, 2), (Kind.lines, 1)]
    assert spool.drained(spool.end)[1] == 0
    spool.close()


def test_refused_lines_are_remembered_over_a_restart(tmp_path):
    """A line that was refused just before the process died is still declared by the next one."""
    spool = Spool(tmp_path, limit=4 * 4096)
    spool.append(Kind.lines, bytes(spool.largest + 1), 1)
    spool.close()
    again = Spool(tmp_path, limit=4 * 4096)
    assert again.drained(again.end)[1] == 1
    again.settle(1)
    assert again.drained(again.end)[1] == 0
    again.close()


def test_a_disk_without_room_refuses(tmp_path, monkeypatch):
    """A segment that cannot be reserved is a refusal, not an error to the caller, and no half file stays."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    spool = Spool(tmp_path)
    assert spool.append(Kind.lines, b"a\n", 1) == REFUSED
    assert list(tmp_path.glob("*.seg")) == []
    spool.close()


def test_a_folder_has_one_process(tmp_path):
    """A second spool on the folder is told who holds it and what to do; after close it may have it."""
    spool = Spool(tmp_path)
    with pytest.raises(SpoolHeld, match=rf"{tmp_path}.*{os.getpid()}.*another folder"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


@pytest.mark.parametrize("cut", [1, HEADER - 1, HEADER, HEADER + 3])
def test_a_torn_tail_is_cut(tmp_path, cut):
    """A record cut short at any byte is gone, those before it are not, and the spool goes on."""
    spool = Spool(tmp_path)
    keep = spool.append(Kind.lines, b"whole\n", 1)
    spool.append(Kind.lines, b"torn\n", 1)
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    os.truncate(path, keep + cut)
    again = Spool(tmp_path)
    assert again.lacks(0)  # the append had returned, so this one was lost, not interrupted
    again.append(Kind.lines, b"next\n", 1)
    assert lines_of(again) == [b"whole\n", b"next\n"]
    again.close()


def test_a_flipped_bit_is_damage(tmp_path):
    """Bytes that do not fit their checksum are never given out, and the spool says that it is damaged."""
    spool = Spool(tmp_path)
    keep = spool.append(Kind.lines, b"whole\n", 1)
    spool.append(Kind.lines, b"other\n", 1)
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    content = bytearray(path.read_bytes())
    content[keep + HEADER] ^= 1
    path.write_bytes(content)
    again = Spool(tmp_path)
    assert again.lacks(0)
    assert not again.lacks(10**6)
    assert lines_of(again) == [b"whole\n"]
    again.close()


def test_a_record_that_was_interrupted_is_no_loss(tmp_path):
    """Killed between payload and header: that append never returned, so nothing is lacking."""
    spool = Spool(tmp_path)
    keep = spool.append(Kind.lines, b"whole\n", 1)
    spool.unlock()
    (path,) = tmp_path.glob("*.seg")
    with path.open("r+b") as file:
        file.seek(keep + HEADER)
        file.write(b"half a payl")
    again = Spool(tmp_path)
    assert not again.lacks(0)
    assert lines_of(again) == [b"whole\n"]
    again.close()


def test_deleted_segments_are_a_loss(tmp_path):
    """Somebody cleaned up: the spool says that records are lacking, unless they had been acknowledged."""
    spool = Spool(tmp_path)
    end = spool.append(Kind.lines, b"a\n", 1)
    spool.close()
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    again = Spool(tmp_path)
    assert again.lacks(0)
    assert not again.lacks(end)
    again.close()


def test_an_unused_tail_is_no_damage(tmp_path):
    """A segment whose process died before it was full ends in zeros: nothing is lost."""
    spool = Spool(tmp_path)
    spool.append(Kind.lines, b"a\n", 1)
    spool.unlock()  # the process is gone without a close
    again = Spool(tmp_path)
    assert not again.lacks(0)
    assert lines_of(again) == [b"a\n"]
    again.close()


def half_full(folder):
    """A spool that may have 16 segments, and is in the middle of its first."""
    spool = Spool(folder, segment=4096, limit=2**16)
    for _ in range(3):
        spool.append(Kind.lines, bytes(800), 1)
    return spool


def test_who_appends_waits_for_no_file(tmp_path, monkeypatch):
    """The sender has made the next segment. To go over to it opens, reserves and cuts nothing; afterwards the sender
    gives back what was left of the old one."""
    spool = half_full(tmp_path)
    spool.prepare()
    with monkeypatch.context() as without:
        for name in ("create", "seal"):
            without.setattr(Segment, name, None)
        ends = [spool.append(Kind.lines, bytes(800), 1) for _ in range(4)]
    assert REFUSED not in ends
    assert len(lines_of(spool)) == 7
    first, second = sorted(tmp_path.glob("*.seg"))
    assert (first.stat().st_size, second.stat().st_size) == (4096, 4096)
    spool.prepare()
    assert first.stat().st_size == 4 * (800 + HEADER)
    spool.close()


def test_nothing_is_prepared_before_it_is_needed(tmp_path):
    """At the start, then once the segment is half full, once each; within the bound. Who closes leaves none behind."""
    spool = Spool(tmp_path, segment=4096, limit=3 * 4096)
    sizes = []
    for _ in range(12):
        spool.prepare()
        spool.prepare()
        sizes.append(len(list(tmp_path.glob("*.seg"))))
        assert spool.used == sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= spool.limit
        spool.append(Kind.lines, bytes(1000), 1)
    assert sizes == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    spool.close()
    assert len(list(tmp_path.glob("*.seg"))) == 3
    empty = Spool(tmp_path / "other")
    empty.prepare()
    empty.close()
    assert list((tmp_path / "other").glob("*.seg")) == []


def test_who_appends_while_the_next_one_is_made_waits_for_that(tmp_path, monkeypatch):
    """Both need it at once: it is made once, and no line is refused."""
    spool, making, create = half_full(tmp_path), threading.Event(), Segment.create
    made = []

    def slow(*args, **more):
        making.set()
        time.sleep(0.05)
        made.append(create(*args, **more))
        return made[-1]

    monkeypatch.setattr(Segment, "create", slow)
    sender = threading.Thread(target=spool.prepare)
    sender.start()
    making.wait(10)
    assert REFUSED not in [spool.append(Kind.lines, bytes(800), 1) for _ in range(4)]
    sender.join(10)
    assert len(made) == 1
    assert len(lines_of(spool)) == 7
    spool.close()


def test_a_disk_that_is_full_when_it_is_prepared_for(tmp_path, monkeypatch):
    """No error, and no half file: who needs the segment tries again."""
    spool = half_full(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        spool.prepare()
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert REFUSED not in [spool.append(Kind.lines, bytes(800), 1) for _ in range(4)]
    spool.close()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_killed_with_the_next_segment_ready(tmp_path, count):
    """Before it is gone over to, and after: nothing is lost, nothing looks lost, and the next process goes on."""
    spool = half_full(tmp_path)
    spool.prepare()
    for _ in range(count):
        spool.append(Kind.lines, bytes(800), 1)
    spool.unlock()
    again = Spool(tmp_path, segment=4096, limit=2**16)
    assert not again.lacks(0)
    again.resume(0, 0)
    assert [again.append(Kind.lines, b"next\n", 1) for _ in range(3)] != [REFUSED] * 3
    assert lines_of(again) == [bytes(800)] * (3 + count) + [b"next\n"] * 3
    again.close()


def test_killed_in_the_first_record_of_a_segment(tmp_path):
    """That append had not returned. What the next process appends is taken, though a file of that name was there."""
    spool = half_full(tmp_path)
    spool.append(Kind.lines, bytes(800), 1)
    spool.append(Kind.lines, b"torn".ljust(800), 1)
    spool.close()
    first, second = sorted(tmp_path.glob("*.seg"))
    second.write_bytes(bytes(HEADER) + b"half a record" + bytes(4059))
    end = _END.pack(first.stat().st_size)
    with (tmp_path / "counters").open("r+b") as counters:
        counters.seek(16)
        counters.write(end)
    again = Spool(tmp_path, segment=4096, limit=2**16)
    assert not again.lacks(0)
    assert again.append(Kind.lines, b"next\n", 1) != REFUSED
    assert lines_of(again) == [bytes(800)] * 4 + [b"next\n"]
    again.close()


def test_records_lost_at_the_end_of_a_segment_that_was_left(tmp_path):
    """Zeros where records were are not room that was never used."""
    spool = half_full(tmp_path)
    for _ in range(3):
        spool.append(Kind.lines, bytes(800), 1)
    spool.unlock()
    first = min(tmp_path.glob("*.seg"))
    content = first.read_bytes()
    assert not Spool(tmp_path, segment=4096).lacks(0)
    first.write_bytes(content[: 3 * (800 + HEADER)].ljust(4096, b"\0"))
    (tmp_path / "lock").unlink()
    damaged = Spool(tmp_path, segment=4096)
    assert damaged.lacks(0)
    damaged.close()


def test_a_sigkill_loses_nothing_that_was_appended(tmp_path):
    """Every line whose append returned before SIGKILL is there for the next process, while another thread makes and
    ends the files."""
    program = textwrap.dedent("""
        import sys
        import threading
        from pathlib import Path
        from collectors.segment import Kind
        from collectors.spool import Spool
        spool = Spool(Path(sys.argv[1]), segment=65536)
        threading.Thread(target=lambda: [spool.prepare() for _ in iter(int, 1)], daemon=True).start()
        for i in range(10**9):
            spool.append(Kind.lines, b"%d\\n" % i, 1)
            if i % 1000 == 0:
                print(i, flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        told = 0
        while told < 20_000:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    told = int(rest[-1]) if rest else told
    spool = Spool(tmp_path)
    found = [int(line) for line in lines_of(spool)]
    assert not spool.lacks(0)
    assert found == list(range(len(found)))
    assert len(found) > told
    spool.close()


def test_a_signal_handler_writes_while_its_thread_does(tmp_path):
    """A handler, or a finalizer, that emits or loses something in the middle of an append: nothing waits for ever, and
    nothing is written over or forgotten."""
    due: list[Callable[[], None]] = []

    def clock():
        if due:
            due.pop()()
        return 5

    spool = Spool(tmp_path, clock=clock)

    def handler():
        assert spool.append(Kind.lines, b"inner\n", 1) != REFUSED
        spool.lost(3)

    due.append(handler)
    writer = threading.Thread(target=spool.append, args=(Kind.lines, b"outer\n", 1), daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive(), "the thread waits for itself"
    spool.append(Kind.lines, b"later\n", 1)
    assert lines_of(spool) == [b"outer\n", b"inner\n", b"later\n"]
    assert [record.lines for record in spool.read(0) if record.kind is Kind.dropped] == [3]
    assert (spool.appended, spool.refused) == (3, 3)
    spool.close()


def test_what_comes_after_the_end_is_refused(tmp_path):
    """The folder may be another process's by then: no file of ours appears in it, and nothing is counted there."""
    spool = Spool(tmp_path)
    spool.append(Kind.lines, b"a\n", 1)
    spool.close()
    heir = Spool(tmp_path)
    assert spool.append(Kind.lines, b"late\n", 1) == REFUSED
    spool.lost(1)
    assert heir.append(Kind.lines, b"b\n", 1) != REFUSED
    assert lines_of(heir) == [b"a\n", b"b\n"]
    assert heir.refused == 0
    heir.close()


def test_what_children_lost_is_told_once(tmp_path):
    """Also by the next process, where the one that they came from died before it could."""
    spool = Spool(tmp_path)
    spool.lost_in_child(2)
    assert spool.orphaned()[1] == 2
    assert spool.orphaned()[1] == 0
    assert (spool.refused, spool.drained(spool.end)[1]) == (2, 0)
    spool.settle(2)
    spool.lost_in_child(1)
    spool.close()
    heir = Spool(tmp_path)
    assert heir.orphaned()[1] == 1
    assert heir.refused == 3
    heir.close()


def test_a_signal_handler_closes_while_its_thread_writes(tmp_path):
    """What was being written is there for the next process."""
    due: list[Callable[[], None]] = []

    def clock():
        if due:
            due.pop()()
        return 5

    spool = Spool(tmp_path, clock=clock)
    spool.append(Kind.lines, b"first\n", 1)
    due.append(spool.close)
    assert spool.append(Kind.lines, b"second\n", 1) != REFUSED
    spool.unlock()
    heir = Spool(tmp_path)
    assert lines_of(heir) == [b"first\n", b"second\n"]
    heir.close()
