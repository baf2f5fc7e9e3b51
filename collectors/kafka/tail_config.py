"""What a configuration says of a tail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collectors.kafka.client import Cluster
from collectors.kafka.records import Route
from tracker.model.carry import MESSAGE_ID


class TailConfig(Cluster):
    """The `config` of a `kafka` collector; `docs/collectors/kafka.md` explains each key."""

    topics: tuple[Route, ...] = Field(min_length=1)
    from_: Literal["earliest", "latest"] = Field("earliest", alias="from")
    id: Literal["header", "offset"] = "header"
    identity_header: str = MESSAGE_ID
    key: Literal["omit", "plain"] = "omit"
    isolation: Literal["read_committed", "read_uncommitted"] = "read_uncommitted"
    node: str = ""
    region: str = ""
    look_every: float = Field(0.5, gt=0)
    memory_kb: int = Field(32_768, ge=1024)
    remember: int = Field(100_000, ge=0)
    transactions: bool = False

    @model_validator(mode="after")
    def _seen_at_all(self) -> TailConfig:
        if self.transactions and self.isolation == "read_committed":
            raise ValueError(
                "transactions: with isolation read_committed what is taken back is never seen; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _one_stage(self) -> TailConfig:
        if len({route.stage for route in self.topics}) > 1:
            raise ValueError(
                "topics: some are `stage: replicate` and some are not; the times of copies are this host's, those of "
                "other records are not, so give the copies a collector of their own"
            )
        if self.copies and self.id == "offset":
            raise ValueError("id: a copy has another offset than its original; it is told by its id's header")
        return self

    @property
    def copies(self) -> bool:
        """Whether it tails what a mirror wrote."""
        return self.topics[0].stage == "replicate"

    @property
    def names(self) -> list[str]:
        """The topics, by name or pattern."""
        return [route.topic for route in self.topics]

    @property
    def look_ticks(self) -> int:
        """`look_every` in µs."""
        return int(self.look_every * 1_000_000)
