"""What the tracker declares in its own name, as OpenAPI describes it: statements, and hops that are gone."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tracker.api.shapes import Instant, Shape


class Span(BaseModel):
    """Of which messages: those created from `from` until, and not including, `to`."""

    model_config = ConfigDict(extra="forbid")

    start: str = Field("-1h", alias="from", description="RFC 3339, epoch, or -1h")
    end: str = Field("now", alias="to", description="RFC 3339, epoch, or now")


class Statement(Shape):
    """A statement and its seal: `hash` is the sha256 of the canonical JSON of `statement` (keys sorted, no spaces,
    ASCII), `signature` the Ed25519 signature of the same bytes, base64. `tracker reconcile --verify` checks both."""

    statement: dict[str, Any]
    hash: str
    public_key: str
    signature: str


class StatementLink(Shape):
    """A statement's place in the chain of its flow, and the span of origins that it is about."""

    number: int
    hash: str
    previous: str
    made_at: Instant
    made_by: str
    start: Instant = Field(serialization_alias="from")
    end: Instant = Field(serialization_alias="to")


class StatementKey(Shape):
    """The public part of the key that signs statements now; `key` names it in statements."""

    key: str
    algorithm: str
    public_key: str


class Exceptional(Shape):
    """A finding of a message, or, with an empty hop, a message that is not delivered and has none. `kind` is then its
    verdict."""

    message_id: str
    verdict: str
    hop: str
    stage: str
    kind: str
    status: str


class Exceptions(Shape):
    """A page of exceptions as pass `number` left them. `next` asks for the page after it."""

    number: int = Field(serialization_alias="pass")
    items: list[Exceptional]
    next: str | None = None


class Abandonment(BaseModel):
    """What a hop took of a flow's messages from `since` until `until`, by its own clock, is gone for good."""

    model_config = ConfigDict(extra="forbid")

    flow: str
    hop: str
    since: str = Field(description="RFC 3339, epoch, or -1h")
    until: str = Field("now", description="RFC 3339, epoch, or now")
    reason: str = Field("", max_length=1000, description="kept in the audit log and with each message")
    unseen: bool = Field(False, description="also what was handed to it then and nobody saw there")
    dry_run: bool = Field(False, description="only count")
    after: str = Field("", max_length=2048, description="go on: `next` of the answer before")


class Abandoned(Shape):
    """How many copies, of how many messages; with `dry_run` the `verdicts` of these messages. `next`: there may be
    copies left; send the same again with `after`."""

    flow: str
    hop: str
    since: Instant
    until: Instant
    dry_run: bool
    messages: int
    copies: int
    verdicts: dict[str, int]
    next: str | None
