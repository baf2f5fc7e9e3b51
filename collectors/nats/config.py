"""What collectors of NATS are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collectors.nats.link import Server
from collectors.part import Part
from tracker.model.carry import MESSAGE_ID


class Route(Part):
    """Messages of `stream` whose subject fits `subject` are of `flow`, and the stream is its hop `hop`. `stage`:
    `replicate` where the stream is a mirror, or has sources."""

    stream: str = Field(pattern=r"^[^\s.*>/\\]+$")
    subject: str = ">"
    flow: str
    hop: str
    stage: Literal["persist", "replicate"] = "persist"


class Followed(Part):
    """A durable consumer of `stream`: the hop `hop`."""

    stream: str
    consumer: str = Field(pattern=r"^[^\s.*>/\\]+$")
    hop: str


class NatsConfig(Server):
    """The `config` of a `nats` collector; `docs/collectors/nats.md` explains each key."""

    streams: tuple[Route, ...] = Field(min_length=1)
    consumers: tuple[Followed, ...] = ()
    from_: Literal["first", "next"] = Field("first", alias="from")
    identity_header: str = MESSAGE_ID
    node: str = ""
    region: str = ""
    look_every: float = Field(0.5, gt=0)
    read_mb: int = Field(16, ge=1)
    remember: int = Field(100_000, ge=0)
    remember_mb: int = Field(32, ge=1, le=1024)
    keep_mb: int = Field(256, ge=1)
    replicas: int = Field(1, ge=1, le=5)

    @model_validator(mode="after")
    def _agreeing(self) -> NatsConfig:
        if len({route.stage for route in self.streams}) > 1:
            raise ValueError(
                "streams: some are `stage: replicate` and some are not; the times of copies are this host's, those of "
                "other messages are not, so give the copies a collector of their own"
            )
        unknown = {each.stream for each in self.consumers} - {route.stream for route in self.streams}
        if unknown:
            raise ValueError(f"consumers: {', '.join(sorted(unknown))} is not among `streams`")
        return self

    @property
    def copies(self) -> bool:
        """Whether it reads what was copied from another stream."""
        return self.streams[0].stage == "replicate"
