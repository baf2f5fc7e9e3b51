"""What the configuration of a `redis-streams` collector may say. `docs/collectors/redis.md` explains each key."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from redis.connection import SSLConnection, parse_url

from collectors.errors import ConfigInvalid
from collectors.part import Part
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage


class GroupPart(Part):
    """A consumer group, and the hop that its deliveries and acks are seen at."""

    group: str = Field(min_length=1)
    hop: str
    noack: bool = False


class StreamPart(Part):
    """A stream and what is seen of it. `payload`: the field that holds the message."""

    stream: str = Field(min_length=1)
    flow: str
    hop: str
    payload: str = ""
    groups: tuple[GroupPart, ...] = ()

    @field_validator("groups")
    @classmethod
    def _once(cls, value: tuple[GroupPart, ...]) -> tuple[GroupPart, ...]:
        if len({part.group for part in value}) < len(value):
            raise ValueError("a group is named twice")
        return value


class RedisConfig(Part):
    """The keys beside `name` and `kind`."""

    url: str
    cursor: Path
    streams: tuple[StreamPart, ...] = Field(min_length=1)
    watch: Literal["auto", "replica", "poll"] = "auto"
    from_: Literal["first", "next"] = Field("first", alias="from")
    identity: dict[str, str] = Field(default_factory=dict)
    look_every: float = Field(0.5, gt=0)
    node: str = ""
    region: str = ""

    @field_validator("streams")
    @classmethod
    def _once(cls, value: tuple[StreamPart, ...]) -> tuple[StreamPart, ...]:
        if len({part.stream for part in value}) < len(value):
            raise ValueError("a stream is named twice")
        return value

    def identity_of(self, flow: str) -> str:
        """The field that carries the application's id."""
        return self.identity.get(flow, MESSAGE_ID)


def address(url: str) -> dict[str, Any]:
    """What `url` says, by the names of redis-py; `ssl_context` for `rediss://`. Raises `ConfigInvalid`, without the
    URL, for it holds a password."""
    try:
        found: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]  # of redis-py's own
        if found.pop("connection_class", None) is SSLConnection:
            context = ssl.create_default_context(cafile=found.get("ssl_ca_certs"))
            if found.get("ssl_certfile"):
                context.load_cert_chain(found["ssl_certfile"], found.get("ssl_keyfile"))
            found["ssl_context"] = context
    except (ValueError, OSError) as error:
        why = "is what is special in its password percent-encoded?" if isinstance(error, ValueError) else error
        raise ConfigInvalid(f"redis: bad `url`: {why}") from None
    return found


def shown(at: dict[str, Any]) -> str:
    """The server's address as texts name it, without the password."""
    where = at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}"
    return f"redis {where}/{at.get('db', 0)}"


def sources_of(part: StreamPart, polled: bool) -> dict[SourceRef, tuple[str, str]]:
    """What is vouched for, each with the (stream, group) that it is about; the stream itself has no group. By polling
    no single delivery is seen, and an ack only by what the pending list holds no more."""
    found = {SourceRef(part.flow, part.hop, Stage.persist.value, part.stream): (part.stream, "")}
    for group in part.groups:
        source, about = f"{part.stream}/{group.group}", (part.stream, group.group)
        if polled:
            found[SourceRef(part.flow, group.hop, Stage.ack.value, source, "range")] = about
        else:
            found |= {SourceRef(part.flow, group.hop, s.value, source): about for s in (Stage.deliver, Stage.ack)}
    return found
