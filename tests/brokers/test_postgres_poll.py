"""An outbox that is polled, on a real PostgreSQL: each row once, in whatever order transactions are committed."""

from __future__ import annotations

import random
import re
import time
from contextlib import ExitStack, closing, contextmanager
from itertools import count, islice
from pathlib import Path

import psycopg
import pytest
import yaml
from msgspec import structs

from collectors.base import Raw
from collectors.errors import ConfigInvalid, Unavailable
from collectors.postgres.cursor import Cursor, Seen
from collectors.postgres.look import SESSION, Feed, questions
from collectors.postgres.poll import poll
from tests.brokers.kafka_topic import wait_for
from tests.brokers.running import covered, lines, run
from tests.brokers.test_postgres_outbox import caught_up, said, until, vouches
from tests.contract.http_tracker import HttpTracker
from tracker.model.event import Stage

pytestmark = pytest.mark.brokers
TABLE = """CREATE TABLE outbox (id text PRIMARY KEY, payload bytea, kind text, created_at timestamptz,
    tx xid8 DEFAULT pg_current_xact_id(), sent_tx xid8)"""
INDEXES = "CREATE INDEX outbox_tx ON outbox (tx); CREATE INDEX outbox_sent ON outbox (sent_tx)"
MARKED = "UPDATE outbox SET sent_tx = pg_current_xact_id() WHERE id = %s"
PAGE = Path(__file__).parents[2] / "docs" / "collectors" / "postgres-poll.md"


class Shop:
    """A database with an outbox, and the application that writes it."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        self.application = psycopg.connect(url, autocommit=True)

    def run(self, query, *values):
        """A statement of the application, or of its owner."""
        cursor = self.application.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []

    def make(self):
        """The outbox."""
        self.run(TABLE)
        self.run(INDEXES)

    def put(self, *ids):
        """Rows, each committed."""
        for each in ids:
            self.run("INSERT INTO outbox (id, payload) VALUES (%s, 'x')", each)

    def taken(self):
        """How many entries were ever taken from the index of the rows, once nobody else is connected: who goes says
        what it took."""
        others = "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' " \
                 "AND state = 'idle' AND pid <> pg_backend_pid()"  # fmt: skip
        wait_for(lambda: not self.run(f"SELECT 1 {others}"), "connections that end")
        return self.run("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_tx'")[0][0]

    def collector(self, name="shop", rows=500, **table):
        """A collector of the outbox."""
        known = {"table": "outbox", "flow": "orders", "hop": "shop", "payload": "payload", **table}
        cursor = self.folder / f"{name}.cursor"
        return poll(name, {"url": self.url, "tables": [known], "cursor": cursor, "look_every": 0.05, "rows": rows})

    @contextmanager
    def watched(self, name="shop", **options):
        """A collector that vouches for all that happens from now on."""
        with closing(self.collector(name, **options)) as collector:
            until(collector, lambda: vouches(collector))
            yield collector


@pytest.fixture
def shop(postgres_server, tmp_path):
    """A database of its own on the shared server."""
    name = postgres_server.create_database()
    made = Shop(postgres_server.url(name), tmp_path)
    made.make()
    yield made
    made.application.close()
    postgres_server.drop_database(name)


def produced(collector, raws):
    """The messages of which a `produce` was seen."""
    return [name for stage, name in said(collector, raws) if stage == "produce"]


def test_an_open_transaction_hides_its_own_rows_and_nothing_else(shop):
    """It began first and is committed last: its row is not passed over, and the others do not wait for it; nor does
    coverage. What is rolled back, to a savepoint too, is not seen."""
    with (
        shop.watched() as collector,
        psycopg.connect(shop.url) as slow,
        psycopg.connect(shop.url) as quick,
        psycopg.connect(shop.url) as undone,
    ):
        slow.execute("INSERT INTO outbox (id) VALUES ('slow')")
        undone.execute("INSERT INTO outbox (id) VALUES ('never')")
        for number in range(3):
            quick.execute("INSERT INTO outbox (id) VALUES (%s)", (f"m-{number}",))
            quick.execute("SAVEPOINT one")
            quick.execute("INSERT INTO outbox (id) VALUES ('not this')")
            quick.execute("ROLLBACK TO one")
            quick.execute("INSERT INTO outbox (id) VALUES (%s)", (f"n-{number}",))
            quick.commit()
            raws = caught_up(collector)
            assert produced(collector, raws) == [f"m-{number}", f"n-{number}"]
            collector.commit(raws)
        undone.rollback()
        assert caught_up(collector) == []
        before = time.time_ns() // 1000
        slow.commit()
        (raw,) = caught_up(collector)
    (event,) = collector.decode(raw)
    assert event.message_id == "slow"
    assert event.observed_from < before < event.observed_at
    assert event.observed_at - event.observed_from < 10_000_000


def test_transactions_that_end_in_any_order(shop):
    """Some dozens of them at a time, three from the first look to the last, some undone, whole or to a savepoint, with
    looks, commits and ends of the process in between: what was committed is seen, no more and no less; what the tracker
    has is not read again."""
    chance = random.Random(7)
    committed, stored, seen = set(), [], []
    numbers = count()

    def write(connection, names):
        for number in islice(numbers, chance.randint(1, 5)):
            within, undone = chance.random() < 0.4, chance.random() < 0.5
            connection.execute("SAVEPOINT part") if within else None
            connection.execute("INSERT INTO outbox (id) VALUES (%s)", (f"m-{number}",))
            connection.execute(f"{'ROLLBACK TO' if undone else 'RELEASE'} part") if within else None
            if not (within and undone):
                names.append(f"m-{number}")

    def end(connection, names):
        if chance.random() < 0.7:
            connection.commit()
            committed.update(names)
        else:
            connection.rollback()

    with ExitStack() as stack:
        long: dict[psycopg.Connection, list[str]] = {
            stack.enter_context(psycopg.connect(shop.url)): [] for _ in range(3)
        }
        idle = [stack.enter_context(psycopg.connect(shop.url)) for _ in range(9)]
        for connection, names in long.items():
            write(connection, names)
        with shop.watched():
            pass
        collector = stack.enter_context(closing(shop.collector(rows=3)))
        busy: dict[psycopg.Connection, list[str]] = {}
        pending: list[Raw] = []
        for _ in range(400):
            match chance.randrange(9):
                case 0 | 1 | 2 if idle:
                    connection = idle.pop(chance.randrange(len(idle)))
                    write(connection, busy.setdefault(connection, []))
                case 3 | 4 if busy:
                    connection = chance.choice(list(busy))
                    end(connection, busy.pop(connection))
                    idle.append(connection)
                case 5 | 6:
                    raws = collector.read(chance.randint(1, 7), 0.06)
                    pending += raws
                    seen += produced(collector, raws)
                case 7:
                    done, pending = pending, []
                    if chance.random() < 0.5:
                        collector.commit(done)
                        stored += produced(collector, done)
                    else:
                        collector.close()
                        collector = stack.enter_context(closing(shop.collector(rows=3)))
                case 8:
                    connection = chance.choice(list(long))
                    write(connection, long[connection])
        for connection, names in {**busy, **long}.items():
            connection.commit()
            committed.update(names)
            seen += produced(collector, collector.read(chance.randint(1, 7), 0.06))
        seen += produced(collector, caught_up(collector))
    assert len(committed) > 100
    assert set(seen) == committed
    assert len(stored) > 20
    assert len(stored) == len(set(stored))


def test_what_was_read_is_not_read_again_beside_a_transaction_that_stays_open(shop):
    """By the server's own count of what it took from the index: looks cost what is new, however long it stays."""
    many = 3000
    with psycopg.connect(shop.url) as slow:
        slow.execute("INSERT INTO outbox (id) VALUES ('slow')")
        with shop.watched() as collector:
            shop.run(f"DO $$ BEGIN FOR n IN 1..{many} LOOP "
                     "INSERT INTO outbox (id) VALUES (n); COMMIT; END LOOP; END $$")  # fmt: skip
            raws = caught_up(collector)
            assert len(raws) == many
            collector.commit(raws)
        taken = shop.taken()
        assert taken >= many
        with shop.watched() as collector:
            for number in range(10):
                shop.put(f"m-{number}")
                assert produced(collector, caught_up(collector)) == [f"m-{number}"]
        assert shop.taken() - taken < 500
        with shop.watched() as collector:
            raws = until(collector, lambda: vouches(collector))
            slow.commit()
            assert "slow" in produced(collector, raws + caught_up(collector))


def test_each_question_is_answered_from_the_index(shop):
    """Of a million rows, whatever the planner was told of them: no row is touched that is not asked for, but those
    between the page's last and what comes with it. Behind a transaction that was open it finds the new ones."""
    shop.run("DROP TABLE outbox")
    shop.run(TABLE.replace("TABLE", "UNLOGGED TABLE").replace(" PRIMARY KEY", ""))
    shop.run(INDEXES)
    written = "INSERT INTO outbox (id, tx) SELECT n, n::text::xid8 FROM generate_series(%s::int, %s::int) n"
    shop.run(written, 1, 500_000)
    shop.run("ANALYZE outbox")
    shop.run(written, 500_001, 1_000_000)
    base, target = Seen("40000:500000:40000,45000", 0, 0), Seen("45000:999900:45000,999500", 0, 0)
    feed, cursor = Feed("public.outbox", "tx", Stage.produce), Cursor("shop", "", {}, base, target)
    further = structs.replace(cursor, tx=700_000, row="700000")
    with psycopg.connect(shop.url, options=" ".join(f"-c {n}={v}" for n, v in SESSION.items())) as reader:
        for analyzed in (False, True):
            if analyzed:
                shop.run("ANALYZE outbox")
            found = []
            for question in [
                *questions(feed, ["id"], cursor, target, 500),
                *questions(feed, ["id"], further, target, 500),
            ]:
                [[[plan]]] = reader.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {question}").fetchall()
                scan = next(node for node in nodes(plan["Plan"]) if "Relation Name" in node)
                assert scan["Node Type"] == "Index Scan", plan
                assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) < 600, plan
                found.append([row[0] for row in reader.execute(question).fetchall()])
            assert [(len(some), some[0], some[-1]) for some in found] == [
                (1, "40000", "40000"), (500, "500000", "500499"), (500, "700001", "700500"),
            ]  # fmt: skip


def nodes(plan):
    """A plan's nodes, from its root."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def test_a_large_transaction_comes_in_pages(shop):
    """All of its rows bear one number."""
    with shop.watched(rows=7) as collector:
        shop.run("INSERT INTO outbox (id) SELECT 'm-' || n FROM generate_series(1, 50) n")
        assert sorted(produced(collector, caught_up(collector))) == sorted(f"m-{n}" for n in range(1, 51))


def test_rows_of_one_name_and_transaction_lie_in_one_page(shop):
    """A message that goes to two places: the next page begins behind the last name."""
    shop.run("ALTER TABLE outbox DROP CONSTRAINT outbox_pkey")
    with shop.watched(rows=1, where={"kind": "b"}) as collector:
        shop.run("INSERT INTO outbox (id, kind) VALUES ('m-1', 'a'), ('m-1', 'b'), ('m-2', 'a'), ('m-2', 'b')")
        assert produced(collector, caught_up(collector)) == ["m-1", "m-2"]


def test_rows_that_were_marked(shop):
    """By the number of the transaction that marked them, in whatever order these end; marks of a row are no row."""
    with shop.watched(relayed={"column": "sent_tx"}) as collector:
        shop.put("m-1", "m-2", "m-3")
        assert [source.stage for source in collector.sources()] == ["produce", "ack"]
        with psycopg.connect(shop.url) as slow:
            slow.execute(MARKED, ("m-1",))
            shop.run(MARKED, "m-3")
            seen = said(collector, caught_up(collector))
            slow.commit()
        assert seen == [("produce", "m-1"), ("produce", "m-2"), ("produce", "m-3"), ("ack", "m-3")]
        assert said(collector, caught_up(collector)) == [("ack", "m-1")]
        shop.run("UPDATE outbox SET kind = 'seen before'")
        assert caught_up(collector) == []


def test_rows_without_a_number(shop):
    """Nobody can place them, so nothing is vouched for from when they came until they are mended: as what was there
    before, or as what is to be read."""
    shop.run("INSERT INTO outbox (id, tx) VALUES ('old', NULL), ('older', NULL)")
    with closing(shop.collector()) as collector:
        with pytest.raises(Unavailable, match=r"public\.outbox: 2 rows with no number .* SET \"tx\" = '0' WHERE"):
            until(collector, lambda: False)
        assert collector.sources() == []
        shop.run("UPDATE outbox SET tx = '0' WHERE tx IS NULL")
        until(collector, lambda: vouches(collector))
        shop.run("INSERT INTO outbox (id, tx) VALUES ('m-1', NULL)")
        came = time.monotonic()
        shop.put("m-2")
        with pytest.raises(Unavailable, match=r"1 rows with no number .* SET \"tx\" = pg_current_xact_id\(\)"):
            until(collector, lambda: False)
        time.sleep(0.2)
        with pytest.raises(Unavailable):
            collector.read(10, 0.1)
        assert collector.lag().ms >= (time.monotonic() - came) * 1000
        shop.run("UPDATE outbox SET tx = pg_current_xact_id() WHERE tx IS NULL")
        raws = caught_up(collector)
        assert sorted(produced(collector, raws)) == ["m-1", "m-2"]


def test_rows_with_numbers_of_another_server(shop):
    """Copied from one that has given more numbers: they would seem to be committed when this one has come so far. So
    would marks."""
    with shop.watched(relayed={"column": "sent_tx"}) as collector:
        for column in ("tx", "sent_tx"):
            shop.run(f"INSERT INTO outbox (id, {column}) VALUES ('{column}', '99999999')")
            with pytest.raises(
                Unavailable, match=rf"1 rows with a number in '{column}' that this server has not given"
            ):
                until(collector, lambda: False)
            shop.run(f"UPDATE outbox SET {column} = '0' WHERE {column} > '999999'")
            assert said(collector, caught_up(collector)) == [("produce", "sent_tx")] * (column == "sent_tx")


def test_what_a_poll_does_not_see(shop):
    """Rows that come and go between two looks. What was seen before stays seen."""
    with shop.watched() as collector:
        with psycopg.connect(shop.url) as connection:
            connection.execute("INSERT INTO outbox (id) VALUES ('gone')")
            connection.execute("DELETE FROM outbox")
        shop.put("m-1")
        assert produced(collector, caught_up(collector)) == ["m-1"]
        shop.run("DELETE FROM outbox")
        assert caught_up(collector) == []


def test_rows_of_some_flows(shop):
    """One table may stand several times; the first entry that fits counts, and other rows are none of ours."""
    entries = [
        {"table": "outbox", "flow": flow, "hop": "shop", "where": {"kind": flow}} for flow in ("orders", "bills")
    ]
    known = {"url": shop.url, "tables": entries, "cursor": shop.folder / "two.cursor", "look_every": 0.05}
    with closing(poll("two", known)) as collector:
        until(collector, lambda: vouches(collector))
        shop.run("INSERT INTO outbox (id, kind) VALUES ('o', 'orders'), ('b', 'bills'), ('x', 'others')")
        events = [event for raw in caught_up(collector) for event in collector.decode(raw)]
    assert {(event.flow, event.message_id) for event in events} == {("orders", "o"), ("bills", "b")}


def test_tables_that_are_named_in_another_order(shop):
    """Half of what a look found was read when the process ended: the cursor says of which tables, whatever the order in
    which the next one has them."""
    shop.run("CREATE TABLE bills (id text, tx xid8 DEFAULT pg_current_xact_id())")
    shop.run("CREATE INDEX ON bills (tx)")
    entries = [{"table": table, "flow": table, "hop": "shop"} for table in ("bills", "outbox")]
    known = {"url": shop.url, "cursor": shop.folder / "two.cursor", "look_every": 0.05}
    for begun in (entries, entries[::-1]):
        with closing(poll("two", {**known, "tables": begun})) as collector:
            until(collector, lambda: vouches(collector))
            with psycopg.connect(shop.url) as application:
                for table in ("bills", "outbox"):
                    application.execute(f"INSERT INTO {table} (id) VALUES ('m-1'), ('m-2')")
            while not (raws := collector.read(2, 0.1)):
                assert vouches(collector)
            collector.commit(raws)
        with closing(poll("two", {**known, "tables": begun[::-1]})) as collector:
            raws = caught_up(collector)
            assert produced(collector, raws) == ["m-1", "m-2"], begun
            collector.commit(raws)
        shop.run("DELETE FROM outbox")


def test_nothing_is_held_back_in_the_database(shop):
    """No slot; no transaction that stays open, between looks or while rows wait for the tracker; nothing is written."""
    with shop.watched() as collector:
        shop.put("m-1", "m-2")
        collector.read(1, 1.0)
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert shop.run(f"SELECT state, xact_start, backend_xmin, backend_xid {others}") == [("idle", None, None, None)]
        assert shop.run("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []


def test_a_cursor_that_is_lost(shop):
    """It begins anew, with now; a hole is told of first, and only then is there a cursor again."""
    with shop.watched() as collector:
        shop.put("m-1")
        collector.commit(caught_up(collector))
    shop.put("unseen")
    path = shop.folder / "shop.cursor"
    path.unlink()
    with closing(shop.collector()) as collector:
        assert collector.read(10, 0.1) == []
        assert collector.read(10, 0.1) == []
        assert not path.exists()
        assert collector.sources() == []
        until(collector, lambda: vouches(collector))
        assert path.exists()
        shop.put("m-2")
        assert produced(collector, caught_up(collector)) == ["m-2"]


def test_a_restart_leaves_no_hole(shop):
    """The tables are among the sources from the first read on, and what was written meanwhile comes before the lag is
    small."""
    with shop.watched() as collector:
        shop.put("m-1")
        collector.commit(caught_up(collector))
    shop.put("m-2")
    with closing(shop.collector()) as collector:
        raws = collector.read(10, 1.0)
        assert produced(collector, raws) == ["m-2"]
        assert collector.sources()
        assert collector.lag().ms > 10_000_000
        assert produced(collector, caught_up(collector)) == []


def test_an_idle_outbox_moves_its_cursor(shop, monkeypatch):
    """So that the next start does not take what comes then for something that may be old."""
    monkeypatch.setattr("collectors.postgres.poll.KEEP_TICKS", 0)
    with shop.watched() as collector:
        path = shop.folder / "shop.cursor"
        before = path.read_bytes()
        wait_for(lambda: collector.read(10, 0.1) or path.read_bytes() != before)
        shop.put("m-1")
        raws = caught_up(collector)
        kept = path.read_bytes()
        assert caught_up(collector) == []
        assert path.read_bytes() == kept, "moved past a row that the tracker does not have"
        collector.commit(raws)
        wait_for(lambda: collector.read(10, 0.1) or b'"target":null' in path.read_bytes())


def test_a_cursor_that_cannot_be_used(shop):
    """Of another collector, or damaged: the file is named, and nothing is begun."""
    with shop.watched():
        pass
    path = shop.folder / "shop.cursor"
    path.rename(shop.folder / "other.cursor")
    with closing(shop.collector("other")) as collector, pytest.raises(ConfigInvalid, match=r"that of .*'shop'"):
        collector.read(1, 0.1)
    path.write_bytes(b"{")
    with closing(shop.collector()) as collector, pytest.raises(ConfigInvalid, match=r"shop\.cursor cannot be read"):
        collector.read(1, 0.1)


def test_a_table_that_is_made_again(shop):
    """What it held may not have been read: a hole, and then on."""
    with shop.watched() as collector:
        shop.run("DROP TABLE outbox")
        with pytest.raises(Unavailable, match=r"there is no table public\.outbox"):
            until(collector, lambda: False)
        shop.make()
        shop.put("m-1")
        assert collector.read(10, 0.2) == []
        assert collector.read(10, 0.2) == []
        assert collector.sources() == []
        assert produced(collector, collector.read(10, 1.0)) == ["m-1"]
        assert collector.sources() == [], "its lag is still that of before"
        assert produced(collector, caught_up(collector)) == []


def test_a_server_that_is_killed(postgres_factory, tmp_path):
    """After a crash a server may give numbers again that it gave before: a hole, told of first. What was committed and
    not read is read, before and after."""
    server = postgres_factory()
    shop = Shop(server.url(), tmp_path)
    shop.make()
    with shop.watched() as collector:
        shop.put("m-1")
        collector.commit(caught_up(collector))
        shop.put("m-2")
        server.kill()
        with pytest.raises(Unavailable):
            until(collector, lambda: False)
        shop.application.close()
        server.start()
        shop = Shop(server.url(), tmp_path)
        shop.put("m-3")
        until(collector, lambda: not collector.sources(), forgive=True)
        assert produced(collector, caught_up(collector, forgive=True)) == ["m-2", "m-3"]
    shop.application.close()


@pytest.mark.parametrize(
    ("change", "table", "reason"),
    [
        ("DROP INDEX outbox_tx", {}, r"no index begins with 'tx'.*CREATE INDEX"),
        ("DROP INDEX outbox_tx; CREATE INDEX ON outbox (tx) WHERE kind = 'a'", {}, r"no index begins with 'tx'"),
        ("DROP INDEX outbox_tx; CREATE INDEX ON outbox USING hash (tx)", {}, r"no index begins with 'tx'"),
        ("ALTER TABLE outbox DROP COLUMN tx", {}, r"no column 'tx'.*ADD COLUMN tx xid8 DEFAULT '0';"),
        ("ALTER TABLE outbox ALTER COLUMN tx DROP DEFAULT", {}, r"SET DEFAULT pg_current_xact_id"),
        ("SELECT 1", {"relayed": {"column": "created_at"}}, r"'created_at' is not of the type xid8"),
        ("SELECT 1", {"origin": "made_at"}, r"no column 'made_at'"),
    ],
)
def test_tables_that_do_not_fit(shop, change, table, reason):
    """What has to be changed is said, with the statement that does it."""
    shop.run(change)
    with closing(shop.collector(**table)) as collector, pytest.raises(ConfigInvalid, match=reason):
        collector.read(1, 0.1)


def test_what_is_deleted_cannot_be_asked_for(shop):
    """The configuration says so before anything is read."""
    with pytest.raises(ConfigInvalid, match="a poll does not see rows that are deleted"):
        shop.collector(relayed="delete")


def test_rows_that_a_policy_hides(shop):
    """They would be missing without a word; so the database is asked to refuse."""
    shop.run("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY")
    shop.run("CREATE ROLE poller LOGIN")
    shop.run("GRANT SELECT ON outbox TO poller")
    try:
        shop.url = shop.url.replace("postgres@", "poller@")
        with closing(shop.collector()) as collector, pytest.raises(ConfigInvalid, match="row-level security"):
            until(collector, lambda: vouches(collector))
    finally:
        shop.run("DROP OWNED BY poller")
        shop.run("DROP ROLE poller")


def test_a_table_that_is_partitioned(shop):
    """Read by its root; a row that moves between partitions is the same row."""
    shop.run("DROP TABLE outbox")
    shop.run(TABLE.replace("id text PRIMARY KEY", "id text, day int") + " PARTITION BY LIST (day)")
    shop.run(INDEXES)
    for day in (1, 2):
        shop.run(f"CREATE TABLE outbox_{day} PARTITION OF outbox FOR VALUES IN ({day})")
    with shop.watched() as collector:
        shop.run("INSERT INTO outbox (id, day) VALUES ('m-1', 1), ('m-2', 2)")
        assert sorted(produced(collector, caught_up(collector))) == ["m-1", "m-2"]
        shop.run("UPDATE outbox SET day = 2")
        assert caught_up(collector) == []


def test_the_example_of_the_docs(shop, tmp_path):
    """The page's statements and configuration as they stand, in the runner, for a role that may only read; with a
    restart in between, after which what was written meanwhile is reported, and nothing twice."""
    shop.run("DROP TABLE outbox")
    shop.run("CREATE TABLE outbox (id text PRIMARY KEY, payload text, created_at timestamptz, headers jsonb, "
             "sent_at timestamptz)")  # fmt: skip
    shop.put("before")
    page, pages = PAGE.read_text(), "SELECT pg_relation_filenode('outbox')"
    file = shop.run(pages)
    for statements in re.findall(r"```sql\n(.*?)```", page, re.S):
        for statement in statements.split(";\n"):
            shop.run(statement)
    assert shop.run(pages) == file, "the table was written anew"
    (text,) = re.findall(r"```yaml\n(tracker:.*?)```", page, re.S)
    (collector,) = yaml.safe_load(text)["collectors"]
    login = shop.url.replace("postgres@", "tracker:...@")
    config = {**collector, "url": login, "cursor": str(tmp_path / "cursor")}
    insert = "INSERT INTO outbox (id, payload, headers) VALUES (%s, '{}', %s)"
    try:
        with HttpTracker() as tracker:
            stop = run(config, tracker.url, tmp_path)
            wait_for(lambda: covered(tracker, "ack"), "coverage")
            shop.run(insert, "m-1", '{"x-correlation-id": "c-1"}')
            wait_for(lambda: lines(tracker), "the row")
            stop()
            shop.run("UPDATE outbox SET sent_at = now()")
            shop.run(insert, "m-2", "{}")
            stop = run(config, tracker.url, tmp_path)
            wait_for(lambda: len(lines(tracker)) > 3, "what was written meanwhile")
            stop()
        seen = [(line["stage"], line["message_id"], line.get("correlation_id")) for line in lines(tracker)]
        assert seen == [
            ("produce", "m-1", "c-1"),
            ("produce", "m-2", None),
            ("ack", "before", None),
            ("ack", "m-1", None),
        ]
    finally:
        shop.run("DROP OWNED BY tracker")
        shop.run("DROP ROLE tracker")
