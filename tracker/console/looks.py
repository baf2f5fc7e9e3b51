"""How values look on a page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from tracker.api import shapes
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND, rfc3339

TONES = {
    "delivered": "Delivered in time",
    "late": "Delivered, but late",
    "in_flight": "On its way, in time",
    "explained": "Ended by design",
    "blind": "Not known: nobody vouches",
    "dead_lettered": "Dead-lettered",
    "under_replicated": "Copies missing",
    "unacknowledged": "Not acknowledged",
    "lost": "Lost",
    "divergent": "Payload differs",
}
"""Verdicts in the order of bars, and what they say. Colours are in console.css, by the same names."""


def ago(at: int | None, now: int) -> str:
    """How long ago, in the largest unit that fits."""
    if not at:
        return "never"
    return "just now" if 0 <= now - at < SECOND else f"{span(abs(now - at))} {'ago' if at <= now else 'ahead'}"


def span(length: float) -> str:
    """A duration of µs, short."""
    seconds = length / SECOND
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def clock(at: int | None) -> str:
    """Time of day with milliseconds, UTC."""
    return rfc3339(at)[11:23] if at else ""


def thousands(number: int) -> str:
    """12 345."""
    return f"{number:,}".replace(",", "\u202f")


def message_path(flow: str, message_id: str) -> str:
    """Where a message is shown."""
    return f"/flows/{quote(flow, safe='')}/messages/{quote(message_id, safe='')}"


@dataclass(frozen=True, slots=True)
class Step:
    """A checkpoint on a message's way. `status`: seen, or why not."""

    hop: str
    stage: str
    status: str
    at: int | None
    required: bool
    held: bool


def way(spec: FlowSpec, message: shapes.Message) -> list[Step]:
    """The checkpoints of the spec in path order, and how far this message came."""
    missing = {(m.hop, m.stage): m.status for m in message.missing}
    steps = []
    for i in spec.paths.order:
        point = spec.checkpoints[i]
        name = "|".join(point.hop)
        times = [o.observed_at for o in message.timeline if o.hop in point.hop and o.stage == point.stage]
        status = missing.get((name, point.stage.value)) or ("seen" if times else "implied")
        if not times and not point.required:
            status = "optional"
        held = any(hop in message.held_by for hop in point.hop) and bool(times)
        steps.append(Step(name, point.stage.value, status, min(times, default=None), point.required, held))
    return steps
