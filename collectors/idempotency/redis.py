"""Claims and marks in Redis: one key per message, one script per step, times of the server's clock.

At most one worker has a message at a time. What Redis forgets (a restart without persistence, an eviction, a failover)
is done again: `risks` says what a server may forget.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from collectors.errors import ConfigInvalid, MissingExtra

try:
    from redis import Redis
    from redis.exceptions import RedisError
    from redis.retry import Retry
except ModuleNotFoundError as error:
    raise MissingExtra("collectors.idempotency.redis", "redis", "redis") from error

from collectors.idempotency.answers import Claim, Key, Told
from collectors.idempotency.scripts import PREFIX, millis, options, place, risks_of, script, told, translated


class RedisStore:
    """`Store`. `url` as redis-py takes it (`redis://`, `rediss://`, `unix://`); `timeout` in seconds bounds every wait.
    Threads may share it."""

    def __init__(self, url: str, *, prefix: str = PREFIX, timeout: float = 2.0) -> None:
        try:
            self._client = Redis.from_url(url, **options(timeout, Retry))
        except ValueError as error:
            raise ConfigInvalid(f"url of Redis: {error}") from None
        self._prefix = prefix
        self._claim, self._done, self._release = (
            self._client.register_script(script(name)) for name in ("claim", "done", "release")
        )

    def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        with ours():
            return told(self._claim([place(self._prefix, key)], [lease, millis(keep)]))

    def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        with ours():
            return bool(self._done([place(self._prefix, claim.key)], [claim.token, millis(keep)]))

    def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        with ours():
            self._release([place(self._prefix, claim.key)], [claim.token, int(doubt)])

    def risks(self) -> list[str]:
        """What this server may forget, in words; empty when it writes everything down and evicts nothing."""
        with ours():
            return risks_of(self._client.info())

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


@contextmanager
def ours() -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translated(error) from error
