"""The control database on a real PostgreSQL keeps the very promises that it keeps on SQLite: the same test classes."""

from collections.abc import Callable, Iterator
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import text

from tests.component.control.running import together
from tests.component.control.test_audit import TestLog, TestTampering
from tests.component.control.test_control import TestEdges, TestTransactions
from tests.component.control.test_flows import TestBits, TestDelete, TestVersions
from tests.component.control.test_idempotency import TestKeys
from tests.component.control.test_incidents import TestPages, TestPatch, TestUpsert
from tests.component.control.test_leases import TestLeases
from tests.component.control.test_messages import TestClaim, TestLooking, TestMarking, TestNeverTwice, running
from tests.component.control.test_migrate import TestSchema
from tests.component.control.test_passes import TestPasses
from tests.component.control.test_replays import TestAdding, TestLife
from tests.component.control.test_settings import TestSettings
from tests.component.control.test_statements import TestStatements
from tests.component.control.test_tokens import TestBootstrap, TestTokens
from tests.servers.postgres import Databases, PostgreSQL
from tracker.control import Control
from tracker.control.database import Database, engine_for, lock
from tracker.control.errors import Unavailable

pytestmark = pytest.mark.brokers

__all__ = [  # what this module runs again
    "TestAdding",
    "TestBits",
    "TestBootstrap",
    "TestClaim",
    "TestDelete",
    "TestEdges",
    "TestKeys",
    "TestLeases",
    "TestLife",
    "TestLog",
    "TestLooking",
    "TestMarking",
    "TestNeverTwice",
    "TestPages",
    "TestPasses",
    "TestPatch",
    "TestSchema",
    "TestSettings",
    "TestStatements",
    "TestTampering",
    "TestTokens",
    "TestTransactions",
    "TestUpsert",
    "TestVersions",
]


@pytest.fixture(scope="session")
def empty_database(postgres_server: Databases) -> str:
    """The name of a database with the schema and nothing in it: to copy is quicker than to migrate."""
    name = postgres_server.create_database()
    Control.open(postgres_server.url(name)).close()
    return name


@pytest.fixture
def control_url(postgres_server: Databases, empty_database: str) -> Iterator[str]:
    """A database of the test's own."""
    name = postgres_server.create_database(empty_database)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def control(control_url: str) -> Iterator[Control]:
    """An open, empty control database."""
    with Control(Database(engine_for(control_url))) as opened:
        yield opened


class TestServer:
    def test_a_new_database_is_migrated_by_one_while_others_wait(self, postgres_server: Databases) -> None:
        """Five trackers start on an empty database at the same moment."""
        name = postgres_server.create_database()
        together(5, lambda _: Control.open(postgres_server.url(name)).close())
        with Control.open(postgres_server.url(name)) as control:
            assert control.settings.get("a") is None
        postgres_server.drop_database(name)

    def test_a_claimer_passes_over_what_another_is_claiming(self, control: Control) -> None:
        """Two claims overlap in time: the second does not wait and takes the next messages."""
        running(control, 4)
        with control.transaction() as books:
            first = books.messages.claim("r-1", 2, "a", 200, 50)
            second = control.messages.claim("r-1", 2, "b", 200, 50)
        assert [one.message_id for one in first + second] == ["m-0", "m-1", "m-2", "m-3"]

    def test_a_cancel_waits_for_a_claim_and_stops_the_next(self, control: Control) -> None:
        """No message is claimed after the cancel was answered."""
        running(control, 4)

        def cancel_or_claim(number: int) -> int:
            if number == 0:
                return len(control.messages.claim("r-1", 2, "a", 200, 50))
            control.replays.move("r-1", "cancelled", 200, by="ann")
            return 0

        together(2, cancel_or_claim)
        assert control.messages.claim("r-1", 2, "b", 201, 50) == []

    def test_a_cut_connection_is_replaced(self, control: Control, control_url: str) -> None:
        """Whoever was using it is told `Unavailable`; the next call works."""

        def work() -> None:
            with control._database.read() as session:
                pid = session.scalar(text("SELECT pg_backend_pid()"))
                with psycopg.connect(control_url) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", [pid])
                session.execute(text("SELECT 1"))

        with pytest.raises(Unavailable, match=r"127\.0\.0\.1|localhost"):
            work()
        control.ping()

    def test_who_waits_too_long_for_a_lock_may_try_again(self, control: Control) -> None:
        """Nothing waits for ever."""

        def wait() -> None:
            with control._database.write() as session:
                session.execute(text("SET LOCAL lock_timeout = 50"))
                lock(session, "audit")

        with control.transaction() as books:
            books.audit.append(1, "ann", "x", "y")
            with pytest.raises(Unavailable, match="lock timeout"):
                wait()
        wait()

    def test_two_that_wait_for_each_other_are_told_apart(self, control: Control) -> None:
        """A deadlock ends one of them with `Unavailable`; the other goes on."""
        both = Barrier(2)

        def work(number: int) -> str:
            names = ["a", "b"] if number == 0 else ["b", "a"]
            try:
                with control._database.write() as session:
                    lock(session, names[0])
                    both.wait(10)
                    lock(session, names[1])
            except Unavailable as error:
                return "deadlock" if "deadlock" in str(error) else str(error)
            return "done"

        assert sorted(together(2, work)) == ["deadlock", "done"]


class TestOutage:
    def test_after_a_crash_everything_that_was_answered_is_there(
        self, postgres_factory: Callable[[], PostgreSQL]
    ) -> None:
        """The server is killed; calls in between say `Unavailable`; the same `Control` goes on when it is back."""
        server = postgres_factory()
        with Control.open(server.url(server.create_database())) as control:
            control.settings.put("a", "1")
            server.kill()
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                control.settings.put("a", "2")
            server.start()
            assert control.settings.get("a") == "1"
            control.settings.put("a", "3")
