"""ActiveMQ: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from collectors.activemq.link import Link, Server
from collectors.activemq.message import sent
from collectors.batches import Tried, in_batches
from collectors.errors import CollectorError, ConfigInvalid
from collectors.part import settings
from tracker.model.carry import PUBLISH_S, Copy, Sent

BATCH = 100
"""Copies that are on their way at once."""


class PublisherConfig(Server):
    """The `config` of an ActiveMQ publisher: all copies go to `queue`."""

    queue: str = Field(min_length=1)


def publisher(config: Mapping[str, Any]) -> ActivePublisher:
    """A publisher as configured. Raises `ConfigInvalid` that names the key."""
    return ActivePublisher(settings(PublisherConfig, config, "ActiveMQ publisher"))


class ActivePublisher:
    """Sends copies as persistent messages, and waits until the broker has each. One thread at a time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._what = f"{config.what}, queue {config.queue!r}"
        self._link: Link | None = None

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the broker) or
        `in doubt` (sent, and nobody answered). When the broker does not answer, or the time is over, the others are not
        tried."""
        return in_batches(copies, BATCH, PUBLISH_S / 2, self._what, self._attempt)

    def close(self) -> None:
        """Close the connection; nothing is left to send."""
        link, self._link = self._link, None
        if link:
            link.close()

    def _attempt(self, copies: Sequence[Copy], until: float) -> Tried:
        errors: dict[int, str] = {}
        frames: dict[int, dict[str, str]] = {}
        for number, copy in enumerate(copies):
            try:
                frames[number] = {**sent(copy, f"/queue/{self._config.queue}"), "receipt": f"c{number}"}
            except ValueError as error:
                errors[number] = f"not sent: {self._what}: {error}"
        try:
            link = self._link = self._link or Link(self._config)
        except CollectorError as error:
            return [], f"not sent: {self._what}: {error}"
        lost = ""
        try:
            for number, headers in frames.items():
                link.send("SEND", headers, copies[number].value)
            for number, headers in frames.items():
                link.until(headers["receipt"], until)
                errors[number] = ""
        except CollectorError as error:
            self.close()
            lost = f"not sent: {self._what}: {error}"
            doubt = "refused" if isinstance(error, ConfigInvalid) else "in doubt"
            errors = dict.fromkeys(frames, f"{doubt}: {self._what}: {error}") | errors
        return [errors[number] for number in range(len(copies))], lost
