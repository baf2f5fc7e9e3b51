"""Claims and marks in PostgreSQL.

`PostgresStore` has a connection of its own: for effects outside of the database. `Marks` writes into *your*
transaction, so that mark and effect are committed together or not at all: exactly once in effect.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, TypeVar

from collectors.errors import Forked, MissingExtra

try:
    import psycopg
    from psycopg import pq
    from psycopg.rows import tuple_row
except ModuleNotFoundError as error:
    raise MissingExtra("collectors.idempotency.postgres", "postgres", "psycopg") from error

from collectors.carried import Headers
from collectors.idempotency.answers import Answer, Busy, Claim, Done, Key, Told, answer
from collectors.idempotency.errors import BusyElsewhere, Late, NotInTransaction, StoreUnavailable
from collectors.idempotency.statements import ALIVE, BATCH, PATIENCE, PAUSE, TABLE, Statements, held, told, translated
from collectors.idempotency.terms import Counts, terms
from tracker.model.carry import MESSAGE_ID

T = TypeVar("T")


class Overdue(psycopg.OperationalError):
    """The server did not answer in time."""


def bounded(steps: Generator[Any, Any, T], timeout: float) -> Generator[Any, Any, T]:
    """The same steps of psycopg, ended by `Overdue` after `timeout` seconds. psycopg comes by every 0.1 s when nothing
    happens on the socket (`psycopg.waiting`); the server's own timeouts help nothing where the server stands still."""
    until = time.monotonic() + timeout
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                raise Overdue(f"no answer within {timeout:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """Whose every wait ends."""

    timeout = 0.0

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's, for `timeout` seconds at most."""
        return super().wait(bounded(gen, self.timeout) if self.timeout else gen, *args, **kwargs)


def options(timeout: float) -> dict[str, Any]:
    """How to connect: no wait is longer than `timeout` seconds (libpq rounds that of the connection up to 2)."""
    return {
        "autocommit": True,
        "connect_timeout": max(2, round(timeout)),
        "options": f"-c statement_timeout={round(timeout * 1000)} -c lock_timeout={round(timeout * 1000)}",
        "client_encoding": "UTF8",
        **ALIVE,
    }


class PostgresStore:
    """`Store`. `url` as libpq takes it; `timeout` in seconds bounds every wait. Threads may share it, and take turns; a
    connection that broke is made anew by the next call. After a fork the child needs a store of its own (`Forked`)."""

    def __init__(self, url: str, *, table: str = TABLE, timeout: float = 5.0) -> None:
        self._url, self._timeout, self._pid = url, timeout, os.getpid()
        self._sql = Statements(table)
        self._lock = threading.Lock()
        self._made: _Connection | None = None

    def create(self) -> None:
        """Make the table and its index where they are not there: `sql/create.sql`."""
        with self._connection() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [self._sql.create_lock()])
            connection.execute(self._sql.create)

    def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        return told(self._rows(self._sql.claim, self._sql.key(key, lease=lease, keep=keep, done=False)))

    def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        return bool(self._mine(self._sql.done, self._sql.claimed(claim, keep=keep), claim)[1])

    def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        self._mine(self._sql.release, self._sql.claimed(claim, doubt=doubt), claim)

    def prune(self, limit: int = 100_000) -> int:
        """Forget what was kept long enough, at most about `limit` rows, in statements of `BATCH`; how many there
        were."""
        gone = 0
        while gone < limit:
            with self._connection() as connection:
                count = connection.execute(self._sql.prune, {"limit": BATCH}).rowcount
            gone += count
            if count < BATCH:
                break
        return gone

    def close(self) -> None:
        """Let go of the connection. The next call makes one anew."""
        with self._lock:
            if os.getpid() == self._pid:
                self._throw_away()

    def _rows(self, query: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def _mine(self, query: LiteralString, parameters: dict[str, Any], claim: Claim) -> tuple[Any, ...]:
        return until_mine(lambda: self._rows(query, parameters)[0], claim)

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        """Ours, for one thread at a time. One that failed is thrown away: nobody knows what it still has to say."""
        if os.getpid() != self._pid:
            raise Forked("this store's connection belongs to the parent process: make a PostgresStore in the child")
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailable(f"PostgreSQL: other threads have used the connection for {self._timeout:g} s")
        try:
            if self._made is None or self._made.closed:
                self._made = _Connection.connect(self._url, **options(self._timeout))
                self._made.timeout = self._timeout
            yield self._made
        except psycopg.Error as error:
            self._throw_away()
            raise translated(error) from error
        except BaseException:
            self._throw_away()  # an answer may still be on its way
            raise
        finally:
            self._lock.release()

    def _throw_away(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()


def until_mine(ask: Callable[[], tuple[Any, ...]], claim: Claim) -> tuple[Any, ...]:
    """Asks until the first column says that the lock was had. Raises `StoreUnavailable` after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while not (row := ask())[0]:
        if time.monotonic() > until:
            raise held(claim.key)
        time.sleep(PAUSE)
    return row


def check_transaction(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raises `NotInTransaction` where a statement would be committed by itself."""
    if connection.autocommit and connection.info.transaction_status == pq.TransactionStatus.IDLE:
        raise NotInTransaction("the connection is in autocommit mode: open a transaction around mark and effect")


@contextmanager
def ours() -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error


class Marks:
    """Marks in the transaction of the effect. The connection is yours, and so are its timeouts; no statement here waits
    for another transaction for longer than `PATIENCE`. One advisory lock per message is held until the transaction
    ends."""

    def __init__(
        self,
        *,
        consumer: str,
        flow: str,
        keep: str | float = "7d",
        table: str = TABLE,
        identity_header: str = MESSAGE_ID,
    ) -> None:
        self._terms = terms(consumer, flow, 0.001, keep, "again", identity_header)
        self._sql = Statements(table)

    @property
    def counts(self) -> Counts:
        """What was answered so far, committed or not."""
        return self._terms.counts

    def name(self, headers: Headers, message_id: str = "") -> str:
        """As `Once.name`."""
        return self._terms.name(headers, message_id)

    def begin(self, connection: psycopg.Connection[Any], message_id: str) -> Answer:
        """Marks the message in the open transaction, or begins one. `First`, `Unknown` (one whose worker used a store
        and never marked it: not done, where that worker marks by `done` below): do it and commit, nothing else is to be
        said. `Done`: skip. `Busy`: somebody else's transaction or lease is open."""
        check_transaction(connection)
        query, parameters, key = self.asked(message_id)
        with ours(), connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        said = answer(key, told(rows), time.monotonic())
        self._terms.counts.add(said)
        return said

    def first(self, connection: psycopg.Connection[Any], message_id: str) -> bool:
        """`begin` in one word: whether to do it. Raises `BusyElsewhere`."""
        return worth_doing(self.begin(connection, message_id))

    def done(self, connection: psycopg.Connection[Any], claim: Claim) -> None:
        """Marks the message of a claim (`Once.begin`) in the open transaction. Raises `Late`: roll back, the effect is
        another worker's; `StoreUnavailable`: roll back and try again."""
        check_transaction(connection)
        query, parameters = self.ended(claim)

        def ask() -> tuple[Any, ...]:
            with ours(), connection.cursor(row_factory=tuple_row) as cursor:
                return cursor.execute(query, parameters).fetchall()[0]

        if not until_mine(ask, claim)[1]:
            self._terms.counts.late += 1
            raise Late(claim.key, claim.token)

    def asked(self, message_id: str) -> tuple[LiteralString, dict[str, Any], Key]:
        """The statement of `begin` with its parameters."""
        key = self._terms.key(message_id)
        return self._sql.claim, self._sql.key(key, lease=0, keep=self._terms.keep, done=True), key

    def ended(self, claim: Claim) -> tuple[LiteralString, dict[str, Any]]:
        """The statement of `done` with its parameters."""
        return self._sql.done, self._sql.claimed(claim, keep=self._terms.keep)


def worth_doing(said: Answer) -> bool:
    """Whether to do it. Raises `BusyElsewhere`."""
    if isinstance(said, Busy):
        raise BusyElsewhere(said.key, said.left)
    return not isinstance(said, Done)
