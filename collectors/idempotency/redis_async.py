"""`RedisStore` for event loops."""

from __future__ import annotations

from collectors.errors import ConfigInvalid
from collectors.idempotency.answers import Claim, Key, Told
from collectors.idempotency.redis import ours
from collectors.idempotency.scripts import PREFIX, millis, options, place, risks_of, script, told

# Behind the module that says which extra brings it.
from redis.asyncio import Redis  # isort: skip
from redis.asyncio.retry import Retry  # isort: skip


class AsyncRedisStore:
    """`AsyncStore`: as `RedisStore`, for the tasks of one event loop."""

    def __init__(self, url: str, *, prefix: str = PREFIX, timeout: float = 2.0) -> None:
        try:
            self._client = Redis.from_url(url, **options(timeout, Retry))
        except ValueError as error:
            raise ConfigInvalid(f"url of Redis: {error}") from None
        self._prefix = prefix
        self._claim, self._done, self._release = (
            self._client.register_script(script(name)) for name in ("claim", "done", "release")
        )

    async def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        with ours():
            return told(await self._claim([place(self._prefix, key)], [lease, millis(keep)]))

    async def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        with ours():
            return bool(await self._done([place(self._prefix, claim.key)], [claim.token, millis(keep)]))

    async def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        with ours():
            await self._release([place(self._prefix, claim.key)], [claim.token, int(doubt)])

    async def risks(self) -> list[str]:
        """As `RedisStore.risks`."""
        with ours():
            return risks_of(await self._client.info())

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
