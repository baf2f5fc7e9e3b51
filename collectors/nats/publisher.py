"""NATS: sending copies of messages again. Implements `Publisher` of `tracker.model.carry`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.msg import Msg

from collectors.batches import Tried, in_batches
from collectors.carried import text
from collectors.errors import CollectorError
from collectors.nats.link import Link, Refused, Server
from collectors.nats.records import DEDUPLICATED
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID, PUBLISH_S, REPLAY_ATTEMPT, REPLAY_ID, Copy, Sent

IDLE_S = 30.0
"""A connection that was not used for so long is made anew: nobody answered the server's pings meanwhile, so it may be
closed, and the batch that is the first to find that out is in doubt."""
BATCH = 500
"""Copies that are on their way at once."""
OWN = "Nats-"
"""Headers that tell the server what to do (expect, roll up, expire), or that it wrote itself: not for a copy."""


class PublisherConfig(Server):
    """The `config` of a NATS publisher. `subject`: where all copies go; left out: to the subject that each had, which
    only copies from a stream know."""

    subject: str = ""


def publisher(config: Mapping[str, Any]) -> NatsPublisher:
    """A publisher as configured. Raises `ConfigInvalid` that names the key."""
    return NatsPublisher(settings(PublisherConfig, config, "NATS publisher"))


class NatsPublisher:
    """Publishes copies and waits until a stream has stored each. The server removes duplicates by `Nats-Msg-Id`, of a
    message that it holds already as well, so a copy gets one of its own: message, replay and attempt. One thread at a
    time."""

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._what = f"NATS {config.shown}"
        self._link: Link | None = None
        self._used = 0.0

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """One answer per copy, in order; never raises. An `error` begins with `not sent`, `refused` (by the server) or
        `in doubt` (sent, and nobody answered). When the server does not answer, or the time is over, the others are not
        tried."""
        if time.monotonic() - self._used > IDLE_S:
            self.close()
        answers = in_batches(copies, BATCH, PUBLISH_S / 2, self._what, self._attempt)
        self._used = time.monotonic()
        return answers

    def _attempt(self, copies: Sequence[Copy], _: float) -> Tried:
        errors: dict[int, str] = {}
        messages: dict[int, tuple[str, bytes, dict[str, str] | None]] = {}
        for number, copy in enumerate(copies):
            try:
                messages[number] = self._subject(copy), copy.value, headers_of(copy)
            except ValueError as error:
                errors[number] = f"not sent: {self._what}: {error}"
        lost = ""
        try:
            link = self._link = self._link or Link(self._config, "tracker.replay")
        except CollectorError as error:
            return [], f"not sent: {error}"
        try:
            said = link.send(list(messages.values()))
            errors |= {n: _error(link, answer, messages[n][0]) for n, answer in zip(messages, said, strict=True)}
        except CollectorError as error:
            self.close()
            lost = f"not sent: {error}"
            errors |= dict.fromkeys(messages, f"in doubt: {error}")
        return [errors[number] for number in range(len(copies))], lost

    def close(self) -> None:
        """Close the connection; nothing is left to send."""
        link, self._link = self._link, None
        if link:
            link.close()

    def _subject(self, copy: Copy) -> str:
        subject = self._config.subject or (copy.native if isinstance(copy.native, str) else "")
        if not subject:
            raise ValueError("the copy does not know its subject; give the publisher a `subject`")
        return subject


def headers_of(copy: Copy) -> dict[str, str]:
    """The copy's own, its id, and by what the server knows this attempt. Raises `ValueError` for what is no text."""
    found = {name: _text(name, value) for name, value in copy.headers.items() if not name.startswith(OWN)}
    found.setdefault(MESSAGE_ID, copy.locator.message_id)
    if REPLAY_ID in found:
        found[DEDUPLICATED] = f"{found[MESSAGE_ID]}:{found[REPLAY_ID]}:{found.get(REPLAY_ATTEMPT, '')}"
    return found


def _text(name: str, value: bytes) -> str:
    try:
        found = value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"header {name!r} is no UTF-8: {text(value)!r}") from None
    if "\r" in found or "\n" in found:
        raise ValueError(f"header {name!r} has a line break, which NATS does not carry")
    return found


def _error(link: Link, answer: Msg, subject: str) -> str:
    try:
        said = link.read(answer, subject)
    except Refused as error:
        return f"refused: {error}"
    except CollectorError:
        return f"refused: {link.what}: no stream takes {subject!r}"
    return "" if said.get("stream") else f"in doubt: {link.what}: {said}"
