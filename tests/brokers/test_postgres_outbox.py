"""An outbox on a real PostgreSQL: what is committed is seen; where something may be missing nobody vouches."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import xxhash
import yaml

from collectors.errors import ConfigInvalid, Unavailable, Undecodable
from collectors.postgres.outbox import outbox
from tests.brokers.kafka_topic import wait_for
from tests.brokers.running import covered, lines, run
from tests.contract.http_tracker import HttpTracker

pytestmark = pytest.mark.brokers
TABLE = (
    "CREATE TABLE outbox (id text PRIMARY KEY, payload bytea, kind text, created_at timestamptz, sent_at timestamptz)"
)
OURS = "database = current_database()"
PATIENCE = 20.0
PAGE = Path(__file__).parents[2] / "docs" / "collectors" / "postgres.md"


class Shop:
    """A database with an outbox, and the application that writes it."""

    def __init__(self, url):
        self.url = url
        self.application = psycopg.connect(url, autocommit=True)

    def again(self):
        """Connect anew."""
        self.application.close()
        self.application = psycopg.connect(self.url, autocommit=True)
        return self

    def run(self, query, *values):
        """A statement of the application, or of its owner."""
        cursor = self.application.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []

    def put(self, *ids, payload=b"{}"):
        """Rows, each committed."""
        for each in ids:
            self.run("INSERT INTO outbox (id, payload) VALUES (%s, %s)", each, payload)

    def freed(self):
        """The server has let go of whoever read."""
        wait_for(lambda: not self.run(f"SELECT 1 FROM pg_replication_slots WHERE {OURS} AND active"), "a free slot")

    def collector(self, name="shop", url="", folder=None, **table):
        """A collector of the outbox."""
        known = {"table": "outbox", "flow": "orders", "hop": "shop", "payload": "payload", **table}
        return outbox(name, {"url": url or self.url, "tables": [known], "look_every": 0.05}, folder)

    @contextmanager
    def watched(self, name="shop", **table):
        """A collector that vouches for all that happens from now on."""
        collector = self.collector(name, **table)
        with closing(collector):
            until(collector, lambda: vouches(collector))
            yield collector

    def slots(self):
        """The slots of this database."""
        return [
            s for (s,) in self.run("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        ]

    def close(self):
        """Leave nothing behind that holds the log back."""
        self.run(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE {OURS} AND active")
        deadline = time.monotonic() + PATIENCE
        while self.run(f"SELECT 1 FROM pg_replication_slots WHERE {OURS} AND active"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for slot in self.slots():
            self.run("SELECT pg_drop_replication_slot(%s)", slot)
        self.application.close()


def vouches(collector):
    """It has sources, and has read all until a moment ago."""
    return bool(collector.sources()) and collector.lag().ms < 2000


def until(collector, done, patience=PATIENCE, forgive=False):
    """Read until `done()`; gives what was read. `forgive`: what is unavailable is tried again, as the runner does."""
    raws, deadline = [], time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, (collector.sources(), collector.lag())
        try:
            raws += collector.read(1000, 0.1)
        except Unavailable:
            if not forgive:
                raise
            time.sleep(0.05)
    return raws


def caught_up(collector, forgive=False):
    """All that was committed before now, read."""
    began = time.monotonic()

    def done():
        return vouches(collector) and collector.lag().ms < (time.monotonic() - began) * 1000

    return until(collector, done, forgive=forgive)


def said(collector, raws):
    """What was seen: (stage, id)."""
    return [(str(event.stage), event.message_id) for raw in raws for event in collector.decode(raw)]


def begun_anew(collector):
    """It shows a hole before anything is mended, so that the hole outlives whatever happens next. The server may take a
    moment to let go of whom it has refused."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert collector.read(10, 0.1) == []
            break
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert collector.read(10, 0.1) == []
    assert collector.sources() == []
    until(collector, lambda: vouches(collector))


@pytest.fixture
def own_shop(postgres_factory):
    """`own_shop(setting="value")`: a server of its own, and a shop on it."""
    made = []

    def make(**settings):
        server = postgres_factory(**settings)
        made.append((server, Shop(server.url())))
        made[-1][1].run(TABLE)
        return made[-1]

    yield make
    for server, shop in made:
        shop.application.close()
        server.stop()


@pytest.fixture
def shop(postgres_server):
    """A database of its own on the shared server."""
    name = postgres_server.create_database()
    made = Shop(postgres_server.url(name))
    made.run(TABLE)
    yield made
    made.close()
    postgres_server.drop_database(name)


def test_what_is_committed_is_seen_and_what_is_rolled_back_is_not(shop):
    """In the order of commits, at the time of the commit, with digest and origin."""
    with shop.watched(origin="created_at") as collector:
        before = time.time_ns() // 1000
        with (
            psycopg.connect(shop.url) as first,
            psycopg.connect(shop.url) as second,
            psycopg.connect(shop.url) as third,
        ):
            first.execute("INSERT INTO outbox (id, payload) VALUES ('late', '\\x00ff')")
            second.execute("INSERT INTO outbox (id, created_at) VALUES ('early', '2026-11-18 11:06:40+00')")
            third.execute("INSERT INTO outbox (id) VALUES ('never')")
            second.commit()
            time.sleep(0.1)
            first.commit()
            third.rollback()
        raws = caught_up(collector)
        assert said(collector, raws) == [("produce", "early"), ("produce", "late")]
        early, late = (event for raw in raws for event in collector.decode(raw))
        assert before < early.observed_at < early.observed_at + 90_000 < late.observed_at < time.time_ns() // 1000
        assert (early.origin_at, late.origin_at) == (1_795_000_000_000_000, late.observed_at)
        assert (late.digest, late.size, early.digest) == (xxhash.xxh3_64_hexdigest(b"\x00\xff"), 2, "")
        assert late.node == str(shop.run("SELECT system_identifier FROM pg_control_system()")[0][0])


def test_nothing_is_vouched_for_before_a_transaction_is_read(shop):
    """One that began long ago is dated by its commit, so coverage goes on meanwhile; its rows come then."""
    with shop.watched() as collector, psycopg.connect(shop.url) as slow:
        slow.execute("INSERT INTO outbox (id) VALUES ('m-1')")
        assert said(collector, caught_up(collector)) == []
        slow.commit()
        assert said(collector, caught_up(collector)) == [("produce", "m-1")]


def test_relayed_rows(shop):
    """Deleted or marked, as the table has it; a row that is truncated away is set aside, with its table's name."""
    with (
        shop.watched("deleting", relayed="delete") as one,
        shop.watched("marking", relayed={"column": "sent_at"}) as two,
    ):
        shop.put("m-1", "m-2")
        shop.run("UPDATE outbox SET sent_at = now() WHERE id = 'm-1'")
        shop.run("DELETE FROM outbox WHERE id = 'm-2'")
        put = [("produce", "m-1"), ("produce", "m-2")]
        assert said(one, caught_up(one)) == [*put, ("ack", "m-2")]
        assert said(two, caught_up(two)) == [*put, ("ack", "m-1")]
        shop.run("TRUNCATE outbox")
        (raw,) = [r for r in caught_up(one) if r.value[:1] == b"T"]
        with pytest.raises(Undecodable, match=r"public\.outbox was truncated"):
            one.decode(raw)


def test_a_table_that_is_partitioned(shop):
    """Its partitions are it, also one that is added."""
    shop.run("CREATE TABLE parted (id text, day date, PRIMARY KEY (id, day)) PARTITION BY LIST (day)")
    shop.run("CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN ('2026-11-22')")
    with shop.watched(table="parted", payload="") as collector:
        shop.run("CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN ('2026-11-23')")
        shop.run("INSERT INTO parted VALUES ('m-1', '2026-11-22'), ('m-2', '2026-11-23')")
        assert said(collector, caught_up(collector)) == [("produce", "m-1"), ("produce", "m-2")]


def test_a_row_that_moves_to_another_partition_is_still_there(shop):
    """The log has a deletion and a new row, in one transaction: no relay. Nor is one that the application writes again,
    whatever it does in between; what is deleted in the end was relayed."""
    shop.run("CREATE TABLE parted (id text, day date, PRIMARY KEY (id, day)) PARTITION BY LIST (day)")
    for number, day in enumerate(("2026-11-22", "2026-11-23")):
        shop.run(f"CREATE TABLE parted_{number} PARTITION OF parted FOR VALUES IN ('{day}')")
    with shop.watched(table="parted", payload="", relayed="delete") as collector:
        shop.run("INSERT INTO parted VALUES ('m-1', '2026-11-22'), ('m-2', '2026-11-22'), ('m-3', '2026-11-22')")
        shop.run("UPDATE parted SET day = '2026-11-23'")
        with shop.application.transaction():
            shop.run("DELETE FROM parted WHERE id IN ('m-1', 'm-2')")
            shop.run("INSERT INTO parted VALUES ('m-4', '2026-11-22'), ('m-1', '2026-11-23')")
            shop.run("DELETE FROM parted WHERE id = 'm-4'")
        stages = said(collector, caught_up(collector))
        assert [name for stage, name in stages if stage == "ack"] == ["m-2", "m-4"]
        assert {name for stage, name in stages if stage == "produce"} == {"m-1", "m-2", "m-3", "m-4"}
        shop.run("DELETE FROM parted WHERE id = 'm-3'")
        assert said(collector, caught_up(collector)) == [("ack", "m-3")]


def test_a_table_that_is_changed(shop):
    """Columns that come and go do not matter while ours stay."""
    with shop.watched() as collector:
        shop.put("m-1")
        shop.run("ALTER TABLE outbox DROP COLUMN kind, ADD COLUMN extra int DEFAULT 7")
        shop.put("m-2")
        assert said(collector, caught_up(collector)) == [("produce", "m-1"), ("produce", "m-2")]


def test_a_large_row_and_a_large_transaction(shop):
    """10 MB in one row; 20,000 rows in one transaction come in bounded reads, and again until all were committed."""
    with shop.watched() as collector:
        shop.put("large", payload=os.urandom(10_000_000))
        (raw,) = caught_up(collector)
        assert collector.decode(raw)[0].size == 10_000_000
        collector.commit([raw])
        shop.run("INSERT INTO outbox (id) SELECT 'm-' || n FROM generate_series(1, 20000) n")
        raws = caught_up(collector)
        assert len(raws) == 20_000
        collector.commit(raws[:-1])
    with shop.watched() as collector:
        again = caught_up(collector)
        assert {raw.position.lsn for raw in again} <= {raws[0].position.lsn}
        collector.commit(raws[-1:])
        caught_up(collector)
    collector = shop.collector()
    assert caught_up(collector) == []
    collector.close()


def test_an_idle_outbox_holds_nothing_back(shop):
    """While others fill the log the slot moves on, though nothing of it is ours."""
    with shop.watched() as collector:
        shop.run("CREATE TABLE elsewhere (x text)")
        shop.run("INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        end = shop.run("SELECT pg_current_wal_lsn()")[0][0]
        caught_up(collector)
        collector.commit([])
        moved = f"SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE {OURS}"
        until(collector, lambda: shop.run(moved, end)[0][0])


def test_a_second_collector_of_the_name_stands_by(shop):
    """And takes over when the first is gone, where that one was committed."""
    with shop.watched() as first:
        shop.put("m-1")
        first.commit(caught_up(first))
        second = shop.collector()
        with pytest.raises(Unavailable, match="stands by"):
            second.read(1, 0.1)
    shop.put("m-2")
    assert said(second, caught_up(second, forgive=True)) == [("produce", "m-2")]
    second.close()


def test_a_table_that_is_dropped_and_made_again(shop):
    """Rows that were written meanwhile are seen by nobody, so it is not vouched for meanwhile; then it is again."""
    with shop.watched() as collector:
        shop.run("DROP TABLE outbox")
        shop.run(TABLE)
        shop.put("unseen")
        with pytest.raises(Unavailable, match=r"public\.outbox was dropped"):
            until(collector, lambda: False)
        assert shop.run("SELECT 1 FROM pg_publication_tables") == []
        begun_anew(collector)
        shop.put("m-1")
        assert said(collector, caught_up(collector, forgive=True)) == [("produce", "m-1")]


def test_a_slot_that_is_gone(shop):
    """Somebody dropped it, or a standby took over that has none: what was committed meanwhile is not vouched for."""
    with shop.watched() as collector:
        slot = collector.slot
    shop.freed()
    shop.run("SELECT pg_drop_replication_slot(%s)", slot)
    shop.put("unseen")
    collector = shop.collector()
    begun_anew(collector)
    shop.put("m-1")
    assert said(collector, caught_up(collector)) == [("produce", "m-1")]
    collector.close()


@pytest.mark.parametrize("away", [
    ["SELECT pg_drop_replication_slot('tracker_shop')",
     "SELECT pg_create_logical_replication_slot('tracker_shop', 'pgoutput')"],
    ["DROP PUBLICATION tracker_shop",
     "CREATE PUBLICATION tracker_shop FOR TABLE outbox WITH (publish_via_partition_root = true)"],
    ["ALTER PUBLICATION tracker_shop DROP TABLE outbox", "ALTER PUBLICATION tracker_shop ADD TABLE outbox"],
    ["SELECT 1", "SELECT pg_replication_slot_advance('tracker_shop', pg_current_wal_lsn())"],
], ids=["slot", "publication", "place in it", "slot moved on"])  # fmt: skip
def test_what_is_made_again_while_nobody_reads(shop, tmp_path, away):
    """It looks as it did, and what was written in between is in it no more, or was never: a hole, not silence. There is
    none where nobody touched it, and it is told once."""
    with shop.watched(folder=tmp_path) as collector:
        shop.put("m-1")
        collector.commit(caught_up(collector))
    shop.freed()
    shop.run(away[0])
    shop.put("unseen")
    shop.run(away[1])
    with closing(shop.collector(folder=tmp_path)) as collector:
        begun_anew(collector)
        shop.put("m-2")
        raws = caught_up(collector)
        assert ("produce", "m-2") in said(collector, raws)
        collector.commit(raws)
    for _ in range(2):
        shop.freed()
        with closing(shop.collector(folder=tmp_path)) as collector:
            collector.read(10, 0.1)
            assert collector.sources(), "no hole"
            until(collector, lambda: vouches(collector))


@pytest.mark.parametrize(("change", "table", "reason"), [
    ("ALTER TABLE outbox DROP CONSTRAINT outbox_pkey", {"relayed": "delete"}, "no replica identity.*IDENTITY FULL"),
    ("SELECT 1", {"relayed": "delete", "where": {"kind": "order"}}, "identity lacks kind"),
    ("SELECT 1", {"id": "ident"}, "no column 'ident'"),
])  # fmt: skip
def test_tables_that_do_not_fit(shop, change, table, reason):
    """Said before anything is made, with what to do; the application goes on as it did."""
    shop.run(change)
    collector = shop.collector(**table)
    with pytest.raises(ConfigInvalid, match=reason):
        collector.read(1, 0.1)
    shop.put("m-1")
    shop.run("DELETE FROM outbox")
    assert shop.slots() == []
    assert shop.run("SELECT pubname FROM pg_publication") == []


@pytest.mark.parametrize("told", ["(publish = 'update')", "(publish = 'insert')", ""])
def test_a_publication_that_leaves_something_out(shop, told):
    """Made by somebody else, or changed: nothing is vouched for by what does not show all."""
    if told:
        shop.run(f"CREATE PUBLICATION tracker_shop FOR TABLE outbox WITH {told}")
    else:
        shop.run("CREATE PUBLICATION tracker_shop FOR TABLE outbox WHERE (id <> 'm-1')")
    collector = shop.collector(relayed="delete")
    assert collector.read(1, 0.1) == []
    assert collector.sources() == []
    with pytest.raises(ConfigInvalid, match=r"leaves out changes of public\.outbox"):
        collector.read(1, 0.1)


def test_a_publication_that_is_changed_later(shop):
    """It is noticed before anything that was left out is vouched for, and told before the collector ends: when it is
    mended, and begins again, everything seems to be in order."""
    with shop.watched(relayed="delete") as collector:
        shop.run("ALTER PUBLICATION tracker_shop SET (publish = 'insert')")
        with pytest.raises(Unavailable, match="left its publication"):
            until(collector, lambda: False)
        assert collector.read(1, 0.1) == []
        assert collector.sources() == []
        with pytest.raises(ConfigInvalid, match="leaves out changes"):
            collector.read(1, 0.1)


@pytest.mark.parametrize(
    ("change", "back"),
    [("DROP TABLE outbox", "ADD TABLE outbox"), ("SET (publish = 'delete')", "SET (publish = 'insert')")],
)
def test_a_publication_that_was_another_for_a_moment(shop, change, back):
    """Between two looks: what was written then is not told of, and not covered."""
    with shop.watched() as collector:
        shop.put("m-1")
        collector.commit(caught_up(collector))
        shop.run(f"ALTER PUBLICATION tracker_shop {change}")
        shop.put("unseen")
        shop.run(f"ALTER PUBLICATION tracker_shop {back}")
        with pytest.raises(Unavailable, match="came back to it"):
            until(collector, lambda: False)
        begun_anew(collector)


@pytest.mark.parametrize(("made", "written", "mended"), [
    ("CREATE UNLOGGED TABLE two PARTITION OF outbox FOR VALUES IN (2)", "outbox (id, day) VALUES ('unseen', 2)",
     "ALTER TABLE two SET LOGGED"),
    ("CREATE TABLE two () INHERITS (outbox)", "two (id) VALUES ('unseen')", "DROP TABLE two"),
])  # fmt: skip
def test_a_part_that_is_not_in_the_log(shop, made, written, mended):
    """It is made while the collector watches: nothing that was written there is vouched for, then or later."""
    if "PARTITION" in made:
        shop.run("DROP TABLE outbox")
        shop.run("CREATE TABLE outbox (id text, day int, payload bytea, PRIMARY KEY (id, day)) PARTITION BY LIST (day)")
        shop.run("CREATE TABLE one PARTITION OF outbox FOR VALUES IN (1)")
    with shop.watched() as collector:
        shop.run(made)
        shop.run(f"INSERT INTO {written}")
        with pytest.raises(Unavailable, match="a part that is not in the log"):
            until(collector, lambda: False)
        assert collector.read(10, 0.1) == []
        assert collector.sources() == []
        with pytest.raises(ConfigInvalid, match=r"public\.outbox: rows in two are not told as its own"):
            collector.read(10, 0.1)
    shop.run(mended)
    with shop.watched() as collector:
        shop.run("INSERT INTO outbox (id) SELECT 'm-1'" if "INHERITS" in made else
                 "INSERT INTO outbox (id, day) VALUES ('m-1', 2)")  # fmt: skip
        assert said(collector, caught_up(collector)) == [("produce", "m-1")]


def test_a_password_is_not_told(shop):
    """Neither by an error of ours nor by one of libpq, which quotes what it cannot read."""
    for url in ("postgresql://tracker:hush/hush@127.0.0.1/shop", "postgresql://tracker:hush@127.0.0.1:1/shop"):
        with pytest.raises((ConfigInvalid, Unavailable)) as raised:
            shop.collector(url=url).read(1, 0.1)
        assert "hush" not in str(raised.value)


def test_a_table_that_is_not_there_yet(shop):
    """It is waited for."""
    collector = shop.collector(table="later", payload="")
    with pytest.raises(Unavailable, match=r"no table public\.later"):
        collector.read(1, 0.1)
    shop.run("CREATE TABLE later (id text)")
    until(collector, lambda: vouches(collector))
    collector.close()


def test_a_login_that_is_refused(shop):
    """Not tried again: trying again locks accounts."""
    wrong = shop.url.replace("postgres@", "nobody@")
    with pytest.raises(ConfigInvalid, match="nobody"):
        shop.collector(url=wrong).read(1, 0.1)
    shop.run("DROP ROLE IF EXISTS tracker_plain")
    shop.run("CREATE ROLE tracker_plain LOGIN")
    try:
        plain = shop.collector(url=shop.url.replace("postgres@", "tracker_plain@"))
        with pytest.raises(Unavailable, match=r"let the owner of the tables do it: CREATE PUBLICATION .*outbox"):
            until(plain, lambda: vouches(plain))
    finally:
        shop.run("DROP ROLE tracker_plain")


def test_a_disk_that_could_be_filled(own_shop):
    """A server that lets slots hold back the log without a bound is refused, unless somebody takes that on himself."""
    _, shop = own_shop(max_slot_wal_keep_size="-1")
    with pytest.raises(ConfigInvalid, match="ALTER SYSTEM SET max_slot_wal_keep_size"):
        shop.collector().read(1, 0.1)
    assert shop.slots() == []
    known = {"table": "outbox", "flow": "orders", "hop": "shop"}
    bold = outbox("shop", {"url": shop.url, "tables": [known], "unbounded_wal": True})
    until(bold, lambda: vouches(bold))
    assert shop.slots() == ["tracker_shop"]
    bold.close()


def test_a_slot_that_held_back_too_much(own_shop):
    """The server let go of it: a hole that is shown, and a new slot."""
    _, shop = own_shop(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB")
    with shop.watched():
        pass
    shop.put("unseen")
    for _ in range(5):
        shop.run("INSERT INTO outbox (id, payload) VALUES (gen_random_uuid(), repeat('x', 1000000)::bytea)")
        shop.run("SELECT pg_switch_wal()")
        shop.run("CHECKPOINT")
    assert shop.run("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    collector = shop.collector()
    begun_anew(collector)
    shop.put("m-1")
    assert said(collector, caught_up(collector)) == [("produce", "m-1")]
    collector.close()


def test_a_server_that_is_killed(own_shop):
    """In mid-read: what was committed comes after its restart, and coverage goes on without a hole."""
    server, shop = own_shop()
    with shop.watched() as collector:
        shop.put("m-1", "m-2")
        collector.commit([raw for raw in caught_up(collector) if collector.decode(raw)[0].message_id == "m-1"])
        shop.put("m-3")
        server.kill()
        with pytest.raises(Unavailable):
            until(collector, lambda: False)
        server.start()
        shop.again().put("m-4")
        seen = [name for _, name in said(collector, caught_up(collector, forgive=True))]
        assert list(dict.fromkeys(seen))[-3:] == ["m-2", "m-3", "m-4"]


def test_a_server_that_hangs(own_shop):
    """A read ends in time, and nothing is vouched for meanwhile."""
    _, shop = own_shop()
    with shop.watched() as collector:
        backends = [int(pid) for (pid,) in shop.run("SELECT pid FROM pg_stat_activity")]
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            began, lag = time.monotonic(), collector.lag().ms
            with pytest.raises(Unavailable, match="no answer within"):
                until(collector, lambda: False)
            waited = time.monotonic() - began
            assert waited < 10
            assert collector.lag().ms >= lag + waited * 1000 - 1000
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
        shop.put("m-1")
        assert said(collector, caught_up(collector, forgive=True)) == [("produce", "m-1")]


def test_a_hole_outlives_the_process(shop, tmp_path):
    """The table is made again while the collector is away. The next process of the same spool ends what was vouched for
    before it mends anything, though it knows nothing of the time before."""
    known = {"table": "outbox", "flow": "orders", "hop": "shop"}
    config = {"name": "shop", "kind": "postgres-outbox", "url": shop.url, "tables": [known], "look_every": 0.05}

    def vouching(request):
        """For something that happened after the first process stopped."""
        return request.report["sources"] and request.reached > stopped

    with HttpTracker() as tracker:
        stop = run(config, tracker.url, tmp_path)
        wait_for(lambda: covered(tracker, "produce"), "coverage")
        stop()
        before, stopped = len(tracker.requests), time.time_ns() // 1000
        shop.run("DROP TABLE outbox")
        shop.run(TABLE)
        shop.put("unseen")
        stop = run(config, tracker.url, tmp_path)
        wait_for(lambda: shop.run("SELECT 1 FROM pg_publication_tables"), "the table to be published again")
        told = tracker.requests[before:]
        wait_for(lambda: any(vouching(request) for request in tracker.requests[before:]), "coverage")
        shop.put("m-1")
        wait_for(lambda: lines(tracker), "the event")
        stop()
    after = tracker.requests[before:]
    first = next(n for n, request in enumerate(after) if vouching(request))
    assert first >= len(told), "vouched for before the table was published"
    assert any(not request.report["sources"] for request in after[:first]), "no end of what was vouched for before"
    assert [line["message_id"] for line in lines(tracker)] == ["m-1"]


def test_a_hole_outlives_a_process_that_did_not_see_its_end(shop, tmp_path):
    """It told of the hole and mended it, and was stopped while a transaction was open, before it could vouch for more.
    The next one finds everything in order, and must not join what it vouches for to what was vouched for before."""
    known = {"table": "outbox", "flow": "orders", "hop": "shop"}
    config = {"name": "shop", "kind": "postgres-outbox", "url": shop.url, "tables": [known], "look_every": 0.05}
    with HttpTracker() as tracker, psycopg.connect(shop.url) as slow:
        stop = run(config, tracker.url, tmp_path)
        wait_for(lambda: covered(tracker, "produce"), "coverage")
        stop()
        shop.run("DROP TABLE outbox")
        shop.run(TABLE)
        shop.put("unseen")
        slow.execute("CREATE TABLE other (id text)")
        before = len(tracker.requests)
        stop = run(config, tracker.url, tmp_path)
        wait_for(lambda: shop.run("SELECT 1 FROM pg_publication_tables"), "the table to be published again")
        mended = time.time_ns() // 1000
        wait_for(lambda: not all(r.report["sources"] for r in tracker.requests[before:]), "the hole to be told")
        stop()
        last = len(tracker.requests)
        stop = run(config, tracker.url, tmp_path)
        time.sleep(1.5)
        slow.commit()
        wait_for(lambda: any(r.report["sources"] and r.reached > mended for r in tracker.requests[last:]), "coverage")
        stop()
    assert [r.report["sequence"] for r in tracker.requests] == list(range(1, len(tracker.requests) + 1))
    named = [r for r in tracker.requests[last:] if r.report["sources"]]
    assert min(r.reached for r in named) > mended


def test_a_transaction_that_began_before_its_table_was_published(shop):
    """It is not decoded, so nothing is vouched for until it has ended."""
    with psycopg.connect(shop.url) as slow:
        shop.run("CREATE TABLE other (id text PRIMARY KEY)")
        with shop.watched():
            pass
        slow.execute("INSERT INTO other VALUES ('unseen')")
        tables = [{"table": name, "flow": "orders", "hop": "shop"} for name in ("outbox", "other")]
        both = outbox("shop", {"url": shop.url, "tables": tables, "look_every": 0.05})
        with closing(both):
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                both.read(10, 0.1)
                both.sources()
            assert not vouches(both)
            slow.commit()
            shop.run("INSERT INTO other VALUES ('m-1')")
            assert ("produce", "m-1") in said(both, caught_up(both))
            assert len(both.sources()) == 2


def test_a_publication_that_is_gone(shop):
    """With its slot still there, which would fail for ever, or show nothing: a new one, and a hole."""
    with shop.watched() as collector:
        shop.run("DROP PUBLICATION tracker_shop")
        shop.put("unseen")
        with pytest.raises(Unavailable):
            until(collector, lambda: False)
        begun_anew(collector)
        shop.put("m-1")
        assert said(collector, caught_up(collector)) == [("produce", "m-1")]


def test_a_column_that_is_gone(shop):
    """What it held is not guessed: said, and read again once the configuration is right."""
    with shop.watched() as collector:
        shop.run("ALTER TABLE outbox RENAME COLUMN payload TO body")
        shop.run("INSERT INTO outbox (id, body) VALUES ('m-1', 'x')")
        with pytest.raises(ConfigInvalid, match="has no column 'payload' any more"):
            until(collector, lambda: False)
    with shop.watched(payload="body") as collector:
        pass
    collector = shop.collector(payload="body")
    assert ("produce", "m-1") in said(collector, caught_up(collector))
    collector.close()


@pytest.mark.parametrize(
    ("kind", "fits"), [("smallint DEFAULT 0 NOT NULL", False), ("bool DEFAULT false NOT NULL", True)]
)
def test_a_mark_that_is_always_there(shop, kind, fits):
    """A status that always has a value would say that each row was relayed at once."""
    shop.run(f"ALTER TABLE outbox ADD COLUMN state {kind}")
    collector = shop.collector(relayed={"column": "state"})
    if fits:
        until(collector, lambda: vouches(collector))
        shop.put("m-1")
        shop.run("UPDATE outbox SET state = true")
        assert said(collector, caught_up(collector)) == [("produce", "m-1"), ("ack", "m-1")]
    else:
        with pytest.raises(ConfigInvalid, match="cannot tell that a row was relayed"):
            collector.read(1, 0.1)
    collector.close()


def test_a_partitioned_table_keeps_its_deletes(shop):
    """Without a primary key its leaves would refuse them; a row that moves between partitions was not purged."""
    shop.run("CREATE TABLE parted (id text, sent bool) PARTITION BY LIST (sent)")
    shop.run("CREATE TABLE parted_f PARTITION OF parted FOR VALUES IN (false)")
    shop.run("CREATE TABLE parted_t PARTITION OF parted FOR VALUES IN (true)")
    shop.run("ALTER TABLE parted REPLICA IDENTITY FULL")
    mark = {"table": "parted", "payload": "", "relayed": {"column": "sent"}}
    with pytest.raises(ConfigInvalid, match="give it a primary key"):
        shop.collector(**mark).read(1, 0.1)
    shop.run("ALTER TABLE parted ADD PRIMARY KEY (id, sent)")
    with shop.watched(**mark) as collector:
        shop.run("INSERT INTO parted VALUES ('m-1', false)")
        shop.run("UPDATE parted SET sent = true")
        stages = said(collector, caught_up(collector))
        assert ("ack", "m-1") in stages
        assert not [stage for stage, _ in stages if stage == "drop"]


def test_the_example_of_the_docs(shop, tmp_path):
    """The page's grants, publication and configuration as they stand, for a role that owns nothing, in the runner."""
    shop.run("DROP TABLE outbox")
    shop.run("CREATE TABLE outbox (id text PRIMARY KEY, payload text, created_at timestamptz, headers jsonb, "
             "sent_at timestamptz)")  # fmt: skip
    page = PAGE.read_text()
    (statements,) = re.findall(r"```sql\n(.*?)```", page, re.S)
    (text,) = re.findall(r"```yaml\n(tracker:.*?)```", page, re.S)
    (collector,) = yaml.safe_load(text)["collectors"]
    for statement in statements[statements.index("CREATE ROLE") :].split(";\n"):
        shop.run(statement)
    try:
        with HttpTracker() as tracker:
            login = shop.url.replace("postgres@", "tracker:...@")
            stop = run({**collector, "url": login}, tracker.url, tmp_path)
            wait_for(lambda: covered(tracker, "ack"), "coverage")
            shop.run(
                "INSERT INTO outbox (id, payload, headers) VALUES ('m-1', '{}', %s)", '{"x-correlation-id": "c-1"}'
            )
            shop.run("UPDATE outbox SET sent_at = now()")
            end = shop.run("SELECT pg_current_wal_lsn()")[0][0]
            confirmed = f"SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE {OURS}"
            wait_for(lambda: shop.run(confirmed, end)[0][0], "the slot to move on")
            stop()
        seen = [(line["stage"], line["message_id"], line.get("correlation_id")) for line in lines(tracker)]
        assert seen == [("produce", "m-1", "c-1"), ("ack", "m-1", None)]
    finally:
        shop.run("DROP PUBLICATION tracker_shop_outbox")
        shop.run("DROP ROLE tracker")
