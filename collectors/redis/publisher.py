"""Redis Streams: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from redis import exceptions

from collectors.errors import ConfigInvalid
from collectors.redis.config import address, shown
from collectors.redis.entry import fields_of
from collectors.redis.look import connected
from tracker.model.carry import MESSAGE_ID, Copy, Sent

BATCH = 200


class PublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a publisher to `stream`. `payload`: the field that takes the value, as the collector of the
    stream has it; the headers are its other fields. `timeout` in seconds."""

    url: str
    stream: Annotated[str, msgspec.Meta(min_length=1)]
    payload: str = ""
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0


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
        self._client = connected(config.url, config.timeout)

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the server) or
        `in doubt` (sent, and the connection was lost before the answer)."""
        return [sent for at in range(0, len(copies), BATCH) for sent in self._published(copies[at : at + BATCH])]

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _published(self, copies: Sequence[Copy]) -> list[Sent]:
        try:
            entries = [self._entry(copy) for copy in copies]
            self._client.ping()  # a connection that is lost before is no doubt
        except (exceptions.RedisError, OSError, ValueError) as error:
            return [Sent(copy.locator, f"not sent: {self._what}: {error}") for copy in copies]
        try:
            with self._client.pipeline(transaction=False) as batch:
                for fields in entries:
                    batch.xadd(self._config.stream, fields)  # type: ignore[arg-type]  # bytes are taken as they are
                answers = batch.execute(raise_on_error=False)
        except (exceptions.RedisError, OSError) as error:
            return [Sent(copy.locator, f"in doubt: {self._what}: {error}") for copy in copies]
        return [Sent(copy.locator, self._said(answer)) for copy, answer in zip(copies, answers, strict=True)]

    def _entry(self, copy: Copy) -> dict[bytes, bytes]:
        headers = {MESSAGE_ID: copy.locator.message_id.encode(), **copy.headers}
        return fields_of(headers, copy.value, self._config.payload)

    def _said(self, answer: object) -> str:
        return f"refused: {self._what}: {answer}" if isinstance(answer, Exception) else ""
