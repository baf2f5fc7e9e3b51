"""From what was said of an entry to an event, and to the message that an archive keeps. Pure: no I/O, and no error but
`Undecodable`."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from collectors.base import Content, Raw, Undecodable
from collectors.carried import digest_of
from collectors.redis.books import Said
from collectors.redis.config import RedisConfig
from collectors.redis.entry import Fields, headers_of, id_text, offset_of, origin_of, payload_of, said, unpacked
from tracker.model.event import Event, Stage


class Place(NamedTuple):
    """What `decode` and `commit` need of a raw: its number in this life, what was said, and, where it happened some
    time before it was read, after when (epoch µs)."""

    life: int
    number: int
    said: Said
    since: int | None


class Decoder:
    """For the streams of the configuration."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        self._parts = {part.stream: part for part in config.streams}
        self._hops = {(part.stream, group.group): group.hop for part in config.streams for group in part.groups}

    def message_id(self, stream: str, fields: Fields) -> str:
        """Empty where they have none."""
        return said(fields, self._config.identity_of(self._parts[stream].flow)).message_id

    def event(self, raw: Raw) -> Event:
        """What was said. Raises `Undecodable`."""
        if not isinstance(raw.position, Place):
            raise Undecodable("an entry without its place")
        one, since = raw.position.said, raw.position.since
        part = self._parts[one.stream]
        where = f"{one.stream}/{id_text(one.entry)}"
        read_at = raw.observed_at or 0
        origin = origin_of(one.entry, read_at)
        event = Event(
            flow=part.flow,
            message_id=one.message_id,
            hop=self._hops[one.stream, one.group] if one.group else part.hop,
            stage=one.stage,
            reason=one.reason,
            observed_at=read_at,
            observed_from=None if since is None else min(read_at, max(since, origin or 0)),
            delivery=where if not one.group else _delivery(where, one),
            node=self._config.node,
            region=self._config.region,
            partition=one.stream,
            offset=offset_of(one.entry),
            group=one.group,
            attempt=one.attempt,
        )
        return self._persisted(event, unpacked(raw.value), origin) if one.stage is Stage.persist else event

    def content(self, raw: Raw) -> Content:
        """The message, as it stands in the payload's field; its other fields are the headers."""
        part, fields = self._parts[raw.position.said.stream], unpacked(raw.value)
        value = payload_of(fields, part.payload, self._config.identity_of(part.flow))
        return Content(None, value, headers_of(fields, part.payload))

    def _persisted(self, event: Event, fields: Fields, origin: int | None) -> Event:
        part = self._parts[event.partition]
        identity = self._config.identity_of(part.flow)
        told, payload = said(fields, identity), payload_of(fields, part.payload, identity)
        if not told.message_id:
            raise Undecodable(f"flow {part.flow!r}: no message id (field {identity} empty) in entry {event.delivery}")
        return msgspec.structs.replace(
            event, message_id=told.message_id, origin_at=origin if told.origin_at is None else told.origin_at,
            digest=digest_of(payload), size=len(payload), attempt=told.attempt, trace_id=told.trace_id,
            span_id=told.span_id, correlation_id=told.correlation_id, causation_id=told.causation_id,
            replay_id=told.replay_id,
        )  # fmt: skip


def _delivery(where: str, one: Said) -> str:
    """A hand-over by who has it and for the how manieth time; a group is done with an entry once."""
    return f"{where}:{one.group}:{one.consumer}:{one.attempt}" if one.attempt is not None else f"{where}:{one.group}"
