"""The stores of `collectors.idempotency` keep one contract, sync and async, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from collectors.idempotency.memory import AsyncMemoryStore
from collectors.idempotency.postgres import PostgresStore
from collectors.idempotency.postgres_async import AsyncPostgresStore
from collectors.idempotency.redis_async import AsyncRedisStore
from tests.contract.idempotency import OnceContract
from tests.contract.places import InMemory, InPostgres, InRedis, driven
from tests.servers.postgres import Databases


class TestMemory(OnceContract):
    @pytest.fixture
    def place(self) -> InMemory:
        """In this process."""
        return InMemory()


class TestMemoryAsync(OnceContract):
    @pytest.fixture
    def place(self) -> Iterator[Any]:
        """In this process, on a loop."""
        made = driven(InMemory, lambda place: AsyncMemoryStore(place.store))
        yield made
        made.close()


@pytest.fixture(scope="module")
def database(postgres_server: Databases) -> Iterator[str]:
    """A database with the table."""
    made = postgres_server.create_database()
    store = PostgresStore(postgres_server.url(made))
    store.create()
    store.close()
    yield postgres_server.url(made)
    postgres_server.drop_database(made)


@pytest.mark.brokers
class TestPostgres(OnceContract):
    @pytest.fixture
    def place(self, database: str) -> Iterator[InPostgres]:
        """A real server."""
        made = InPostgres(database)
        yield made
        made.store.close()


@pytest.mark.brokers
class TestPostgresAsync(OnceContract):
    @pytest.fixture
    def place(self, database: str) -> Iterator[Any]:
        """A real server, on a loop."""
        made = driven(InPostgres, lambda _: AsyncPostgresStore(database), database)
        yield made
        made.close()


@pytest.mark.brokers
class TestRedis(OnceContract):
    @pytest.fixture
    def place(self, redis_server: str) -> Iterator[InRedis]:
        """A real server."""
        made = InRedis(redis_server)
        yield made
        made.store.close()
        made.client.close()


@pytest.mark.brokers
class TestRedisAsync(OnceContract):
    @pytest.fixture
    def place(self, redis_server: str) -> Iterator[Any]:
        """A real server, on a loop."""
        made = driven(InRedis, lambda _: AsyncRedisStore(redis_server), redis_server)
        yield made
        made.client.close()
        made.store.close()
        made.close()
