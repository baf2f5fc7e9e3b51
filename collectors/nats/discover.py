"""What an account of NATS JetStream holds, asked of its API: nothing is made, consumed or published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from pydantic import ValidationError

from collectors.draft import PRODUCER, WITHIN, Asked, Entry, Flow, Found, named
from collectors.errors import ConfigInvalid
from collectors.nats.cursor import STREAM
from collectors.nats.link import Link, Refused, Server

OURS = ("TRACKER_", STREAM)
DIRECT = "explicit"


class Stream:
    """A stream, and its durable consumers."""

    def __init__(self, about: Mapping[str, Any], consumers: list[Mapping[str, Any]]) -> None:
        self.config, self.state, self.consumers = about["config"], about["state"], consumers
        self.name: str = self.config["name"]
        self.origins = [each["name"] for each in (self.config.get("mirror"), *self.config.get("sources", ())) if each]

    @property
    def item(self) -> dict[str, Any]:
        """As it is."""
        keys = ("retention", "discard", "max_msgs", "max_bytes", "max_age")
        return {
            "stream": self.name, "subjects": self.config.get("subjects", []), "copies": self.origins,
            "messages": self.state["messages"], "consumers": [each["name"] for each in self.consumers],
            **{key: self.config.get(key) for key in keys},
        }  # fmt: skip

    def notes(self) -> Iterator[str]:
        """What to know, and to decide."""
        if self.config.get("retention") != "limits":
            yield (
                f"TODO stream {self.name}: what is acked is gone ({self.config['retention']}): what goes before it is "
                "read is a blind spot; instrument its clients"
            )
        for each in self.consumers:
            policy = each["config"].get("ack_policy")
            if policy != DIRECT:
                yield f"TODO consumer {each['name']} of {self.name}: ack_policy {policy}: instrument its clients"


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the account of `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    try:
        server = Server(url=url)
    except ValidationError:
        raise ConfigInvalid("write nats://HOST:PORT; percent-encode its password") from None
    with closing(Link(server, "tracker.discover")) as link:
        try:
            streams = [_stream(link, about) for about in _listed(link, "STREAM.LIST", "streams")]
        except Refused as error:
            raise ConfigInvalid(str(error)) from None
    streams = [each for each in streams if not each.name.startswith(OURS)]
    items = [each.item for each in streams]
    return Found(f"NATS {server.shown}", [], items, list(_entries(streams, given, asked)), _flows(streams))


def _stream(link: Link, about: Mapping[str, Any]) -> Stream:
    consumers = _listed(link, f"CONSUMER.LIST.{about['config']['name']}", "consumers")
    return Stream(about, [each for each in consumers if each["config"].get("durable_name")])


def _listed(link: Link, subject: str, key: str) -> list[Mapping[str, Any]]:
    """All pages."""
    found: list[Mapping[str, Any]] = []
    while True:
        page = link.ask(subject, {"offset": len(found)})
        found += page.get(key) or []
        if len(found) >= page["total"] or not page.get(key):
            return found


def _entries(streams: list[Stream], given: str, asked: Asked) -> Iterator[Entry]:
    for name, stage, some in (
        ("nats", "persist", [each for each in streams if not each.origins]),
        ("nats-copies", "replicate", [each for each in streams if each.origins]),
    ):
        if not some:
            continue
        routes = [{"stream": each.name, "flow": _flow(each), "hop": named(each.name)} for each in some]
        values: dict[str, Any] = {"name": name, "kind": "nats", "url": given}
        values["streams"] = [route | ({"stage": stage} if stage == "replicate" else {}) for route in routes]
        values["consumers"] = [
            {"stream": each.name, "consumer": one["name"], "hop": named(one["name"])}
            for each in some
            for one in each.consumers
            if one["config"].get("ack_policy") == DIRECT
        ]
        if asked.identity_header:
            values["identity_header"] = asked.identity_header
        notes = ["TODO ids: the header x-message-id, or Nats-Msg-Id; or name yours in `identity_header`"]
        yield Entry([*notes, *(note for each in some for note in each.notes())], values)


def _flow(stream: Stream) -> str:
    """A copy belongs to the flow of what it copies."""
    return named(stream.origins[0] if stream.origins else stream.name)


def _flows(streams: list[Stream]) -> list[Flow]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(streams, key=lambda each: bool(each.origins)):
        flow, hop = _flow(each), named(each.name)
        points = found.setdefault(flow, [])
        after = {"after": named(each.origins[0]), "within": WITHIN} if each.origins and points else {}
        points.append({"hop": hop, "stage": "replicate" if each.origins else "persist", **after})
        points += [
            {"hop": named(one["name"]), "stage": "ack", "after": hop, "within": WITHIN}
            for one in each.consumers
            if one["config"].get("ack_policy") == DIRECT
        ]
    notes = [PRODUCER]
    return [Flow(flow, notes, points) for flow, points in found.items()]
