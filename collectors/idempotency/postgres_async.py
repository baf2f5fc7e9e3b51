"""`PostgresStore` and `Marks` for event loops."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from collectors.errors import Forked
from collectors.idempotency.answers import Answer, Claim, Key, Told, answer
from collectors.idempotency.errors import Late, StoreUnavailable
from collectors.idempotency.postgres import Marks, bounded, check_transaction, options, ours, worth_doing
from collectors.idempotency.statements import BATCH, PATIENCE, PAUSE, TABLE, Statements, held, told, translated

# Behind the module that says which extra brings it.
import psycopg  # isort: skip
from psycopg.rows import tuple_row  # isort: skip


class _Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """Whose every wait ends."""

    timeout = 0.0

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's, for `timeout` seconds at most."""
        return await super().wait(bounded(gen, self.timeout) if self.timeout else gen, *args, **kwargs)


class AsyncPostgresStore:
    """`AsyncStore`: as `PostgresStore`, for the tasks of one event loop, which take turns."""

    def __init__(self, url: str, *, table: str = TABLE, timeout: float = 5.0) -> None:
        self._url, self._timeout, self._pid = url, timeout, os.getpid()
        self._sql = Statements(table)
        self._lock = asyncio.Lock()
        self._made: _Connection | None = None

    async def create(self) -> None:
        """As `PostgresStore.create`."""
        async with self._connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [self._sql.create_lock()])
            await connection.execute(self._sql.create)

    async def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        return told(await self._rows(self._sql.claim, self._sql.key(key, lease=lease, keep=keep, done=False)))

    async def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        return bool((await self._mine(self._sql.done, self._sql.claimed(claim, keep=keep), claim))[1])

    async def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        await self._mine(self._sql.release, self._sql.claimed(claim, doubt=doubt), claim)

    async def prune(self, limit: int = 100_000) -> int:
        """As `PostgresStore.prune`."""
        gone = 0
        while gone < limit:
            async with self._connection() as connection:
                count = (await connection.execute(self._sql.prune, {"limit": BATCH})).rowcount
            gone += count
            if count < BATCH:
                break
        return gone

    async def close(self) -> None:
        """As `PostgresStore.close`."""
        async with self._lock:
            if os.getpid() == self._pid:
                await self._throw_away()

    async def _rows(self, query: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._connection() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    async def _mine(self, query: LiteralString, parameters: dict[str, Any], claim: Claim) -> tuple[Any, ...]:
        async def ask() -> tuple[Any, ...]:
            return (await self._rows(query, parameters))[0]

        return await until_mine(ask, claim)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        if os.getpid() != self._pid:
            raise Forked("this store's connection belongs to the parent process: make one in the child")
        try:
            async with asyncio.timeout(self._timeout):
                await self._lock.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"PostgreSQL: other tasks have used the connection for {self._timeout:g} s"
            ) from None
        try:
            if self._made is None or self._made.closed:
                self._made = await _Connection.connect(self._url, **options(self._timeout))
                self._made.timeout = self._timeout
            yield self._made
        except psycopg.Error as error:
            await self._throw_away()
            raise translated(error) from error
        except BaseException:
            await self._throw_away()  # an answer may still be on its way
            raise
        finally:
            self._lock.release()

    async def _throw_away(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.close()


async def until_mine(ask: Callable[[], Awaitable[tuple[Any, ...]]], claim: Claim) -> tuple[Any, ...]:
    """As the one beside the sync store."""
    until = time.monotonic() + PATIENCE
    while not (row := await ask())[0]:
        if time.monotonic() > until:
            raise held(claim.key)
        await asyncio.sleep(PAUSE)
    return row


class AsyncMarks:
    """`Marks` for psycopg's async connections."""

    def __init__(self, **terms: Any) -> None:
        """As `Marks`."""
        self._marks = Marks(**terms)
        self.name, self.counts = self._marks.name, self._marks.counts

    async def begin(self, connection: psycopg.AsyncConnection[Any], message_id: str) -> Answer:
        """As `Marks.begin`."""
        check_transaction(connection)
        query, parameters, key = self._marks.asked(message_id)
        with ours():
            async with connection.cursor(row_factory=tuple_row) as cursor:
                rows = await (await cursor.execute(query, parameters)).fetchall()
        said = answer(key, told(rows), time.monotonic())
        self.counts.add(said)
        return said

    async def first(self, connection: psycopg.AsyncConnection[Any], message_id: str) -> bool:
        """As `Marks.first`."""
        return worth_doing(await self.begin(connection, message_id))

    async def done(self, connection: psycopg.AsyncConnection[Any], claim: Claim) -> None:
        """As `Marks.done`."""
        check_transaction(connection)
        query, parameters = self._marks.ended(claim)

        async def ask() -> tuple[Any, ...]:
            with ours():
                async with connection.cursor(row_factory=tuple_row) as cursor:
                    return (await (await cursor.execute(query, parameters)).fetchall())[0]

        if not (await until_mine(ask, claim))[1]:
            self.counts.late += 1
            raise Late(claim.key, claim.token)
