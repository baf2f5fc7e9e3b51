"""A database in which effects are counted, and what tests of `collectors.idempotency` do with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from collectors.idempotency import Answer, Claim
from collectors.idempotency.postgres import PostgresStore
from tests.servers.postgres import Databases


class Effects:
    """`url` of a database that has `message_once`, and `effects`, a table without any constraint: what is done twice is
    there twice."""

    def __init__(self, url: str) -> None:
        self.url = url

    def count(self, message: str) -> int:
        """How often the effect of this message is there."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM effects WHERE message_id = %s", [message]).fetchone()
            return int(found[0])


@contextmanager
def own_effects(server: Databases) -> Iterator[Effects]:
    """A database of one's own, dropped afterwards."""
    name = server.create_database()
    url = server.url(name)
    store = PostgresStore(url)
    store.create()
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE effects (message_id text NOT NULL)")
    try:
        yield Effects(url)
    finally:
        server.drop_database(name)


def mine(said: Answer) -> Claim:
    """The claim that was to be had."""
    assert isinstance(said, Claim)
    return said


def new_id() -> str:
    """A message id of the test's own."""
    return f"m-{uuid.uuid4().hex}"
