from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
import redis
from msgspec.structs import replace
from redis import exceptions

from collectors.base import Unavailable
from collectors.carried import digest_of
from collectors.redis import streams as streams_module
from collectors.redis.cursor import Cursor
from collectors.redis.entry import at_offset, id_text, packed
from collectors.redis.look import looked
from collectors.redis.publisher import publisher
from collectors.redis.streams import streams
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import FORGETFUL
from tracker.cli.hops import build
from tracker.model.carry import REPLAY_ID, Copy, Locator, Missing
from tracker.model.event import Event, Stage
from tracker.replay.routes import LOG, Keeper

pytestmark = pytest.mark.brokers
PROMPT = {**FORGETFUL, "repl-diskless-sync-delay": "0"}
PATIENCE = 20.0
_names = itertools.count()


@pytest.fixture(scope="module")
def server(redis_factory):
    """One for all but those who kill it."""
    return redis_factory(PROMPT)


class Watched:
    """A stream with two groups, `billing` and `audit`, and a collector of it."""

    def __init__(self, url: str, folder, watch: str = "replica", **more):
        self.stream = f"orders-{next(_names)}"
        groups = [{"group": group, "hop": group, **more} for group in ("billing", "audit")]
        part = {"stream": self.stream, "flow": "orders", "hop": "redis", "groups": groups}
        self.config = {"url": url, "cursor": str(folder / f"{self.stream}.cursor"), "watch": watch, "streams": [part],
                       "look_every": 0.05}  # fmt: skip
        self.application = redis.Redis.from_url(url)
        self.collector = streams("one", self.config)
        self.events: list[Event] = []
        self.vouched: list[set[tuple[str, str]]] = []

    def groups(self, at: str = "0"):
        """Make them."""
        for group in ("billing", "audit"):
            self.application.xgroup_create(self.stream, group, id=at, mkstream=True)

    def add(self, *ids: str, **options):
        """Entries; their ids."""
        return [self.application.xadd(self.stream, {"x-message-id": one}, **options) for one in ids]

    def take(self, group: str, consumer: str, count: int, **options):
        """Read, and not ack."""
        answer = self.application.xreadgroup(group, consumer, {self.stream: ">"}, count=count, **options)
        return [name for _, found in answer for name, _ in found]  # type: ignore[str-unpack]

    def look(self, met: Callable[[], object] = lambda: True, since: float | None = None):
        """Read on until it has read what was there when this was called, and `met`."""
        until = time.monotonic() + PATIENCE
        began = time.monotonic()
        while time.monotonic() < until:
            try:
                raws = self.collector.read(100, 0.05)
            except Unavailable:
                time.sleep(0.05)
                continue
            for raw in raws:
                self.events += self.collector.decode(raw)
            self.collector.commit(raws)
            found = self.collector.sources()
            if found is not None:
                self.vouched.append({(one.hop, one.stage) for one in found})
            passed = self.collector.lag().ms < (time.monotonic() - began) * 1000
            if not raws and found is not None and passed and met():
                return
        raise AssertionError(f"{self.said()}, lag {self.collector.lag()}, {self.collector.sources()}")

    def all_vouched(self) -> bool:
        """Whether nothing is left out now."""
        return len(self.vouched[-1]) == 5

    def said(self, *stages: str):
        """(message, hop, stage, reason), without repetitions, in order."""
        found = [(e.message_id, e.hop, e.stage.value, e.reason) for e in self.events if not stages or e.stage in stages]
        return list(dict.fromkeys(found))

    def again(self):
        """A new life of the collector."""
        self.collector.close()
        self.collector, self.events, self.vouched = streams("one", self.config), [], []

    def close(self):
        """End it."""
        self.collector.close()
        self.application.close()


@pytest.fixture
def watched(server, tmp_path) -> Iterator[Watched]:
    """Looked at once, with its groups."""
    with closing(Watched(server.url, tmp_path)) as made:
        made.groups()
        made.look(lambda: made.vouched and made.all_vouched())
        yield made


def test_deliveries_take_overs_and_acks(watched):
    """Each with its consumer and how many times it was tried, in order; an ack of what was not pending is none."""
    one, two = watched.add("m-1", "m-2")
    watched.take("billing", "a", 2)
    watched.application.xack(watched.stream, "billing", one)
    watched.application.xack(watched.stream, "audit", two)
    watched.application.xautoclaim(watched.stream, "billing", "b", 0)
    watched.application.xack(watched.stream, "billing", two)
    watched.look()
    assert watched.said("deliver", "ack") == [
        ("m-1", "billing", "deliver", ""), ("m-2", "billing", "deliver", ""), ("m-1", "billing", "ack", ""),
        ("m-2", "billing", "ack", ""),
    ]  # fmt: skip
    handed = [(e.message_id, e.attempt) for e in watched.events if e.stage is Stage.deliver]
    assert handed == [("m-1", 1), ("m-2", 1), ("m-2", 2)]
    assert len({e.delivery for e in watched.events if e.stage is Stage.deliver}) == 3
    assert all(watched.all_vouched() for _ in [0])


@pytest.mark.parametrize(("trim", "reason"), [
    (lambda w, ids: w.application.xtrim(w.stream, maxlen=1, approximate=False), "discarded"),
    (lambda w, ids: w.application.xtrim(w.stream, minid=ids[3], approximate=False), "discarded"),
    (lambda w, ids: w.add("m-5", maxlen=1, approximate=False), "discarded"),
    (lambda w, ids: w.application.xdel(w.stream, *ids[:3]), "purged"),
], ids=["xtrim", "minid", "xadd", "xdel"])  # fmt: skip
def test_what_is_gone_unread_is_dropped(watched, trim, reason):
    """By each group that was not given it; one that has it may still ack. The stream itself has lost it as soon as
    nobody has it pending. What all had acked is no loss."""
    ids = watched.add("m-1", "m-2", "m-3", "m-4")
    for group in ("billing", "audit"):
        watched.take(group, "a", 1)
        watched.application.xack(watched.stream, group, ids[0])
    watched.take("billing", "a", 1)  # m-2, and keeps it
    trim(watched, ids)
    watched.look(lambda: len(watched.said("drop")) >= 4)
    dropped = {("m-2", "audit", "drop", reason), ("m-3", "audit", "drop", reason), ("m-3", "billing", "drop", reason),
               ("m-3", "redis", "drop", reason)}  # fmt: skip
    assert {one for one in watched.said("drop") if one[0] != "m-4"} == dropped
    watched.application.xack(watched.stream, "billing", ids[1])
    watched.look(lambda: ("m-2", "redis", "drop", reason) in watched.said("drop"))
    assert ("m-2", "billing", "ack", "") in watched.said("ack")
    assert not [one for one in watched.said("drop") if one[0] == "m-1"]


@pytest.mark.parametrize("how", [
    lambda w: w.application.delete(w.stream), lambda w: w.application.flushall(),
    lambda w: w.application.pexpire(w.stream, 1),
], ids=["del", "flushall", "expiry"])  # fmt: skip
def test_a_deleted_stream_takes_all_that_was_not_acked(watched, how):
    """Also what somebody has pending: its ack can never come."""
    watched.add("m-1", "m-2")
    watched.take("billing", "a", 1)
    how(watched)
    time.sleep(0.01)
    watched.application.exists(watched.stream)  # an expired key is deleted when somebody looks
    watched.look(lambda: len(watched.said("drop")) == 6)
    assert set(watched.said("drop")) == {(m, h, "drop", "purged") for m in ("m-1", "m-2")
                                         for h in ("billing", "audit", "redis")}  # fmt: skip


def test_a_pending_entry_that_is_gone_is_given_up_by_whoever_wants_it(watched):
    """Redis takes it from the pending list without an ack."""
    ids = watched.add("m-1")
    watched.take("billing", "a", 1)
    watched.application.xdel(watched.stream, ids[0])
    watched.application.xautoclaim(watched.stream, "billing", "b", 0)
    watched.look(lambda: ("m-1", "billing", "drop", "purged") in watched.said())
    assert ("m-1", "billing", "ack", "") not in watched.said()


def test_a_consumer_is_deleted_with_what_it_had(watched):
    """Nobody will be given these."""
    watched.add("m-1")
    watched.take("billing", "a", 1)
    watched.application.xgroup_delconsumer(watched.stream, "billing", "a")
    watched.look(lambda: ("m-1", "billing", "drop", "purged") in watched.said())


def test_entries_passed_over_are_unknown(watched):
    """A read with NOACK and an operator who sets the group's place look the same: nothing is said, and there is a
    hole."""
    watched.add("m-1")
    watched.take("billing", "a", 1, noack=True)
    watched.look()
    assert watched.said("deliver", "ack", "drop") == []
    assert any(("billing", "ack") not in each and ("audit", "ack") in each for each in watched.vouched)
    watched.look(watched.all_vouched)


def test_reads_with_noack_are_acks_where_the_group_is_said_to_read_so(server, tmp_path):
    """`noack: true`."""
    with closing(Watched(server.url, tmp_path, noack=True)) as watched:
        watched.groups()
        watched.look(lambda: watched.vouched and watched.all_vouched())
        watched.add("m-1")
        watched.take("billing", "a", 1, noack=True)
        watched.look()
        assert watched.said("deliver", "ack", "drop") == [
            ("m-1", "billing", "deliver", ""),
            ("m-1", "billing", "ack", ""),
        ]


def test_a_new_life_goes_on_where_the_last_one_was(watched):
    """What is acked and deleted at once while nobody looks has its name all the same, and nothing is left out."""
    ids = watched.add("m-1", "m-2")
    watched.take("billing", "a", 2)
    watched.look()
    watched.again()
    watched.application.xack(watched.stream, "billing", *ids)
    watched.take("audit", "a", 1)
    watched.application.xdel(watched.stream, *ids)
    watched.look(lambda: ("m-2", "audit", "drop", "purged") in watched.said())
    assert watched.said("ack") == [("m-1", "billing", "ack", ""), ("m-2", "billing", "ack", "")]
    assert {len(each) for each in watched.vouched} == {5}


def test_what_is_added_while_it_looks_is_told_once(server, tmp_path, monkeypatch):
    """By the look; that it is told again by the commands from before the look says nothing new."""
    with closing(Watched(server.url, tmp_path)) as watched:
        watched.add("m-1")

        def late(*about):
            watched.add("m-2")
            return looked(*about)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(streams_module, "looked", late)
            watched.look(lambda: watched.vouched and watched.all_vouched())
        watched.add("m-3")
        watched.look()
        assert [e.message_id for e in watched.events if e.stage is Stage.persist] == ["m-1", "m-2", "m-3"]


def test_what_is_added_behind_a_place_that_was_set_back(watched):
    """XSETID to before what was read, and deleted: smaller ids are new ones."""
    [entry] = watched.add("m-1")
    watched.application.xdel(watched.stream, entry)
    watched.application.execute_command("XSETID", watched.stream, "5-1")
    watched.application.xadd(watched.stream, {"x-message-id": "m-2"}, id="5-2")
    watched.look()
    assert watched.said("persist") == [("m-1", "redis", "persist", ""), ("m-2", "redis", "persist", "")]


def test_what_could_not_be_kept_is_kept_later(watched, monkeypatch):
    """The disk was full for a moment: the next life knows all the same who waits for what."""
    [entry] = watched.add("m-1")
    until = time.monotonic() + PATIENCE
    while not (raws := watched.collector.read(10, 0.1)):
        assert time.monotonic() < until

    def full(*_):
        raise Unavailable("the cursor cannot be written")

    with monkeypatch.context() as failing:
        failing.setattr(Cursor, "keep", full)
        with pytest.raises(Unavailable):
            watched.collector.commit(raws)
    watched.collector.commit(raws)
    watched.again()
    watched.application.xdel(watched.stream, entry)
    watched.look(lambda: len(watched.said("drop")) == 3)
    assert {one[0] for one in watched.said("drop")} == {"m-1"}


def test_a_group_made_later(watched):
    """It owes what lies behind its beginning, also what others are done with."""
    ids = watched.add("m-1", "m-2")
    for group in ("billing", "audit"):
        watched.take(group, "a", 2)
        watched.application.xack(watched.stream, group, *ids)
    watched.look()
    watched.application.xgroup_destroy(watched.stream, "audit")
    watched.application.xgroup_create(watched.stream, "audit", id=ids[0])
    watched.look()
    watched.application.xtrim(watched.stream, maxlen=0, approximate=False)
    watched.look(lambda: watched.said("drop"))
    assert watched.said("drop") == [("m-2", "audit", "drop", "discarded"), ("m-2", "redis", "drop", "discarded")]


def test_transactions_scripts_and_other_databases(watched):
    """What a transaction or a script does is seen, what happens in another database is not ours."""
    with watched.application.pipeline(transaction=True) as batch:
        batch.xadd(watched.stream, {"x-message-id": "m-1"})
        batch.set("else", 1)
        batch.execute()
    watched.application.eval("redis.call('XADD', KEYS[1], '*', 'x-message-id', 'm-2')", 1, watched.stream)
    with redis.Redis.from_url(watched.config["url"].replace("/0", "/1")) as other:
        other.xadd(watched.stream, {"x-message-id": "m-3"})
        other.flushdb()
    watched.add("m-4")
    watched.look()
    assert [one[0] for one in watched.said()] == ["m-1", "m-2", "m-4"]


@contextmanager
def of_its_own(redis_factory, folder, watch: str = "replica", **settings):
    """A server that may be killed, and a collector of it that has read everything."""
    server = redis_factory({**PROMPT, **settings})
    with closing(Watched(server.url, folder, watch)) as made:
        made.groups()
        made.look(lambda: made.vouched and made.all_vouched())
        yield server, made


def test_a_restart_without_persistence(redis_factory, tmp_path):
    """The stream was read to the end of the server, so what was not acked then is lost by name; nothing else is."""
    with of_its_own(redis_factory, tmp_path) as (server, watched):
        ids = watched.add(*(f"m-{n}" for n in range(6)))
        watched.take("billing", "a", 3)
        watched.application.xack(watched.stream, "billing", *ids[:2])
        watched.take("audit", "a", 6)
        watched.application.xack(watched.stream, "audit", *ids)
        watched.look()
        server.kill()
        with pytest.raises(Unavailable):
            watched.collector.read(10, PATIENCE)
        server.start()
        watched.look(watched.all_vouched)
        lost = {(f"m-{n}", hop, "drop", "truncated") for n in range(2, 6) for hop in ("billing", "redis")}
        assert set(watched.said("drop")) == lost
        watched.groups()
        watched.add("m-9")
        watched.look()
        assert ("m-9", "redis", "persist", "") in watched.said()


def test_a_server_takes_connections_while_it_ends(redis_factory, tmp_path, monkeypatch):
    """And answers nothing on them: it is asked again whether it is gone."""
    with of_its_own(redis_factory, tmp_path) as (server, watched):
        watched.add("m-1")
        watched.look()
        server.kill()
        with monkeypatch.context() as ending:
            ending.setattr(streams_module, "listening", Mock(side_effect=[True, False]))
            with pytest.raises(Unavailable):
                watched.collector.read(10, PATIENCE)
        server.start()
        watched.look(watched.all_vouched)
        assert {one[1] for one in watched.said("drop")} == {"billing", "audit", "redis"}


def test_the_first_look_after_a_restart_may_fail(redis_factory, tmp_path, monkeypatch):
    """It is looked again: what was not acked at the end is lost by name, as if nothing had happened."""
    with of_its_own(redis_factory, tmp_path) as (server, watched):
        watched.add("m-1", "m-2")
        watched.look()
        server.kill()
        with pytest.raises(Unavailable):
            watched.collector.read(10, PATIENCE)
        server.start()
        with monkeypatch.context() as failing:
            failing.setattr(streams_module, "looked", Mock(side_effect=redis.ConnectionError("reset")))
            with pytest.raises(Unavailable):
                watched.collector.read(10, PATIENCE)
        watched.look(watched.all_vouched)
        assert set(watched.said("drop")) == {(m, hop, "drop", "truncated") for m in ("m-1", "m-2")
                                             for hop in ("billing", "audit", "redis")}  # fmt: skip


def test_a_restart_that_nobody_saw_is_unknown(redis_factory, tmp_path):
    """The collector was away: what was acked before the end nobody knows."""
    with of_its_own(redis_factory, tmp_path) as (server, watched):
        watched.add("m-1")
        watched.look()
        watched.collector.close()
        server.kill()
        server.start()
        watched.again()
        watched.look(lambda: watched.vouched and watched.all_vouched())
        assert watched.said() == []
        assert set() in watched.vouched


def test_a_restart_with_persistence_loses_nothing(redis_factory, tmp_path):
    """What groups did goes on; there is a hole, and no drop."""
    lasting = {"appendonly": "yes", "appendfsync": "always"}
    with of_its_own(redis_factory, tmp_path, **lasting) as (server, watched):
        ids = watched.add("m-1", "m-2")
        watched.take("billing", "a", 1)
        watched.look()
        server.kill()
        server.start()
        watched.application.xack(watched.stream, "billing", ids[0])
        watched.look(lambda: watched.all_vouched() and watched.said("ack"))
        assert watched.said("ack", "drop") == [("m-1", "billing", "ack", "")]


def test_a_backlog_that_was_overrun(redis_factory, tmp_path):
    """What the server forgot while the collector was away is made up for from what the stream and its groups hold: acks
    are named; deliveries have a hole, and so has what was added and deleted unseen."""
    with of_its_own(redis_factory, tmp_path, **{"repl-backlog-size": "16384"}) as (_, watched):
        ids = watched.add("m-1", "m-2")
        watched.take("billing", "a", 2)
        watched.look()
        watched.again()
        watched.application.xack(watched.stream, "billing", ids[0])
        watched.add("m-3")
        for _ in range(8):
            watched.application.set("else", "x" * 8192)
        watched.look(lambda: watched.vouched and watched.all_vouched())
        assert watched.said("persist", "ack") == [("m-3", "redis", "persist", ""), ("m-1", "billing", "ack", "")]
        assert all(("redis", "persist") in each and ("billing", "ack") in each for each in watched.vouched)
        assert any(("billing", "deliver") not in each for each in watched.vouched)


def test_polling(server, tmp_path):
    """Acks by what is not pending any more, as sampled evidence; what is trimmed unread. What was acked and deleted
    between two looks may have been deleted unread: a hole."""
    with closing(Watched(server.url, tmp_path, "poll")) as watched:
        watched.groups()
        watched.look()
        ids = watched.add(*(f"m-{n}" for n in range(5)))
        watched.look(lambda: len(watched.said("persist")) == 5)
        watched.take("billing", "a", 3)
        watched.application.xack(watched.stream, "billing", ids[0])
        watched.look(lambda: watched.said("ack"))
        assert watched.said("ack") == [("m-0", "billing", "ack", "")]
        assert {(s.stage, s.evidence) for s in watched.collector.sources()} == {
            ("persist", "message"),
            ("ack", "range"),
        }
        watched.application.xtrim(watched.stream, minid=ids[4], approximate=False)
        watched.look(lambda: len(watched.said("drop")) >= 6)
        assert {one for one in watched.said("drop") if one[1] == "billing"} == {("m-3", "billing", "drop", "discarded")}
        watched.vouched.clear()
        for group in ("billing", "audit"):
            watched.take(group, "a", 10)
        watched.application.xack(watched.stream, "billing", ids[4])
        watched.application.xdel(watched.stream, ids[4])
        watched.look(lambda: any(("billing", "ack") not in each for each in watched.vouched))
        assert ("m-4", "billing", "ack", "") not in watched.said()


def test_polling_where_nobody_may_be_a_replica(server, tmp_path):
    """`watch: auto`, and a user without PSYNC."""
    url = server.url.replace("redis://", "redis://looker:secret@")
    with redis.Redis.from_url(server.url) as application:
        application.acl_setuser("looker", enabled=True, passwords=["+secret"], commands=["+@all", "-psync",
                                "-replconf"], keys=["*"], reset=True)  # fmt: skip
        with closing(Watched(url, tmp_path, "auto")) as watched:
            watched.groups()
            watched.add("m-1")
            watched.look(lambda: watched.said("persist"))
            assert {one.evidence for one in watched.collector.sources() if one.stage == "ack"} == {"range"}
        application.acl_deluser("looker")


@pytest.mark.parametrize("payload", ["", "body"])
def test_a_replay_from_a_stream_into_it(server, tmp_path, payload):
    """A copy is found where the collector saw it, and comes back with the same fields and digest, and what the replay
    adds; one that was deleted is missing, and one that is another message, too."""
    with closing(Watched(server.url, tmp_path)) as watched:
        watched.config["streams"][0]["payload"] = payload
        watched.again()
        watched.application.xadd(watched.stream, {"x-message-id": "m-1", "body": b"\xff{}", "kind": "paid"})
        watched.add("m-2", "m-3")
        watched.look(lambda: len(watched.events) == 3)
        places = [Locator(e.message_id, "redis", e.partition, e.offset or 0) for e in watched.events]
        watched.application.xdel(watched.stream, id_text(at_offset(places[1].offset)))
        hop = {"kind": "redis", "url": server.url, "stream": watched.stream, "payload": payload}
        ends = build({"redis": hop})
        [found, gone, other] = ends.sources[Keeper(LOG, "redis")].fetch(
            [*places[:2], replace(places[2], message_id="else")]
        )
        assert isinstance(found, Copy)
        assert isinstance(gone, Missing)
        assert "deleted" in gone.reason
        assert isinstance(other, Missing)
        assert "another message" in other.reason
        sent = ends.publishers["redis"].publish([replace(found, headers={**found.headers, REPLAY_ID: b"r-1"})])
        ends.close()
        assert [one.error for one in sent] == [""]
        watched.events = []
        watched.look(lambda: watched.said("persist"))
        [event] = [one for one in watched.events if one.stage is Stage.persist]
        assert (event.message_id, event.replay_id, event.digest) == ("m-1", "r-1", found.digest)
        [(_, fields)] = watched.application.xrevrange(watched.stream, count=1) or []
        assert fields == {b"x-message-id": b"m-1", b"body": b"\xff{}", b"kind": b"paid", REPLAY_ID.encode(): b"r-1"}


def test_a_publisher_says_what_became_of_each(server, tmp_path):
    """Refused by the server, and not sent where nobody is there; never an exception."""
    copy = Copy(Locator("m-1", "kafka", "orders/0", 1), None, b"{}", {}, digest_of(b"{}"))
    with redis.Redis.from_url(server.url) as application:
        application.set("no-stream", 1)
        with closing(publisher({"url": server.url, "stream": "no-stream", "payload": "body"})) as refused:
            assert [one.error[:8] for one in refused.publish([copy])] == ["refused:"]
        application.delete("no-stream")
    with closing(publisher({"url": server.url, "stream": "orders"})) as unpacked:
        assert [one.error[:9] for one in unpacked.publish([copy])] == ["not sent:"]
    with closing(publisher({"url": "redis://127.0.0.1:1", "stream": "orders", "payload": "body"})) as nobody:
        assert [(one.error[:9], one.untried) for one in nobody.publish([copy])] == [("not sent:", True)]


def test_a_publisher_takes_no_longer_than_its_timeout(server):
    """The server stops answering in the middle: what is on its way is in doubt, and nothing else is tried."""
    copies = [Copy(Locator(f"m-{n}", "k", "k/0", n), None, b"{}", {}, digest_of(b"{}")) for n in range(2000)]
    at = urlsplit(server.url)
    with Proxy((at.hostname, at.port)) as proxy, redis.Redis.from_url(server.url) as application:
        url = server.url.replace(f"{at.hostname}:{at.port}", proxy.at)
        with closing(publisher({"url": url, "stream": "slow", "payload": "body", "timeout": 1})) as back:
            assert [one.error for one in back.publish(copies[:1])] == [""]
            proxy.delay = 0.2
            began = time.monotonic()
            sent = back.publish(copies)
            assert time.monotonic() - began < 4
            taken = [one for one in sent if not one.error]
            assert 0 < len(taken) < 1500
            assert [one.untried for one in sent] == [False] * len(taken) + [True] * (2000 - len(taken))
            proxy.hold()
            began = time.monotonic()
            assert all(one.untried for one in back.publish(copies))
            assert time.monotonic() - began < 4
            proxy.go_on()
        assert application.xlen("slow") == 1 + len(taken)


def test_a_copy_that_is_no_entry_does_not_hinder_the_others(server):
    """Of a batch only the one that cannot be sent is not."""
    good = Copy(Locator("m-1", "k", "k/0", 1), None, packed({b"a": b"1"}), {}, "")
    bad = Copy(Locator("m-2", "k", "k/0", 2), None, b"{}", {}, "")
    with closing(publisher({"url": server.url, "stream": "mixed"})) as unpacked:
        assert [one.error[:9] for one in unpacked.publish([good, bad, good])] == ["", "not sent:", ""]


@pytest.mark.parametrize("watch", ["replica", "poll"])
def test_the_user_of_the_page_is_enough(server, tmp_path, watch):
    """What the page grants is what a replica needs, and what polling does; it may not write."""
    page = (Path(__file__).parents[2] / "docs/collectors/redis.md").read_text()
    [words] = re.findall(r"^ +(ACL SETUSER tracker .*)$", page, re.MULTILINE)
    url = server.url.replace("redis://", "redis://tracker:secret@")
    with redis.Redis.from_url(server.url) as application, redis.Redis.from_url(url) as tracker:
        application.execute_command(*words.split())
        with closing(Watched(url, tmp_path, watch)) as watched:
            watched.application.close()
            watched.application = application
            watched.groups()
            [entry] = watched.add("m-1")
            watched.look(lambda: watched.said("persist"))
            watched.take("billing", "a", 1)
            watched.look(lambda: watched.said("deliver"))
            application.xack(watched.stream, "billing", entry)
            watched.look(lambda: watched.said("ack"))
            with pytest.raises(exceptions.NoPermissionError):
                tracker.set("else", 1)
        application.acl_deluser("tracker")


def test_a_stream_that_is_overwritten(watched):
    """By a SET: a blind spot, as long as it is something else; then a new stream is read."""
    watched.add("m-1")
    watched.application.set(watched.stream, "x")
    watched.look(watched.all_vouched)
    assert watched.said("drop") == []
    assert set() in watched.vouched
    watched.application.delete(watched.stream)
    watched.add("m-2")
    watched.look()
    assert ("m-2", "redis", "persist", "") in watched.said()


def test_a_server_that_nobody_reached_has_not_ended(redis_factory, tmp_path):
    """Connections were cut and refused on the way, and the server went on, for longer than its backlog: what was acked
    and deleted meanwhile is unknown, not lost."""
    with of_its_own(redis_factory, tmp_path, **{"repl-backlog-size": "16384"}) as (server, watched):
        proxy = Proxy(("127.0.0.1", server.port))
        with closing(proxy):
            watched.config["url"] = f"redis://{proxy.at}/0"
            watched.again()
            [entry] = watched.add("m-1")
            watched.take("billing", "a", 1)
            watched.look(lambda: watched.said("deliver"))
            proxy.gone()
            with pytest.raises(Unavailable):
                watched.collector.read(10, PATIENCE)
            watched.application.xack(watched.stream, "billing", entry)
            watched.application.xdel(watched.stream, entry)
            for _ in range(8):
                watched.application.set("else", "x" * 8192)
            proxy.back()
            watched.vouched.clear()
            watched.look(watched.all_vouched)
            assert [one for one in watched.said("drop") if one[1] == "billing"] == []
            assert any(("billing", "ack") not in each for each in watched.vouched)
            watched.collector.close()


def test_a_server_that_came_back_with_less_and_was_written_on(redis_factory, tmp_path):
    """What the snapshot did not have is lost by name, though groups have gone on behind it, and the stream goes on as
    if nothing had been between. What came back waits."""
    with of_its_own(redis_factory, tmp_path) as (server, watched):
        watched.add("m-1")
        while watched.application.info("persistence")["rdb_bgsave_in_progress"]:
            time.sleep(0.01)  # ours, for the empty snapshot
        watched.application.save()
        watched.add("m-2", "m-3")
        watched.take("audit", "a", 3)
        watched.look(lambda: len(watched.said("deliver")) == 3)
        server.kill()
        with pytest.raises(Unavailable):
            watched.collector.read(10, PATIENCE)
        server.start()
        watched.add("m-4")
        for entry in watched.take("billing", "a", 2):
            watched.application.xack(watched.stream, "billing", entry)
        watched.look(watched.all_vouched)
        hops = ("billing", "audit", "redis")
        lost = {(message, hop, "drop", "truncated") for message in ("m-2", "m-3") for hop in hops}
        assert set(watched.said("drop")) == lost
        assert {one[0] for one in watched.said("ack")} <= {"m-1", "m-4"}


def test_a_stream_that_another_one_takes_the_place_of(watched):
    """What the old one held is not acked because a group of the new one is beyond it."""
    other = f"{watched.stream}-other"
    watched.application.xadd(other, {"x-message-id": "m-0"}, id="1-1")
    watched.add("m-1")
    watched.look()
    for group in ("billing", "audit"):
        watched.application.xgroup_create(other, group, id="$")
    watched.application.xadd(other, {"x-message-id": "m-2"})
    [(_, [(entry, _)])] = watched.application.xreadgroup("billing", "a", {other: ">"})
    watched.application.xack(other, "billing", entry)
    watched.application.rename(other, watched.stream)
    watched.look(watched.all_vouched)
    assert ("m-1", "billing", "ack", "") not in watched.said()


@pytest.mark.parametrize("how", [
    lambda elsewhere, key: elsewhere.move(key, 0),
    lambda elsewhere, key: elsewhere.copy(key, key, destination_db=0),
], ids=["move", "copy"])  # fmt: skip
def test_a_stream_that_comes_from_another_database(server, tmp_path, how):
    """It is looked at, as it was not told entry by entry."""
    with (
        closing(Watched(server.url, tmp_path)) as watched,
        redis.Redis.from_url(server.url.replace("/0", "/1")) as elsewhere,
    ):
        watched.look(lambda: watched.vouched and watched.all_vouched())
        elsewhere.xadd(watched.stream, {"x-message-id": "m-1"})
        how(elsewhere, watched.stream)
        watched.look(watched.all_vouched)
        assert watched.said("persist") == [("m-1", "redis", "persist", "")]


def test_a_slot_that_moves_to_another_node_takes_nothing(redis_factory, tmp_path):
    """The node that gave it away says DEL; the entries are elsewhere. In a cluster that is a hole, not a loss."""
    cluster = {**PROMPT, "cluster-enabled": "yes"}  # left alone it takes its port + 10,000, which may be another one's
    nodes = [redis_factory({**cluster, "cluster-port": str(free_port())}) for _ in range(2)]
    here, there = (redis.Redis.from_url(node.url) for node in nodes)
    with closing(here), closing(there), closing(Watched(nodes[0].url, tmp_path)) as watched:
        for node in (here, there):
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        until = time.monotonic() + PATIENCE
        while any(node.execute_command("CLUSTER INFO")["cluster_state"] != "ok" for node in (here, there)):
            assert time.monotonic() < until
            time.sleep(0.05)
        watched.groups()
        watched.add("m-1")
        watched.look(lambda: watched.said("persist"))
        here.execute_command("MIGRATE", "127.0.0.1", nodes[1].port, watched.stream, 0, 5000)
        watched.look(lambda: any(not each for each in watched.vouched))
        assert watched.said("drop") == []
