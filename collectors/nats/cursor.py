"""Where a collector stands: one value of a key-value bucket of our own, `tracker`, under the collector's name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from collectors.nats.feed import Stands
from collectors.nats.link import NO_MESSAGE, NO_STREAM, Link, Refused

BUCKET = "tracker"
STREAM = f"KV_{BUCKET}"


def made(link: Link, replicas: int) -> None:
    """The bucket, as clients of NATS make one (ADR-8 of nats-architecture-and-design)."""
    keep(
        link,
        STREAM,
        {
            "subjects": [f"$KV.{BUCKET}.>"], "max_msgs_per_subject": 1, "discard": "new", "num_replicas": replicas,
            "allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True,
        },
    )  # fmt: skip


def keep(link: Link, stream: str, config: Mapping[str, object]) -> dict[str, Any]:
    """Have a stream of our own, made unless it is there; what the server says of it. Raises `Refused`."""
    try:
        return link.ask(f"STREAM.INFO.{stream}")
    except Refused as error:
        if error.code != NO_STREAM:
            raise
    made = {"name": stream, "storage": "file", "retention": "limits", **config}
    return link.ask(f"STREAM.CREATE.{stream}", made)


def loaded(link: Link, name: str) -> dict[str, Stands]:
    """Where it stood in each stream."""
    try:
        found = link.ask(f"STREAM.MSG.GET.{STREAM}", {"last_by_subj": _subject(name)})
    except Refused as error:
        if error.code != NO_MESSAGE:
            raise
        return {}
    return msgspec.json.decode(base64.b64decode(found["message"].get("data", "")), type=dict[str, Stands])


def stored(link: Link, name: str, stands: Mapping[str, Stands]) -> None:
    """Returns when the server has it."""
    subject = _subject(name)
    (answer,) = link.send([(subject, msgspec.json.encode(stands), None)])
    link.read(answer, subject)


def _subject(name: str) -> str:
    return f"$KV.{BUCKET}.{name}"
