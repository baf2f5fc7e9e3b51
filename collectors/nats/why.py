"""Why a stream forgot its oldest messages. The server does not say: its limits do. Pure."""

from __future__ import annotations

from collectors.nats.feed import Info
from tracker.model.units import instant

NEARLY = 0.9
"""A stream that holds less than this of what it may was not full: bytes are freed by the block."""


def why_gone(info: Info, now: int, look_every: float) -> str:
    """The reason of a `drop`. `now` in µs, `look_every`: so many seconds ago it may have happened."""
    limits, state = info.config, info.state
    if state.messages >= limits.max_msgs * NEARLY > 0 or state.bytes >= limits.max_bytes * NEARLY > 0:
        return "discarded"
    if limits.max_age > 0:
        oldest = instant(state.first_ts) if state.messages else now
        if now - oldest >= limits.max_age / 1000 - (look_every + 1) * 1e6 or not state.messages:
            return "expired"
    return "purged"
