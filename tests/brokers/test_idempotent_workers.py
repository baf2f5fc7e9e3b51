"""Workers that die or stand still between effect and mark, as processes, with real stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from collectors.idempotency import Busy, Claim, First, Once, Unknown
from collectors.idempotency.postgres import Marks, PostgresStore
from collectors.idempotency.redis import RedisStore
from tests.brokers.effects import Effects, new_id, own_effects
from tests.servers.postgres import Databases

pytestmark = pytest.mark.brokers
STORES = pytest.mark.parametrize("store", ["postgres", "redis"])


@pytest.fixture(scope="module")
def effects(postgres_server: Databases) -> Iterator[Effects]:
    """Where effects are counted."""
    with own_effects(postgres_server) as made:
        yield made


@pytest.fixture
def urls(effects: Effects, redis_server: str) -> dict[str, str]:
    """Where each kind of store is."""
    return {"postgres": effects.url, "marks": effects.url, "redis": redis_server}


@contextmanager
def worker(effects: Effects, store: str, url: str, message: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that has said `ready`. It is killed in the end."""
    command = [sys.executable, "-m", "tests.brokers.idempotent_worker", store, url, message, how]
    env = os.environ | {"DATABASE": effects.url}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def once(store: str, urls: dict[str, str]) -> Iterator[Once]:
    """The one that comes next."""
    made = RedisStore(urls[store]) if store == "redis" else PostgresStore(urls[store])
    yield Once(made, consumer="billing", flow="orders", unknown="again", lease="600ms")
    made.close()


def begun(once: Once, message: str) -> Claim:
    """The turn, as soon as it is to be had."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        said = once.begin(message)
        if isinstance(said, Claim):
            return said
        assert isinstance(said, Busy)
        time.sleep(0.02)
    raise AssertionError("the lease never ran out")


@STORES
@pytest.mark.parametrize(("how", "happened"), [("before", 0), ("between", 1)])
def test_killed_before_its_mark(
    effects: Effects, urls: dict[str, str], once: Once, store: str, how: str, happened: int
) -> None:
    """SIGKILL: while the lease runs others are busy, then the next one is told that nobody knows. Truly so."""
    message = new_id()
    with worker(effects, store, urls[store], message, how) as process:
        process.kill()
        process.wait(20)
    assert isinstance(begun(once, message), Unknown)
    assert effects.count(message) == happened


@pytest.mark.parametrize("how", ["before", "between"])
def test_killed_inside_its_transaction(effects: Effects, urls: dict[str, str], how: str) -> None:
    """SIGKILL: neither mark nor effect, wherever it was; the next one is the first, and there is nothing to wait
    for."""
    message, marks = new_id(), Marks(consumer="billing", flow="orders")
    with worker(effects, "marks", urls["marks"], message, how) as process:
        with psycopg.connect(effects.url) as connection:
            assert isinstance(marks.begin(connection, message), Busy)
        process.kill()
        process.wait(20)
    until, said = time.monotonic() + 20, None
    while not isinstance(said, First) and time.monotonic() < until:  # the server has to see that its client is gone
        with psycopg.connect(effects.url) as connection:
            said = marks.begin(connection, message)
            assert isinstance(said, First | Busy)
    assert isinstance(said, First)
    assert effects.count(message) == 0


@STORES
def test_a_worker_that_stood_still(effects: Effects, urls: dict[str, str], once: Once, store: str) -> None:
    """SIGSTOP for longer than the lease: another one takes over and ends it; the first one wakes up and is told."""
    message = new_id()
    with worker(effects, store, urls[store], message, "between") as process:
        process.send_signal(signal.SIGSTOP)
        heir = begun(once, message)
        assert isinstance(heir, Unknown)
        once.done(heir)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "Late\n"


def test_a_worker_that_stood_still_in_its_transaction(effects: Effects, urls: dict[str, str]) -> None:
    """SIGSTOP with the transaction open: nobody takes over, however long it takes, and in the end it is done once."""
    message, marks = new_id(), Marks(consumer="billing", flow="orders")
    with worker(effects, "marks", urls["marks"], message, "between") as process:
        process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            with psycopg.connect(effects.url) as connection:
                assert isinstance(marks.begin(connection, message), Busy)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
    with psycopg.connect(effects.url) as connection:
        assert not marks.first(connection, message)
    assert effects.count(message) == 1
