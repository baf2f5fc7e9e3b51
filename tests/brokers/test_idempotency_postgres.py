"""Effects once with PostgreSQL: marks in the effect's transaction, and what happens when the server does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from collectors.errors import ConfigInvalid, Forked
from collectors.idempotency import (
    AsyncOnce,
    Busy,
    BusyElsewhere,
    Claim,
    Done,
    First,
    Late,
    NotInTransaction,
    Once,
    StoreUnavailable,
    Unknown,
)
from collectors.idempotency.postgres import Marks, PostgresStore
from collectors.idempotency.postgres_async import AsyncMarks, AsyncPostgresStore
from tests.brokers.effects import Effects, mine, new_id, own_effects
from tests.brokers.kept import on_a_loop
from tests.contract.places import InPostgres
from tests.servers.postgres import Databases, PostgreSQL

pytestmark = pytest.mark.brokers
TERMS: Any = {"consumer": "billing", "flow": "orders"}


@pytest.fixture(scope="module")
def effects(postgres_server: Databases) -> Iterator[Effects]:
    """Where effects are counted."""
    with own_effects(postgres_server) as made:
        yield made


@pytest.fixture
def place(effects: Effects) -> Iterator[InPostgres]:
    """A store beside the marks."""
    made = InPostgres(effects.url)
    yield made
    made.store.close()


@pytest.fixture
def marks() -> Marks:
    """Of the same consumer."""
    return Marks(**TERMS)


def act(connection: psycopg.Connection[Any], message: str) -> None:
    """The effect."""
    connection.execute("INSERT INTO effects VALUES (%s)", [message])


class TestMarks:
    def test_mark_and_effect_are_one(self, effects: Effects, marks: Marks) -> None:
        """Committed together: afterwards it is done, for a store too. Rolled back together: it is anybody's."""
        message = new_id()

        def fail() -> None:
            with psycopg.connect(effects.url) as connection:
                assert marks.first(connection, message)
                act(connection, message)
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            fail()
        assert effects.count(message) == 0
        for expected in (True, False, False):
            with psycopg.connect(effects.url) as connection:
                if first := marks.first(connection, message):
                    act(connection, message)
                assert first is expected
        assert effects.count(message) == 1

    def test_a_savepoint_takes_the_mark_back(self, effects: Effects, marks: Marks) -> None:
        """Of a batch in one transaction, one message may fail alone."""
        good, bad = new_id(), new_id()
        with psycopg.connect(effects.url) as connection:
            for message in (bad, good):
                with suppress(ZeroDivisionError), connection.transaction():
                    assert marks.first(connection, message)
                    act(connection, message)
                    _ = 1 / (message == good)
        assert (effects.count(good), effects.count(bad)) == (1, 0)
        with psycopg.connect(effects.url) as connection:
            assert isinstance(marks.begin(connection, good), Done)
            assert isinstance(marks.begin(connection, bad), First)

    def test_twice_in_one_batch(self, effects: Effects, marks: Marks) -> None:
        """Both copies in one transaction: the second one finds the mark of the first, which is not committed yet."""
        message = new_id()
        with psycopg.connect(effects.url) as connection:
            for expected in (True, False):
                if first := marks.first(connection, message):
                    act(connection, message)
                assert first is expected
        assert effects.count(message) == 1

    def test_two_at_a_time_do_not_wait_for_each_other(self, effects: Effects, place: InPostgres, marks: Marks) -> None:
        """While one transaction is open, everybody else is told `Busy` at once, and its transaction stays usable."""
        message, once = new_id(), place.once()
        with psycopg.connect(effects.url) as one, psycopg.connect(effects.url) as other:
            assert marks.first(one, message)
            began = time.monotonic()
            assert isinstance(marks.begin(other, message), Busy)
            assert isinstance(once.begin(message), Busy)
            with pytest.raises(BusyElsewhere):
                marks.first(other, message)
            assert time.monotonic() - began < 0.5
            assert other.execute("SELECT 1").fetchone() == (1,)
            act(one, message)
            one.commit()
            assert isinstance(marks.begin(other, message), Done)
        assert isinstance(once.begin(message), Done)

    def test_of_many_transactions_one_has_the_effect(self, effects: Effects, marks: Marks) -> None:
        """Eight threads, each until it is done."""
        messages = [new_id() for _ in range(20)]

        def work() -> None:
            with psycopg.connect(effects.url) as connection:
                left = list(messages)
                while left:
                    message = left.pop(0)
                    try:
                        if marks.first(connection, message):
                            act(connection, message)
                        connection.commit()
                    except BusyElsewhere:
                        connection.rollback()
                        left.append(message)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [effects.count(message) for message in messages] == [1] * 20

    def test_a_claim_is_marked_in_the_transaction(self, effects: Effects, place: InPostgres, marks: Marks) -> None:
        """`begin` outside, long work, then effect and mark together."""
        once, message = place.once(), new_id()
        claim = once.begin(message)
        with psycopg.connect(effects.url) as connection:
            act(connection, message)
            marks.done(connection, claim)
            assert isinstance(once.begin(message), Busy)
        assert isinstance(once.begin(message), Done)
        assert effects.count(message) == 1

    @staticmethod
    def effect_of(effects: Effects, marks: Marks, claim: Claim) -> None:
        """Effect and mark of a claim, in one transaction."""
        with psycopg.connect(effects.url) as connection:
            act(connection, claim.key.message_id)
            marks.done(connection, claim)

    def test_a_late_claim_takes_its_effect_back(self, effects: Effects, place: InPostgres, marks: Marks) -> None:
        """Fencing: the lease ran out, another one did it, and the late one's transaction ends in nothing."""
        once, message = place.once(), new_id()
        claim = once.begin(message)
        place.lapse(claim.key)
        heir = once.begin(message)
        assert isinstance(heir, Unknown)
        with psycopg.connect(effects.url) as connection:
            act(connection, message)
            marks.done(connection, heir)
        with pytest.raises(Late):
            self.effect_of(effects, marks, claim)
        assert effects.count(message) == 1

    def test_a_late_claim_while_the_heir_commits(self, effects: Effects, place: InPostgres, marks: Marks) -> None:
        """It waits a moment for the heir's open transaction, and then gives up: nothing waits without bound."""
        once, message = place.once(), new_id()
        claim = once.begin(message)
        place.lapse(claim.key)
        with psycopg.connect(effects.url) as heir:
            assert isinstance(marks.begin(heir, message), Unknown)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                self.effect_of(effects, marks, claim)
            assert 0.9 < time.monotonic() - began < 5
            act(heir, message)
        assert effects.count(message) == 1

    @pytest.mark.parametrize("which", ["begin", "done"])
    def test_without_a_transaction_nothing_is_marked(
        self, effects: Effects, place: InPostgres, marks: Marks, which: str
    ) -> None:
        """A connection in autocommit mode is refused, unless a transaction was opened on it."""
        message = new_id()
        claim = mine(place.once().begin(message)) if which == "done" else None

        def mark(connection: psycopg.Connection[Any]) -> None:
            if claim:
                marks.done(connection, claim)
            else:
                marks.begin(connection, message)

        with psycopg.connect(effects.url, autocommit=True) as connection:
            with pytest.raises(NotInTransaction):
                mark(connection)
            with connection.transaction():
                mark(connection)

    def test_rows_may_be_dictionaries(self, effects: Effects, marks: Marks) -> None:
        """The connection's own row factory is its own."""
        with psycopg.connect(effects.url, row_factory=dict_row) as connection:
            assert isinstance(marks.begin(connection, new_id()), First)

    def test_a_strict_transaction_fails_rather_than_doing_it_twice(self, effects: Effects, marks: Marks) -> None:
        """Repeatable read does not see what was committed since: it cannot be serialized, and is told so."""
        message = new_id()
        with psycopg.connect(effects.url) as strict, psycopg.connect(effects.url) as other:
            strict.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            strict.execute("SELECT count(*) FROM effects")
            assert marks.first(other, message)
            other.commit()
            with pytest.raises(StoreUnavailable):
                marks.first(strict, message)
            strict.rollback()
            assert not marks.first(strict, message)

    @on_a_loop
    async def test_on_an_event_loop(self, effects: Effects, place: InPostgres) -> None:
        """The same for async connections."""
        marks, message = AsyncMarks(**TERMS), new_id()
        for expected in (True, False):
            async with await psycopg.AsyncConnection.connect(effects.url) as connection:
                if first := await marks.first(connection, message):
                    await connection.execute("INSERT INTO effects VALUES (%s)", [message])
                assert first is expected
        assert effects.count(message) == 1
        assert (marks.counts.first, marks.counts.done) == (1, 1)
        claim = place.once().begin(message := new_id())
        async with await psycopg.AsyncConnection.connect(effects.url) as connection:
            await marks.done(connection, claim)
        async with await psycopg.AsyncConnection.connect(effects.url, autocommit=True) as connection:
            with pytest.raises(NotInTransaction):
                await marks.begin(connection, message)
        claim = place.once().begin(message := new_id())
        place.lapse(claim.key)
        assert isinstance(place.once().begin(message), Unknown)
        with pytest.raises(Late):
            async with await psycopg.AsyncConnection.connect(effects.url) as connection:
                await marks.done(connection, claim)


class TestKeeping:
    def test_what_was_kept_long_enough_is_pruned(self, postgres_server: Databases) -> None:
        """In small statements by the index; what somebody holds is left for the next time, what is to be kept stays."""
        with own_effects(postgres_server) as own, psycopg.connect(own.url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO message_once SELECT 'billing', 'orders', 'm-' || n, n, n % 2 = 0, false, now(), "
                "now() + (n - 2500) * interval '1 hour' FROM generate_series(1, 5000) AS n"
            )
            connection.execute("ANALYZE message_once")
            store = PostgresStore(own.url)
            with psycopg.connect(own.url) as holder:
                holder.execute("SELECT FROM message_once WHERE message_id = 'm-1' FOR UPDATE")
                assert store.prune(limit=1000) == 1000
                assert store.prune() == 1499
            assert store.prune() == 1
            assert store.prune() == 0
            assert connection.execute("SELECT count(*), min(token) FROM message_once").fetchone() == (2500, 2501)
            plan = connection.execute(
                "EXPLAIN SELECT ctid FROM message_once WHERE expires <= now() ORDER BY expires LIMIT 1000"
            ).fetchall()
            assert "message_once_expires" in str(plan)
            store.close()

    def test_the_table_may_be_made_by_several_at_once(self, postgres_server: Databases) -> None:
        """And again, and under a name of one's own."""
        name = postgres_server.create_database()
        stores = [PostgresStore(postgres_server.url(name), table="public.seen") for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(PostgresStore.create, stores))
        once = Once(stores[0], unknown="again", **TERMS)
        once.done(mine(once.begin("m-1")))
        assert isinstance(Once(stores[1], unknown="again", **TERMS).begin("m-1"), Done)
        for store in stores:
            store.close()
        postgres_server.drop_database(name)

    @pytest.mark.parametrize("ended", [True, False])
    def test_a_message_that_comes_again_costs_no_write(self, effects: Effects, marks: Marks, ended: bool) -> None:
        """Neither of a done one nor of a busy one is the row touched, nor even locked."""
        store, message = PostgresStore(effects.url), new_id()
        once = Once(store, unknown="again", **TERMS)
        claim = mine(once.begin(message))
        if ended:
            once.done(claim)
        query = "SELECT ctid::text, xmin::text, xmax::text FROM message_once WHERE message_id = %s"
        with psycopg.connect(effects.url, autocommit=True) as connection:
            before = connection.execute(query, [message]).fetchall()
            assert isinstance(once.begin(message), Done if ended else Busy)
            with connection.transaction():
                assert isinstance(marks.begin(connection, message), Done if ended else Busy)
            assert connection.execute(query, [message]).fetchall() == before
        store.close()

    def test_a_mark_touches_no_index(self, effects: Effects) -> None:
        """`done` is a heap-only update, which the table's fill factor makes room for."""
        store = PostgresStore(effects.url)
        once = Once(store, unknown="again", **TERMS)
        with psycopg.connect(effects.url, autocommit=True) as connection:
            for _ in range(50):
                once.done(mine(once.begin(new_id())))
            store.close()
            query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'message_once'"
            until = time.monotonic() + 20
            while (found := connection.execute(query).fetchone())[0] < 50 and time.monotonic() < until:
                time.sleep(0.05)
        assert found[0] >= 50
        assert found[1] / found[0] > 0.8


class TestAway:
    """Nothing is executed, the error says why, and nobody waits for ever."""

    def test_a_server_that_stands_still(self, postgres_factory: Callable[..., PostgreSQL]) -> None:
        """Its connection stays open and nothing answers; when it goes on, so does the store."""
        server = postgres_factory()
        store = PostgresStore(server.url(), timeout=0.5)
        store.create()
        once, executed = Once(store, unknown="again", lease="60s", **TERMS), []
        once.done(mine(once.begin("m-0")))
        backends = _backends(server)
        _signal(backends, "STOP")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer"), once.doing("m-1"):
            executed.append(1)
        assert time.monotonic() - began < 5
        asyncio.run(_stands_still_async(server, executed))
        _signal(backends, "CONT")
        assert executed == []
        assert isinstance(once.begin("m-0"), Done)
        claim, other = mine(once.begin("m-2")), mine(once.begin("m-3"))
        _signal(backends := _backends(server), "STOP")
        once.done(claim)  # by a second connection
        _signal(backends := _backends(server), "STOP")
        server.process.pause()
        with pytest.raises(StoreUnavailable):
            once.done(other)
        server.process.resume()
        _signal(backends, "CONT")
        assert isinstance(once.begin("m-2"), Done)
        store.close()

    def test_a_server_that_is_killed(self, postgres_factory: Callable[..., PostgreSQL]) -> None:
        """Between effect and mark the mark is tried on a new connection; what is not marked stays claimed."""
        server = postgres_factory()
        store = PostgresStore(server.url(), timeout=2.0)
        store.create()
        once = Once(store, unknown="again", lease="60s", **TERMS)
        one, other = mine(once.begin("m-1")), mine(once.begin("m-2"))

        def lose() -> None:
            server.kill()
            _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as raised, once.doing("m-3"):
            lose()
        assert "'m-3' of flow 'orders' at 'billing' stays claimed for" in raised.value.__notes__[0]
        with pytest.raises(StoreUnavailable):
            once.begin("m-4")
        with pytest.raises(StoreUnavailable):
            once.done(one)
        server.start()
        once.done(one)
        assert isinstance(once.begin("m-1"), Done)
        assert isinstance(once.begin("m-3"), Busy)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        once.done(other)
        assert isinstance(once.begin("m-2"), Done)
        store.close()

    def test_what_trying_again_does_not_cure(self, postgres_server: Databases) -> None:
        """No table, no such database, no such login: said as such."""
        name = postgres_server.create_database()
        url = postgres_server.url(name)
        for given in (url, postgres_server.url("nowhere"), url.replace("postgres@", "nobody@")):
            store = PostgresStore(given)
            with pytest.raises(ConfigInvalid):
                Once(store, unknown="again", **TERMS).begin("m-1")
            store.close()
        with pytest.raises(ConfigInvalid, match="table"):
            PostgresStore(url, table="a; DROP TABLE b")
        postgres_server.drop_database(name)

    def test_a_fork_is_refused(self, effects: Effects) -> None:
        """Two processes on one connection would read each other's answers."""
        store = PostgresStore(effects.url)
        once = Once(store, unknown="again", **TERMS)
        once.begin(new_id())
        store._pid += 1  # as a child process finds it
        with pytest.raises(Forked):
            once.begin(new_id())
        store._pid = os.getpid()
        store.close()

    @on_a_loop
    async def test_a_cancelled_task_leaves_no_answer_behind(self, effects: Effects) -> None:
        """The next task hears its own answer, not that of the one that was cancelled."""
        store = AsyncPostgresStore(effects.url)
        once = AsyncOnce(store, unknown="again", **TERMS)
        done = new_id()
        claim: Any = await once.begin(done)
        await once.done(claim)
        for pause in range(20):
            task = asyncio.create_task(once.begin(done))
            await asyncio.sleep(pause / 5000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert isinstance(await once.begin(new_id()), First)
        await store.close()


async def _stands_still_async(server: PostgreSQL, executed: list[int]) -> None:
    store = AsyncPostgresStore(server.url(), timeout=0.5)
    once = AsyncOnce(store, unknown="again", **TERMS)
    await once.begin("m-async")
    _signal(backends := _backends(server), "STOP")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="no answer"):
        async with once.doing("m-1"):
            executed.append(1)
    assert time.monotonic() - began < 5
    _signal(backends, "CONT")
    await store.close()


def _backends(server: PostgreSQL) -> list[int]:
    """The processes of our own server that serve clients, but not the one that is asked."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        return [pid for (pid,) in connection.execute(query)]


def _signal(pids: list[int], name: str) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # of a connection that was let go meanwhile
            os.kill(pid, getattr(signal, f"SIG{name}"))
