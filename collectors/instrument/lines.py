"""An event as the line that is sent, built in two parts: what the events of one delivery share is encoded once.

An `Event` made of twenty fields and then encoded costs more than all the rest of an observation, and a message that is
taken and acked costs it twice. So the shared part is a small structure of its own, encoded when the message is handed
over, and each event is a few bytes before it: flow, hop, stage and time.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tracker.model.event import Stage


class Shared(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the events of one delivery say alike; names and defaults are those of `tracker.model.event.Event`."""

    message_id: str
    origin_at: int | None = None
    delivery: str = ""
    digest: str = ""
    size: int | None = None
    key: str = ""
    partition: str = ""
    offset: int | None = None
    group: str = ""
    attempt: int | None = None
    trace_id: str = ""
    span_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    replay_id: str = ""


_encode = msgspec.json.Encoder().encode


def shared_bytes(shared: Shared) -> bytes:
    """The shared part of a line, up to and with its closing brace. Raises what msgspec raises for text that is none."""
    return _encode(shared)[1:]


class Heads:
    """The first parts of the lines of one observer, which never change: one for each stage."""

    def __init__(self, flow: str, hop: str, node: str, region: str) -> None:
        self._of = {
            stage: _encode(
                {"flow": flow, "hop": hop, "stage": stage.value}
                | ({"node": node} if node else {})
                | ({"region": region} if region else {})
            )[:-1]
            + b',"observed_at":'
            for stage in Stage
        }

    def line(
        self, stage: Stage, at: int, shared: bytes, reason: str = "", attributes: Mapping[str, str] | None = None
    ) -> bytes:
        """One line of NDJSON, its newline included. `at` in epoch microseconds; `shared` of `shared_bytes`."""
        if reason or attributes:
            more = b""
            if reason:
                more = b'"reason":%b,' % _encode(reason)
            if attributes:
                more += b'"attributes":%b,' % _encode(attributes)
            return b"%b%d,%b%b\n" % (self._of[stage], at, more, shared)
        return b"%b%d,%b\n" % (self._of[stage], at, shared)
