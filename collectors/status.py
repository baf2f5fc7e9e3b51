"""How the collectors of a process are, for those who ask from outside. Pure: snapshots in, words out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from collectors.archiving import Archived
from collectors.logins import without_logins
from collectors.runner import Health
from collectors.sender import Counts

ENDED = ("retiring", "retired")
"""States in which nothing is to be read any more."""
_LONGEST = 500


class Seen(NamedTuple):
    """One collector at one moment. `archived`: None where it keeps no messages."""

    name: str
    kind: str
    health: Health
    counts: Counts
    archived: Archived | None = None


def unready(seen: Seen, now: int, within: int) -> str:
    """Why what happens now is not seen, empty when it is: nothing was read for longer than `within` µs, whatever the
    reason, or trying again is no use."""
    health = seen.health
    if health.state in ENDED:
        return ""
    why = f": {health.last_error}" if health.last_error else ""
    if health.state == "failed":
        return f"ended for good{why}"
    if not health.last_read:
        return f"has not read yet{why}"
    behind = now - health.last_read
    return f"has not read for {behind // 1_000_000} s{why}" if behind > within else ""


def readiness(every: Sequence[Seen], now: int, within: int, refused: str) -> tuple[bool, bytes]:
    """Whether all collectors see what happens, and that as JSON with the state of each. `refused`: what is wrong with
    the configuration that was read last and not taken."""
    told = [_told(seen, plain(unready(seen, now, within))) for seen in every]
    ready = bool(told) and all(one["ready"] for one in told)
    said = {"ready": ready, "collectors": told}
    if refused:
        said["configuration_refused"] = plain(refused)
    return ready, msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n"


def plain(text: str) -> str:
    """A text for everybody: without logins, and not endless."""
    return without_logins(text)[:_LONGEST]


def _told(seen: Seen, why: str) -> dict[str, object]:
    health, counts = seen.health, seen.counts
    kept = {} if seen.archived is None else {
        "archive_waiting": seen.archived.waiting_records,
        "archive_lost": seen.archived.lost,
        "archive_error": plain(seen.archived.error),
    }  # fmt: skip
    return {
        "name": seen.name,
        "kind": seen.kind,
        "state": health.state,
        "ready": not why,
        "why": why,
        "lag_ms": health.lag_ms if health.lag_at else None,
        "backlog": health.backlog,
        "in_flight": health.in_flight,
        "read": health.read,
        "committed": health.committed,
        "undecodable": health.undecodable,
        "spool_bytes": counts.spool_bytes,
        "last_error": plain(health.last_error),
        "tracker_error": plain(counts.last_error),
        **kept,
    }
