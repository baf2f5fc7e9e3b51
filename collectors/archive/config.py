"""`archive` of a collector: what is kept, where, and under which keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from collectors.config import Seconds
from collectors.part import Part
from tracker.model.spec import NAME
from tracker.model.units import duration

Span = Annotated[int, BeforeValidator(duration), Field(gt=0)]
"""A duration in µs."""


class Place(Part):
    """Where an archive lies, and who can read it. `key`: the name of a key provider for all flows, or by flow.
    `unencrypted`: segments without a key are written and read. `options`: as the file system of that URL takes them."""

    url: str = Field(min_length=1)
    key: str | dict[str, str] = ""
    unencrypted: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _decided(self) -> Place:
        if not self.key and not self.unencrypted:
            raise ValueError(
                "give `key` (env:NAME, file:PATH), or write down `unencrypted: true`: payloads are then readable "
                "for whoever reaches the store"
            )
        return self

    def key_of(self, flow: str) -> str:
        """The name of a flow's key; empty where it has none."""
        return self.key if isinstance(self.key, str) else self.key.get(flow, "")


class ArchiveConfig(Place):
    """See `docs/collectors/archive.md`. `every` (s), `segment_mb`: when a segment is closed; `keep` (µs): None for
    ever; `required`: reading stops while the store is away, else what could not be kept is a hole that is told."""

    flows: tuple[str, ...] = Field(min_length=1)
    every: Seconds = 10.0
    segment_mb: int = Field(16, ge=1, le=1024)
    required: bool = True
    keep: Span | None = None

    @field_validator("flows")
    @classmethod
    def _names(cls, flows: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [flow for flow in flows if not NAME.fullmatch(flow)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no name of a flow")
        return flows

    @model_validator(mode="after")
    def _every_flow_has_its_key(self) -> ArchiveConfig:
        without = [flow for flow in self.flows if not self.key_of(flow)]
        if without and not self.unencrypted:
            raise ValueError(f"no key for {', '.join(without)}: name one, or write down `unencrypted: true`")
        return self


def place_of(config: ArchiveConfig) -> Place:
    """The part of it that a reader needs."""
    known = Place.model_fields
    taken: Mapping[str, Any] = {name: getattr(config, name) for name in known}
    return Place(**taken)
