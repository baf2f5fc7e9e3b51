"""Effects once with Redis: what it forgets, and what happens when it does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis as Client

from collectors.errors import ConfigInvalid
from collectors.idempotency import AsyncOnce, Busy, Claim, Done, First, Once, StoreUnavailable, Unknown
from collectors.idempotency.redis import RedisStore
from collectors.idempotency.redis_async import AsyncRedisStore
from collectors.idempotency.scripts import place
from tests.brokers.effects import mine, new_id
from tests.brokers.kept import on_a_loop
from tests.servers.redis import FORGETFUL, LASTING, Redis

pytestmark = pytest.mark.brokers
TERMS: Any = {"consumer": "billing", "flow": "orders", "unknown": "again", "lease": "60s"}
Factory = Callable[..., Redis]


@pytest.fixture(scope="module")
def own(redis_factory: Factory) -> Redis:
    """A server of this module's own, that may be stopped."""
    return redis_factory()


def test_a_restart_without_persistence_forgets(redis_factory: Factory) -> None:
    """What was done is done again, and the store says beforehand that this may be."""
    server = redis_factory(FORGETFUL)
    store = RedisStore(server.url)
    once = Once(store, **TERMS)
    once.done(mine(once.begin("m-1")))
    assert any("appendonly is no" in risk for risk in store.risks())
    held = mine(once.begin("m-2"))
    server.kill()
    server.start()
    assert isinstance(once.begin("m-1"), First)
    once.done(held)  # nobody has it: the mark is taken
    assert isinstance(once.begin("m-2"), Done)
    store.close()


def test_a_restart_with_the_log_forgets_nothing(redis_factory: Factory) -> None:
    """`appendonly yes`, `appendfsync always`: SIGKILL, and both marks and claims are there."""
    server = redis_factory(LASTING)
    store = RedisStore(server.url)
    once = Once(store, **TERMS)
    done = [new_id() for _ in range(50)]
    for message in done:
        once.done(mine(once.begin(message)))
    held = mine(once.begin("m-held"))
    assert store.risks() == []
    server.kill()
    server.start()
    assert [type(once.begin(message)) for message in done] == [Done] * 50
    assert isinstance(once.begin("m-held"), Busy)
    once.done(held)
    assert isinstance(once.begin("m-held"), Done)
    store.close()


def test_risks_are_named(redis_factory: Factory) -> None:
    """Eviction: records would go when memory is short."""
    store = RedisStore(redis_factory({**LASTING, "maxmemory-policy": "allkeys-lru"}).url)
    assert [risk.partition(":")[0] for risk in store.risks()] == ["maxmemory-policy is allkeys-lru"]
    store.close()


def test_a_server_that_stands_still(own: Redis) -> None:
    """Its connection stays open and nothing answers: an error in time, and nothing is executed."""
    store, executed = RedisStore(own.url, timeout=0.3), []
    once = Once(store, **TERMS)
    once.begin(new_id())
    own.process.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable), once.doing(new_id()):
            executed.append(1)
        assert time.monotonic() - began < 3
    finally:
        own.process.resume()
    assert executed == []
    assert isinstance(once.begin(new_id()), First)
    store.close()


@on_a_loop
async def test_a_server_that_stands_still_and_an_event_loop(own: Redis) -> None:
    """The same, awaited."""
    store, executed = AsyncRedisStore(own.url, timeout=0.3), []
    once = AsyncOnce(store, **TERMS)
    await once.begin(new_id())
    own.process.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with once.doing(new_id()):
                executed.append(1)
        assert time.monotonic() - began < 3
    finally:
        own.process.resume()
    assert executed == []
    assert isinstance(await once.begin(new_id()), First)
    assert any("appendonly is no" in risk for risk in await store.risks())
    await store.close()


@on_a_loop
async def test_a_cancelled_task_leaves_doubt(redis_server: str) -> None:
    """Nobody knows how far its effect came: the next one is told at once."""
    store, message, inside = AsyncRedisStore(redis_server), new_id(), asyncio.Event()
    once = AsyncOnce(store, **TERMS)

    @once.guard(lambda name: name)
    async def endless(name: str) -> None:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(endless(message))
    await inside.wait()
    assert isinstance(await once.begin(message), Busy)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(await once.begin(message), Unknown)
    await store.close()


def test_a_server_that_is_gone(redis_factory: Factory) -> None:
    """The mark is tried twice, so a connection that was cut meanwhile does not matter; a server that is away does."""
    server = redis_factory(LASTING)
    store = RedisStore(server.url, timeout=1.0)
    once = Once(store, **TERMS)
    claim = once.begin("m-1")
    assert isinstance(claim, Claim)
    with Client.from_url(server.url) as admin:
        admin.client_kill_filter(_type="normal", skipme=True)
    once.done(claim)
    other = mine(once.begin("m-2"))
    server.kill()
    with pytest.raises(StoreUnavailable):
        once.begin("m-3")
    with pytest.raises(StoreUnavailable):
        once.done(other)
    server.start()
    assert isinstance(once.begin("m-2"), Busy)
    once.done(other)
    store.close()


def test_everything_goes_by_itself(redis_server: str) -> None:
    """Claims and marks have a time to live, and the mark does not prolong it."""
    store = RedisStore(redis_server, prefix="own:")
    once = Once(store, **(TERMS | {"keep": "2m"}))
    claim: Any = once.begin(new_id())
    with Client.from_url(redis_server) as client:
        where = place("own:", claim.key)
        assert where.startswith("own:billing:orders:m-")
        claimed: Any = client.pttl(where)
        once.done(claim)
        marked: Any = client.pttl(where)
        assert 0 < marked <= claimed <= 120_000
    store.close()


def test_what_trying_again_does_not_cure(own: Redis) -> None:
    """A wrong password, a value that is not ours, an address that is none: said as such, and left as it is."""
    once, message = Once(RedisStore(own.url), **TERMS), new_id()
    claim: Any = once.begin(message)
    with Client.from_url(own.url) as client:
        client.set(place("once:", claim.key), "somebody else's")
        with pytest.raises(ConfigInvalid, match="no record of ours"):
            once.begin(message)
        assert client.get(place("once:", claim.key)) == b"somebody else's"
        client.config_set("requirepass", "right")
        try:
            with pytest.raises(ConfigInvalid, match="Redis refuses"):
                Once(RedisStore(own.url), **TERMS).begin(message)
        finally:
            client.config_set("requirepass", "")
    with pytest.raises(ConfigInvalid, match="url"):
        RedisStore("localhost")
