from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest

from collectors.postgres.outbox import outbox
from collectors.postgres.poll import poll
from tests.contract.broker import SECRET, BrokerContract
from tests.contract.suite import CollectorContract
from tests.servers.postgres import let_go
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.brokers
TABLE = "CREATE TABLE outbox (id text PRIMARY KEY, payload jsonb, created_at timestamptz DEFAULT now())"


class TestPostgresOutbox(BrokerContract):
    stage = "produce"

    @pytest.fixture(autouse=True)
    def system(self, postgres_server):
        """A database of its own with an outbox. A slot shows what is committed from its making on, so both names have
        been there once."""
        self.database = name = postgres_server.create_database()
        self.url, self.sent = postgres_server.url(name), 0
        with psycopg.connect(self.url, autocommit=True) as self.application:
            self.application.execute(TABLE)
            for each in ("one", "two"):
                collector = self.collector(each)
                while not collector.sources():
                    collector.read(1, 0.05)
                collector.close()
            yield
            let_go(self.application)
        postgres_server.drop_database(name)

    def put(self, count):
        """Rows, each in a transaction of its own."""
        ids = [f"m-{self.sent + i}" for i in range(count)]
        self.sent += count
        for each in ids:
            self.application.execute("INSERT INTO outbox VALUES (%s, %s)", (each, '{"total": 7}'))
        return ids

    def collector(self, name="one"):
        """Reads the one table."""
        own = self.described(name)
        return outbox(own.pop("name"), {key: value for key, value in own.items() if key != "kind"})

    def described(self, name="one", at=""):
        """Of the one table."""
        table = {"table": "public.outbox", "flow": "orders", "hop": "shop", "payload": "payload"}
        url = self.url.replace(urlsplit(self.url).netloc.rpartition("@")[2], at) if at else self.url
        return {"name": f"{self.database}_{name}", "kind": "postgres-outbox", "url": url, "tables": [table]}

    def between(self):
        """Before the server."""
        server = urlsplit(self.url)
        return Proxy((server.hostname, server.port))

    def remake(self):
        """The table."""
        self.application.execute("DROP TABLE outbox")
        self.application.execute(TABLE)

    def large(self, size):
        """One row, its payload a JSON string."""
        self.application.execute("INSERT INTO outbox VALUES ('large', to_jsonb(repeat('x', %s)))", (size - 2,))
        return "large"

    def refused(self):
        """A user that may log in with a password only, and not with this one."""
        return {**self.described(), "url": self.url.replace("postgres@", f"stranger:{SECRET}@")}

    def others(self):
        """What the table holds, and whether anything waits for a lock."""
        rows = self.application.execute("SELECT id, payload, created_at, xmin::text FROM outbox ORDER BY id").fetchall()
        return rows, self.application.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()


class TestPolledOutbox(CollectorContract):
    patience = 20.0

    @pytest.fixture(autouse=True)
    def system(self, postgres_server, tmp_path):
        """A database of its own with an outbox. A cursor begins where it is first kept, so both names have been there
        once."""
        name = postgres_server.create_database()
        self.url, self.folder, self.sent = postgres_server.url(name), tmp_path, 0
        with psycopg.connect(self.url, autocommit=True) as self.application:
            self.application.execute(TABLE.replace(" now()", " now(), tx xid8 DEFAULT pg_current_xact_id()"))
            self.application.execute("CREATE INDEX ON outbox (tx)")
            for each in ("one", "two"):
                collector = self.collector(each)
                while not collector.sources():
                    collector.read(1, 0.05)
                collector.close()
            yield
        postgres_server.drop_database(name)

    put = TestPostgresOutbox.put
    others = TestPostgresOutbox.others

    def collector(self, name="one"):
        """Polls the one table."""
        table = {"table": "public.outbox", "flow": "orders", "hop": "shop", "payload": "payload"}
        cursor = self.folder / f"{name}.cursor"
        return poll(name, {"url": self.url, "tables": [table], "cursor": cursor, "look_every": 0.05})
