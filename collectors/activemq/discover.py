"""Which queues and topics an ActiveMQ broker has. It tells whoever listens to its advisories on destinations: first of
all that there are, then of each new one. Nothing is made, and no message is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
from pydantic import ValidationError

from collectors.activemq.link import Link, Server
from collectors.draft import PRODUCER, Asked, Entry, Flow, Found, named
from collectors.errors import ConfigInvalid

QUIET = 1.0
"""Seconds without another one after which these were all."""
OURS = ("tracker.", "ActiveMQ.Advisory.")
DEAD = ("DLQ.", "ActiveMQ.DLQ")
KINDS = {"ActiveMQQueue": "queue", "ActiveMQTopic": "topic"}


class Place(msgspec.Struct, frozen=True, rename={"kind": "@class", "name": "string"}):
    """A destination. A name that looks like a number is one."""

    kind: str
    name: str | int | float


class About(msgspec.Struct, frozen=True):
    """What is said of it."""

    destination: Place


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the broker of `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    try:
        server = Server(url=url)
    except ValidationError:
        raise ConfigInvalid("write stomp://HOST:PORT; percent-encode its password") from None
    with closing(Link(server)) as link:
        places = sorted(set(_places(link)))
    items = [{"kind": kind, "name": name} for kind, name in places]
    watched = [(kind, name) for kind, name in places if not name.startswith(DEAD)]
    if not watched:
        return Found(server.what, [], items, [], [])
    values: dict[str, Any] = {
        "name": "activemq", "kind": "activemq", "url": given,
        "routes": [{kind: name, "flow": named(name), "hop": named(name)} for kind, name in watched],
    }  # fmt: skip
    if asked.identity_header:
        values["identity"] = {named(name): asked.identity_header for _, name in watched}
    notes = [
        "TODO the broker has to copy advisories into queue tracker.advisories.activemq: docs/collectors/activemq.md",
        "TODO consumers: name who acks what is in a queue as its `consumer`; of a topic its only durable subscriber",
        *(f"{kind} {name}: dead letters; name it in TRACKER_HOPS" for kind, name in places if name.startswith(DEAD)),
    ]
    return Found(server.what, [], items, [Entry(notes, values)], [_flow(name) for _, name in watched])


def _places(link: Link) -> Iterator[tuple[str, str]]:
    for kind in ("Queue", "Topic"):
        about = {"destination": f"/topic/ActiveMQ.Advisory.{kind}", "transformation": "jms-advisory-json"}
        link.send("SUBSCRIBE", {"id": kind, "ack": "auto", **about})
    while (frame := link.next(QUIET)) is not None:
        try:
            ((_, said),) = msgspec.json.decode(frame.body, type=dict[str, About]).items()
        except (msgspec.MsgspecError, ValueError):
            continue
        name = str(said.destination.name)
        if said.destination.kind in KINDS and not name.startswith(OURS):
            yield KINDS[said.destination.kind], name


def _flow(name: str) -> Flow:
    notes = [
        PRODUCER,
        "TODO who must have it: add {hop: CONSUMER, stage: ack, after: ..., within: ...}.",
    ]
    return Flow(named(name), notes, [{"hop": named(name), "stage": "persist"}])
