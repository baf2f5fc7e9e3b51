"""Redis Streams: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from redis import exceptions

from collectors.batches import Tried, in_batches
from collectors.errors import ConfigInvalid
from collectors.redis.config import address, shown
from collectors.redis.entry import fields_of
from collectors.redis.look import connected
from tracker.model.carry import MESSAGE_ID, PUBLISH_S, Copy, Sent

BATCH = 200
LONGEST = PUBLISH_S / 3
"""Seconds for an answer: a batch may wait for three, when the last of them comes late."""


class PublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a publisher to `stream`. `payload`: the field that takes the value, as the collector of the
    stream has it; the headers are its other fields. `timeout`: seconds for an answer, `LONGEST` at
    most."""

    url: str
    stream: Annotated[str, msgspec.Meta(min_length=1)]
    payload: str = ""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = LONGEST


def publisher(config: Mapping[str, Any]) -> RedisPublisher:
    """A publisher as configured. Raises `ConfigInvalid` that names the key."""
    try:
        return RedisPublisher(msgspec.convert(dict(config), PublisherConfig))
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"Redis publisher: {error}") from None


class RedisPublisher:
    """Adds copies to a stream, in batches of one round trip. It trims nothing. One thread at a time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._what = f"{shown(address(config.url))}, stream {config.stream!r}"
        self._timeout = min(config.timeout, LONGEST)
        self._client = connected(config.url, self._timeout)

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the server) or
        `in doubt` (sent, and the connection was lost before the answer). When the server does not answer, or the time
        is over, the others are not tried."""
        return in_batches(copies, BATCH, self._timeout, self._what, self._attempt)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _attempt(self, copies: Sequence[Copy], _: float) -> Tried:
        entries: list[dict[bytes, bytes] | str] = [self._entry(copy) for copy in copies]
        try:
            self._client.ping()  # a connection that is lost before is no doubt
        except (exceptions.RedisError, OSError) as error:
            return [], f"not sent: {self._what}: {error}"
        try:
            with self._client.pipeline(transaction=False) as batch:
                for fields in entries:
                    if not isinstance(fields, str):
                        batch.xadd(self._config.stream, fields)  # type: ignore[arg-type]  # bytes are taken as they are
                said = iter(batch.execute(raise_on_error=False))
        except (exceptions.RedisError, OSError) as error:
            lost = f"{self._what}: {error}"
            errors = [entry if isinstance(entry, str) else f"in doubt: {lost}" for entry in entries]
            return errors, f"not sent: {lost}"
        return [entry if isinstance(entry, str) else self._said(next(said)) for entry in entries], ""

    def _entry(self, copy: Copy) -> dict[bytes, bytes] | str:
        """The fields of the entry; in words why there are none."""
        headers = {MESSAGE_ID: copy.locator.message_id.encode(), **copy.headers}
        try:
            return fields_of(headers, copy.value, self._config.payload)
        except ValueError as error:
            return f"not sent: {self._what}: {error}"

    def _said(self, answer: object) -> str:
        return f"refused: {self._what}: {answer}" if isinstance(answer, Exception) else ""
