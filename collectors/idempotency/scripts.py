"""What Redis is asked, and what its answers mean: shared by the store and its twin for event loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import exceptions
from redis.backoff import NoBackoff

from collectors.errors import CollectorError, ConfigInvalid
from collectors.idempotency.answers import Key, Told
from collectors.idempotency.errors import StoreUnavailable

PREFIX = "once:"
_FOLDER = Path(__file__).with_name("lua")
_FINAL = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_WORDS = ("WRONGTYPE", "no record of ours", "unknown command", "invalid password", "NOAUTH", "WRONGPASS", "NOPERM")


def script(name: str) -> str:
    """The text of a script."""
    return (_FOLDER / f"{name}.lua").read_text("utf-8")


def place(prefix: str, key: Key) -> str:
    """The key in Redis: consumer and flow are quoted, so that no two messages share one."""
    return f"{prefix}{quote(key.consumer, safe='')}:{quote(key.flow, safe='')}:{key.message_id}"


def millis(micros: int) -> int:
    """Rounded up: a record never goes too early."""
    return -(-micros // 1000)


def told(said: Any) -> Told:
    """The answer of `claim.lua`."""
    what, token, left = said
    word: Any = what.decode() if isinstance(what, bytes) else what
    return Told(word, int(token), int(left))


def options(timeout: float, retry: Any) -> dict[str, Any]:
    """How to connect: no wait is longer than `timeout` seconds, and nothing is sent twice by the client itself: a claim
    that is sent again would find itself busy."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry(NoBackoff(), 0),
        "decode_responses": False,
        "health_check_interval": 0,
    }


def translated(error: exceptions.RedisError | OSError) -> CollectorError:
    """The driver's error as ours: `ConfigInvalid` where trying again is no use."""
    if isinstance(error, _FINAL) or any(word in str(error) for word in _WORDS):
        return ConfigInvalid(f"Redis refuses: {error}")
    return StoreUnavailable(f"Redis: {error}")


def risks_of(info: dict[str, Any]) -> list[str]:
    """What a server with this INFO may forget, in words. Source: Redis documentation, "Redis persistence" and "Key
    eviction"."""
    found = []
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        found.append(f"maxmemory-policy is {policy}: records are evicted when memory is short; set noeviction")
    if not info.get("aof_enabled"):
        found.append("appendonly is no: a restart forgets what came since the last snapshot, or everything")
    if info.get("connected_slaves"):
        found.append("it has replicas, which lag: a failover forgets what they had not received")
    return found
