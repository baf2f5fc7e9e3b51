"""A worker that does one effect, as a process that a test can kill or stop:
`python -m tests.brokers.idempotent_worker STORE URL MESSAGE HOW`.

STORE: `redis`, or `postgres` (a store, and a mark by itself), or `marks` (mark and effect in one transaction). The
effect is a row in the table `effects` of DATABASE (environment). HOW: `before` or `between`: it says `ready` on stdout
before the effect, or between effect and mark, and waits for a line on stdin. Then it goes on, and says `done` or the
error's name.
"""

from __future__ import annotations

import os
import sys

import psycopg

from collectors.idempotency import Done, Late, Once
from collectors.idempotency.postgres import Marks, PostgresStore
from collectors.idempotency.redis import RedisStore


def wait() -> None:
    """For a word of the test."""
    print("ready", flush=True)
    sys.stdin.readline()


def in_a_transaction(url: str, message: str, how: str) -> None:
    """`Marks`: the mark comes with the commit."""
    marks = Marks(consumer="billing", flow="orders")
    with psycopg.connect(url) as connection:
        if marks.first(connection, message):
            if how == "before":
                wait()
            connection.execute("INSERT INTO effects VALUES (%s)", [message])
            if how == "between":
                wait()


def with_a_store(once: Once, message: str, how: str) -> None:
    """The effect commits by itself, and the mark after it."""
    said = once.begin(message)
    assert not isinstance(said, Done)
    with psycopg.connect(os.environ["DATABASE"], autocommit=True) as connection:
        if how == "before":
            wait()
        connection.execute("INSERT INTO effects VALUES (%s)", [message])
        if how == "between":
            wait()
    once.done(said)  # type: ignore[arg-type]  # the tests begin nothing that is busy


def main(store: str, url: str, message: str, how: str) -> None:
    """Do it once."""
    try:
        if store == "marks":
            in_a_transaction(url, message, how)
        else:
            made = RedisStore(url) if store == "redis" else PostgresStore(url)
            with_a_store(Once(made, consumer="billing", flow="orders", unknown="again", lease="600ms"), message, how)
    except Late:
        print("Late", flush=True)
    else:
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
