"""What becomes of requests while the store is down or slow: they go to the spool, and from there to the store."""

import threading
import time
from functools import partial
from itertools import count

import pytest

from tests.unit.ingest.lines import NOW, batch, event
from tests.unit.ingest.test_commit import REPORT, Recorder
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.errors import Busy
from tracker.ingest.spool import ASIDE, Spool
from tracker.model.errors import Invalid, Unavailable


class Names(Recorder):
    """Remembers which events were inserted."""

    def __init__(self):
        super().__init__()
        self.names = []
        self.insert_events = partial(self._events)

    def _events(self, columns):
        self._insert("events", columns)
        self.names += columns["message_id"].to_pylist()


def down(columns):
    """No answer."""
    return Unavailable("gone")


def ids(columns):
    """The ids in a table of events."""
    return columns["message_id"].to_pylist() if "message_id" in columns.column_names else []


def until(true, patience=10.0):
    """Wait for it."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def store():
    """A store that takes everything."""
    return Names()


@pytest.fixture
def spool_of(tmp_path):
    """Opens the spool; each time as a new process."""
    ticks, opened = count(NOW), []

    def make(limit=1 << 20):
        opened.append(Spool.open(tmp_path, limit, fsync=False, ledger="x", clock=lambda: next(ticks)))
        return opened[-1]

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def committer_of(store, spool_of):
    """Makes committers on that store, with a spool."""
    made = []

    def make(limit=1 << 20, **bounds):
        made.append(Committer(store, Bounds(**{"wait": 0, "patience": 30, **bounds}), spool=spool_of(limit)))
        return made[-1]

    yield make
    store.gate.set()
    for committer in made:
        committer.close()


def send(committer, *names):
    """Requests of one event and one report each; their answers."""
    return [committer.submit(batch(event(message_id=name), header=REPORT)) for name in names]


def test_a_store_that_is_down_is_nobodys_trouble(store, committer_of):
    """Requests are answered once they are on disk; the store gets all in order when it is back, and nothing is left."""
    store.refuse = down
    committer = committer_of()
    for name in "abcd":
        assert send(committer, name)[0].result(10).accepted == 1
    assert (store.names, committer.behind(), committer.held) == ([], True, 0)
    store.refuse = lambda columns: None
    until(lambda: not committer.spool.holds)
    assert (store.names, committer.behind(), committer.drained) == (list("abcd"), False, 8)
    assert send(committer, "e")[0].result(10).accepted == 1
    assert store.names == list("abcde")


def test_reports_come_out_behind_the_events_they_vouch_for(store, committer_of):
    """Also when several requests go from the spool into the store together."""
    store.refuse = down
    committer = committer_of()
    for answer in send(committer, *"abc"):
        answer.result(10)
    store.refuse = lambda columns: None
    until(lambda: not committer.spool.holds)
    assert [name for name, _ in store.inserts] == ["events", "reports"]


def test_what_comes_while_something_waits_goes_behind_it(store, committer_of):
    """Nothing overtakes what is in the spool, though the store takes events again."""
    store.refuse = lambda columns: Unavailable("gone") if "a" in ids(columns) else None
    committer = committer_of()
    send(committer, "a")[0].result(10)
    for answer in send(committer, *"bcd"):
        answer.result(10)
    assert store.names == []
    store.refuse = lambda columns: None
    until(lambda: not committer.spool.holds)
    assert store.names == list("abcd")


def test_a_store_that_hangs_holds_nobody_up(store, committer_of):
    """After a while those who wait are answered from the spool, also those whose insert hangs; then nothing is
    missing, whether that insert comes to its end or not."""
    store.gate.clear()
    committer = committer_of(patience=0.02)
    answers = send(committer, "a")
    until(lambda: committer._inserting)
    answers += send(committer, "b", "c")
    assert [answer.result(10).accepted for answer in answers] == [1, 1, 1]
    assert committer.behind()
    store.gate.set()
    until(lambda: not committer.spool.holds)
    assert sorted(set(store.names)) == ["a", "b", "c"]


def test_what_waits_in_memory_is_moved_before_it_is_full(store, committer_of):
    """Long before its patience ends: memory is for what the store takes in a moment."""
    store.gate.clear()
    size = batch(event(message_id="m-000"), header=REPORT).size
    committer = committer_of(memory=8 * size)
    answers = send(committer, "m-000")
    until(lambda: committer._inserting)
    for n in range(1, 30):
        until(lambda: committer.held <= 6 * size)
        answers += send(committer, f"m-{n:03}")
    assert all(answer.result(10).accepted for answer in answers[1:20])
    store.gate.set()
    until(lambda: sorted(set(store.names)) == [f"m-{n:03}" for n in range(30)])


def test_a_full_spool_is_told_with_the_reason(store, committer_of):
    """Both reasons are named; what was answered is kept; when the store is back all is taken again."""
    store.refuse = down
    committer = committer_of(limit=9000)
    taken: list[str] = []
    while (answer := send(committer, f"m-{len(taken)}")[0]).exception(10) is None:
        taken.append(f"m-{len(taken)}")
    assert taken
    assert isinstance(answer.exception(), Busy)
    assert "full" in str(answer.exception())
    store.refuse = lambda columns: None
    until(lambda: not committer.spool.holds)
    assert store.names == taken
    assert send(committer, "z")[0].result(10).accepted == 1


def test_without_room_the_stores_reason_is_told_too(store, committer_of):
    """The first one that finds the store down and the spool without room hears of both."""
    store.refuse = down
    with pytest.raises(Busy, match=r"gone; .*TRACKER_SPOOL_MB"):
        send(committer_of(limit=10), "a")[0].result(10)


def test_what_the_engine_refuses_is_in_nobodys_way(store, committer_of, tmp_path):
    """A spooled batch that will never be taken is set aside; its neighbours are stored."""
    store.refuse = down
    committer = committer_of()
    for answer in send(committer, *"abc"):
        answer.result(10)
    store.refuse = lambda c: Invalid("no") if "b" in ids(c) else None
    until(lambda: not committer.spool.holds)
    assert store.names == ["a", "c"]
    assert len(list((tmp_path / ASIDE).iterdir())) == 1


def test_senders_that_are_quicker_than_the_store_do_not_keep_the_spool_alive(store, committer_of):
    """They are answered at the pace of the store once it takes events again, so that the spool comes to its end and
    nobody waits for ever for a verdict."""
    store.refuse = down
    committer = committer_of(rows=4)
    for n in range(40):
        send(committer, f"a-{n}")[0].result(10)
    store.refuse = lambda columns: time.sleep(0.002)
    ended = threading.Event()
    sent = []

    def sender(name):
        for n in count():
            if ended.is_set():
                return
            sent.append(f"{name}-{n}")
            send(committer, sent[-1])[0].result(10)

    threads = [threading.Thread(target=sender, args=(name,)) for name in "bcde"]
    for thread in threads:
        thread.start()
    until(lambda: not committer.spool.holds, 30)
    ended.set()
    for thread in threads:
        thread.join(10)
    until(lambda: not committer.spool.holds)
    assert sorted(store.names) == sorted([*sent, *(f"a-{n}" for n in range(40))])


def test_an_end_while_the_store_is_down_keeps_everything(store, committer_of, spool_of):
    """What waits goes to the spool, quickly; the next process stores it."""
    store.refuse = down
    first = committer_of()
    answers = send(first, *"abc")
    first.close()
    assert [answer.result(0).accepted for answer in answers] == [1, 1, 1]
    with pytest.raises(Busy, match="shutting down"):
        send(first, "d")
    first.spool.close()
    store.refuse = lambda columns: None
    second = committer_of()
    until(lambda: not second.spool.holds)
    assert store.names == list("abc")
