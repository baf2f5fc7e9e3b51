"""What a span says happened to its message: a stage, by operation, kind and status. Pure.

| operation | stage | with status error |
|---|---|---|
| create, send, publish | produce | nothing: a message whose sending failed was not promised |
| receive | deliver | nothing: it was not handed over |
| process | ack; nack when its disposition says so (a task that asks to be run again) | nack |
| settle | ack, nack or dead_letter, as its name or disposition says | nothing: it was not settled |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tracker.model.event import Stage

PRODUCER, CONSUMER = 4, 5
"""Kinds of spans, as in trace.proto."""

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "create": "send",
        "send": "send",
        "publish": "send",
        "receive": "receive",
        "process": "process",
        "settle": "settle",
    }
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **_TYPES,
        **dict.fromkeys(("enqueue", "produce", "add", "schedule"), "send"),
        **dict.fromkeys(("poll", "fetch", "peek", "get", "consume", "deliver", "dequeue", "recv", "pull"), "receive"),
        **dict.fromkeys(("handle", "run", "execute"), "process"),
    }
)
"""Names of operations that systems use where no type is given."""
_SETTLED: Mapping[str, Stage] = MappingProxyType(
    {
        **dict.fromkeys(("ack", "acknowledge", "basic_ack", "commit", "complete", "accept", "delete"), Stage.ack),
        **dict.fromkeys(("nack", "reject", "basic_nack", "basic_reject", "abandon", "release"), Stage.nack),
        **dict.fromkeys(("requeue", "defer", "modify", "retry", "rejected"), Stage.nack),
        **dict.fromkeys(("dead_letter", "deadletter", "dead-letter", "dlq", "park"), Stage.dead_letter),
    }
)


def kind_of(operation: str, name: str, kind: int) -> str:
    """send, receive, process or settle; empty for a span that says none of them."""
    word, alias = operation.lower(), name.lower()
    if word in _TYPES:
        return _TYPES[word]
    for said in (alias, word):
        if said in _NAMES:
            return _NAMES[said]
        if said in _SETTLED:
            return "settle"
    if word or alias:
        return ""
    return {PRODUCER: "send", CONSUMER: "process"}.get(kind, "")


def stage_of(operation: str, name: str, disposition: str, kind: int, failed: bool) -> Stage | None:
    """The stage that a span is evidence of; None for one that is evidence of nothing."""
    what = kind_of(operation, name, kind)
    if what == "process":
        return Stage.nack if failed or _SETTLED.get(disposition.lower()) is Stage.nack else Stage.ack
    if failed:
        return None
    if what == "settle":
        words = (word.lower() for word in (disposition, name, operation))
        return next((_SETTLED[word] for word in words if word in _SETTLED), None)
    return {"send": Stage.produce, "receive": Stage.deliver}.get(what)
