"""NATS: copies of messages from a stream, for a replay. Implements `Source` of `tracker.model.carry`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.nats.feed import Feed, Info, Stored
from collectors.nats.link import NO_STREAM, Link, Refused, Server
from collectors.nats.records import headers_of, said_of
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing

BATCH = 100


class SourceConfig(Server):
    """The `config` of a NATS source."""

    identity_header: str = MESSAGE_ID


def source(config: Mapping[str, Any]) -> NatsSource:
    """A source as configured. Raises `ConfigInvalid` that names the key."""
    return NatsSource(settings(SourceConfig, config, "NATS source"))


class NatsSource:
    """Fetches messages by stream (the locator's partition) and number. Connects for each batch, so that no connection
    lies about between replays. One thread at a time."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """One answer per locator. Raises `Unavailable` when the server stops answering on the way."""
        by_stream: dict[str, list[Locator]] = {}
        for locator in locators:
            by_stream.setdefault(locator.partition, []).append(locator)
        with closing(Link(self._config, "tracker.replay")) as link:
            return [answer for stream, wanted in sorted(by_stream.items()) for answer in self._of(link, stream, wanted)]

    def close(self) -> None:
        """Nothing is held open."""

    def _of(self, link: Link, stream: str, locators: list[Locator]) -> Iterator[Copy | Missing]:
        try:
            info = msgspec.convert(link.ask(f"STREAM.INFO.{stream}"), Info)
        except Refused as error:
            if error.code != NO_STREAM:
                raise ConfigInvalid(str(error)) from None
            yield from (Missing(locator, "the stream no longer exists") for locator in locators)
            return
        feed = Feed(stream)
        for start in range(0, len(locators), BATCH):
            batch = locators[start : start + BATCH]
            found = feed.get(link, [locator.offset for locator in batch])
            yield from (self._answer(*pair, info) for pair in zip(batch, found, strict=True))

    def _answer(self, locator: Locator, stored: Stored | None, info: Info) -> Copy | Missing:
        state = info.state
        if stored is None:
            if locator.offset < state.first_seq:
                return Missing(locator, f"expired, discarded or purged: the stream begins at {state.first_seq}")
            why = f"the stream ends at {state.last_seq}" if locator.offset > state.last_seq else "deleted, or acked"
            return Missing(locator, why)
        headers = headers_of(stored.hdrs)
        message_id = said_of(headers, self._config.identity_header).message_id
        if message_id != locator.message_id:
            return Missing(locator, f"another message is there now: {message_id!r}; the stream was made again")
        return Copy(locator, None, stored.data, headers, digest_of(stored.data), stored.subject, message_id)
