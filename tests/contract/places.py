"""The stores of `collectors.idempotency` as the contract takes them, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from redis import Redis

from collectors.idempotency import AsyncOnce, Key, Once
from collectors.idempotency.memory import MemoryStore
from collectors.idempotency.postgres import PostgresStore
from collectors.idempotency.redis import RedisStore
from collectors.idempotency.scripts import PREFIX, place
from tests.contract.idempotency import LEASE

TERMS: Any = {"consumer": "billing", "flow": "orders", "unknown": "again", "lease": LEASE, "keep": "7d"}


class Driven:
    """An `AsyncOnce` that is used like a `Once`."""

    def __init__(self, run: Callable[[Any], Any], once: AsyncOnce) -> None:
        self._run, self._once = run, once
        self.counts, self.name = once.counts, once.name

    def begin(self, message_id: str) -> Any:
        """Awaited."""
        return self._run(self._once.begin(message_id))

    def begin_at_once(self, ids: Sequence[str]) -> list[Any]:
        """As tasks beside each other."""

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(self._once.begin, ids))

        said: list[Any] = self._run(all_of_them())
        return said

    def done(self, claim: Any) -> None:
        """Awaited."""
        self._run(self._once.done(claim))

    def release(self, claim: Any, *, doubt: bool = False) -> None:
        """Awaited."""
        self._run(self._once.release(claim, doubt=doubt))

    @contextmanager
    def doing(self, message_id: str) -> Iterator[Any]:
        """Entered and left on the loop; what is raised inside is handed in."""
        inside = self._once.doing(message_id)
        claim = self._run(inside.__aenter__())
        try:
            yield claim
        except BaseException as error:
            self._run(_ended(inside, error))
            raise
        self._run(inside.__aexit__(None, None, None))

    def guard(self, named: Callable[..., str]) -> Callable[..., Any]:
        """Of a function that is no coroutine: it is made one."""

        def around(effect: Callable[..., Any]) -> Callable[..., Any]:
            async def later(*args: Any) -> None:
                effect(*args)

            later.__name__, later.__doc__ = effect.__name__, effect.__doc__
            guarded = self._once.guard(named)(later)

            def run(*args: Any) -> bool:
                did: bool = self._run(guarded(*args))
                return did

            run.__name__, run.__doc__ = guarded.__name__, guarded.__doc__
            return run

        return around


async def _ended(inside: Any, error: BaseException) -> None:
    """Leaves with an error. Those that end event loops are caught here: the caller raises them."""
    try:
        await inside.__aexit__(type(error), error, error.__traceback__)
    except BaseException as same:
        if same is not error:
            raise


class InMemory:
    """Whose clock is ours, so that all leases run out at once."""

    all_lapse = True

    def __init__(self) -> None:
        self.now = 1_000_000
        self.store = MemoryStore(clock=lambda: self.now)

    def once(self, **terms: Any) -> Any:
        """See `Place`."""
        return Once(self.store, **TERMS | terms)

    def lapse(self, key: Key) -> None:
        """See `Place`."""
        self.now += int(LEASE * 1e6) + 1

    def expire(self, key: Key) -> None:
        """See `Place`."""
        self.now += 8 * 86_400 * 1_000_000


class InPostgres:
    """In a database that has the table."""

    all_lapse = False
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self, url: str, table: str = "message_once") -> None:
        self.url, self.table = url, table
        self.store = PostgresStore(url, table=table)

    def once(self, **terms: Any) -> Any:
        """See `Place`."""
        return Once(self.store, **TERMS | terms)

    def lapse(self, key: Key) -> None:
        """See `Place`."""
        self._set("until", key)

    def expire(self, key: Key) -> None:
        """See `Place`."""
        self._set("expires", key)

    def lapse_if_there(self, message_id: str) -> None:
        """The lease of this message, if there is one, has run out."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("UPDATE message_once SET until = now() WHERE NOT done AND message_id = %s", [message_id])

    def _set(self, column: str, key: Key) -> None:
        query = f"UPDATE {self.table} SET {column} = now() - interval '1 second' WHERE message_id = %s"
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert connection.execute(query, [key.message_id]).rowcount == 1


class InRedis:
    """On a server."""

    all_lapse = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = RedisStore(url)
        self.client = Redis.from_url(url)

    def once(self, **terms: Any) -> Any:
        """See `Place`."""
        return Once(self.store, **TERMS | terms)

    def lapse(self, key: Key) -> None:
        """See `Place`."""
        kept: Any = self.client.get(place(PREFIX, key))
        what, token, _, doubt = kept.split()
        assert what == b"held"
        self.client.set(place(PREFIX, key), b" ".join((what, token, b"1", doubt)), keepttl=True)

    def expire(self, key: Key) -> None:
        """See `Place`."""
        left: Any = self.client.pttl(place(PREFIX, key))
        assert 6.9 * 86_400_000 < left <= 7 * 86_400_000, "it goes by itself, and not sooner"
        self.client.delete(place(PREFIX, key))


def driven(kind: type[Any], make: Callable[[Any], Any], *args: Any) -> Any:
    """A place of the given kind on an event loop; `make` gives its async store."""

    class Place(kind):  # type: ignore[misc]
        """The same hooks."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.runner = asyncio.Runner()
            self.on_a_loop = self.runner.run(self._made())

        async def _made(self) -> Any:
            return make(self)

        def once(self, **terms: Any) -> Any:
            """See `Place`."""
            return Driven(self.runner.run, AsyncOnce(self.on_a_loop, **TERMS | terms))

        def close(self) -> None:
            """End the loop."""
            if hasattr(self.on_a_loop, "close"):
                self.runner.run(self.on_a_loop.close())
            self.runner.close()

    return Place(*args)
