"""Which streams a Redis database holds, with their groups, by commands that change nothing.

Of the newest entry of each stream the *names* of its fields are looked at: is the id there?
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import redis

from collectors.draft import PRODUCER, Asked, Entry, Flow, Found, named
from collectors.redis.config import address, shown
from collectors.redis.look import client_errors, connected
from tracker.model.carry import MESSAGE_ID

TIMEOUT = 10.0
MOST = 500
"""Streams that are looked at."""
MAYBE_PAYLOAD = ("payload", "body", "data", "event", "message", "value")


class Stream(msgspec.Struct):
    """`fields`: the names of those of the newest entry; `groups`: how many entries wait for each, and are pending."""

    stream: str
    length: int
    fields: list[str]
    groups: dict[str, tuple[int | None, int]]


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the database of `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    what = shown(address(url))
    client = connected(url, TIMEOUT)
    with client_errors(what):
        try:
            found = sorted(_streams(client), key=lambda each: each.stream)
            info: Any = client.info("replication")
        finally:
            client.close()
    identity = asked.identity_header or MESSAGE_ID
    notes = [f"TODO only the first {MOST} streams were looked at"] if len(found) == MOST else []
    if "min_slaves_good_slaves" in info:
        notes.append("min-replicas-to-write is set: `watch: auto` polls, for a replica of ours would be counted.")
    items = [msgspec.to_builtins(each) for each in found]
    if not found:
        return Found(what, notes, items, [], [])
    values: dict[str, Any] = {
        "name": "redis", "kind": "redis-streams", "url": given, "cursor": "/var/lib/collectors/redis.cursor",
        "streams": [_part(each) for each in found],
    }  # fmt: skip
    if asked.identity_header:
        values["identity"] = {named(each.stream): identity for each in found}
    about = [note for each in found for note in _of_stream(each, identity)]
    return Found(what, notes, items, [Entry(about, values)], [_flow(each) for each in found])


def _streams(client: redis.Redis) -> Iterator[Stream]:
    for number, key in enumerate(client.scan_iter(count=1000, _type="stream")):
        if number == MOST:
            return
        newest: Any = client.xrevrange(key, count=1)
        groups: Any = client.xinfo_groups(key)
        yield Stream(
            _text(key), client.xlen(key), [_text(name) for _, fields in newest for name in fields],
            {_text(group["name"]): (group.get("lag"), group["pending"]) for group in groups},
        )  # fmt: skip


def _part(each: Stream) -> dict[str, Any]:
    part: dict[str, Any] = {"stream": each.stream, "flow": named(each.stream), "hop": named(each.stream)}
    payload = next((name for name in MAYBE_PAYLOAD if name in each.fields), "")
    if payload:
        part["payload"] = payload
    if each.groups:
        part["groups"] = [{"group": group, "hop": named(group)} for group in sorted(each.groups)]
    return part


def _of_stream(each: Stream, identity: str) -> Iterator[str]:
    if each.fields and identity not in each.fields:
        there = ", ".join(each.fields)
        yield f"TODO stream {each.stream}: no field {identity!r} in its newest entry, which has {there}"
    if not each.groups:
        yield f"TODO stream {each.stream}: no group: who reads it?"
    for group, (lag, pending) in sorted(each.groups.items()):
        waiting = "an unknown number" if lag is None else lag
        yield f"stream {each.stream}, group {group}: {waiting} not read yet, {pending} pending"


def _flow(each: Stream) -> Flow:
    notes = [PRODUCER]
    hop = named(each.stream)
    points = [{"hop": hop, "stage": "persist"}]
    points += [{"hop": named(group), "stage": "ack", "after": hop, "within": "5m"} for group in sorted(each.groups)]
    notes += ["TODO which of the groups must have each message, and how soon."] if each.groups else []
    return Flow(hop, notes, points)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
