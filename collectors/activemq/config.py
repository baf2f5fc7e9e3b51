"""What collectors of ActiveMQ are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collectors.activemq.link import Server
from collectors.part import Part
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage


class Route(Part):
    """A `queue` or a `topic` that holds messages of `flow`: the hop `hop`. What is acked there was acked by the hop
    `consumer`: those who read the queue, or the only durable subscriber of the topic, for advisories do not say which
    one it was. `listeners`: the hop of a topic's other subscribers."""

    queue: str = ""
    topic: str = ""
    flow: str
    hop: str
    consumer: str = ""
    listeners: str = ""

    @model_validator(mode="after")
    def _one(self) -> Route:
        if bool(self.queue) == bool(self.topic):
            raise ValueError("name either a `queue` or a `topic`")
        name = self.queue or self.topic
        if name.startswith("/") or any(each in name for each in ("*", ">", ",", "?", "://")):
            raise ValueError("name one `queue` or `topic`, as the broker does: no wildcard, list, option or prefix")
        if self.listeners and self.queue:
            raise ValueError("`listeners` are those of a topic; a queue has none")
        return self

    @property
    def at(self) -> str:
        """As advisory topics name it."""
        return f"Queue.{self.queue}" if self.queue else f"Topic.{self.topic}"

    def sources(self, acks: bool) -> list[SourceRef]:
        """What is vouched for; whether for acks, too."""
        name = self.queue or self.topic
        found = [SourceRef(self.flow, self.hop, Stage.persist.value, name)]
        told = acks and self.consumer
        return [*found, SourceRef(self.flow, self.consumer, Stage.ack.value, name)] if told else found


class ActiveConfig(Server):
    """The `config` of an `activemq` collector; `docs/collectors/activemq.md` explains each key. `advisories`: the queue
    of its own that the broker copies advisories into; left out: `tracker.advisories.NAME`. `inside`: who takes messages
    inside of the broker's process, by `vm://`: its own `clients`, or a `network` of brokers; left out: not known."""

    routes: tuple[Route, ...] = Field(min_length=1)
    advisories: str = ""
    identity: dict[str, str] = Field(default_factory=dict)
    first_connector: str = ""
    inside: Literal["", "clients", "network"] = ""
    node: str = ""
    region: str = ""
    prefetch: int = Field(1000, ge=1, le=65_535)
    canary_every: float = Field(0.5, gt=0)
    settle: float = Field(0.25, ge=0)
    hole_for: float = Field(3.0, ge=0)
    proof_within: float = Field(15.0, gt=0)

    @model_validator(mode="after")
    def _once(self) -> ActiveConfig:
        places = [route.at for route in self.routes]
        if len(set(places)) < len(places):
            raise ValueError("routes: a queue or topic is named twice")
        return self

    @property
    def prompt(self) -> float:
        """Seconds since the last canary within which an advisory counts as read when it happened."""
        return self.canary_every + self.settle

    def identity_of(self, flow: str) -> str:
        """The header that carries the application's id."""
        return self.identity.get(flow, MESSAGE_ID)
