"""Redis Streams: copies of messages from the stream, for a replay. Implements `Source` of `tracker.model.carry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.redis.config import address, shown
from collectors.redis.entry import Fields, at_offset, headers_of, id_text, payload_of, said
from collectors.redis.look import client_errors, connected
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

BATCH = 500


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `config` of a source of streams. `payload` and `identity_header` as the collector has them; `timeout` in
    seconds."""

    url: str
    payload: str = ""
    identity_header: str = MESSAGE_ID
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0


def source(config: Mapping[str, Any]) -> RedisSource:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    try:
        return RedisSource(msgspec.convert(dict(config), SourceConfig))
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"Redis source: {error}") from None


class RedisSource:
    """Fetches entries by stream (the locator's partition) and id (its offset). One thread at a time."""

    def __init__(self, config: SourceConfig) -> None:
        self._config, self._what = config, shown(address(config.url))
        self._client = connected(config.url, config.timeout)

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """One answer per locator. Raises `Unavailable`, and `ConfigInvalid` for what is no stream, or may not be
        read."""
        answers: list[Copy | Missing] = []
        with client_errors(self._what):
            for at in range(0, len(locators), BATCH):
                answers += self._fetched(locators[at : at + BATCH])
        return answers

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _fetched(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        with self._client.pipeline(transaction=False) as asked:
            for locator in locators:
                entry = id_text(at_offset(locator.offset))
                asked.xrange(locator.partition, entry, entry)
            found = asked.execute()
        return [
            self._answer(locator, page[0][1] if page else None) for locator, page in zip(locators, found, strict=True)
        ]

    def _answer(self, locator: Locator, fields: Fields | None) -> Copy | Missing:
        if fields is None:
            return Missing(locator, "the stream no longer holds it: it was trimmed or deleted")
        message_id = said(fields, self._config.identity_header).message_id
        if message_id != locator.message_id:
            return Missing(locator, f"another message is there now: {message_id!r}; the stream was made again")
        value = payload_of(fields, self._config.payload, self._config.identity_header)
        return Copy(locator, None, value, headers_of(fields, self._config.payload), digest_of(value), None, message_id)
