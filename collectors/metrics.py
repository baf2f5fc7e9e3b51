"""Every metric that `collectors run` shows at `/metrics`, defined once, and its values. Pure.

The page docs/metrics.md is made from this file, and tests look up here every name that alerts use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from collectors.archiving import Archived
from collectors.runner import UNKNOWN_MS
from collectors.status import Seen

STATES = ("starting", "running", "waiting", "unavailable", "failed", "stopped", "retiring", "retired")
_EACH = ("collector", "kind")


class Metric(NamedTuple):
    """One metric; the name of a counter ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...] = _EACH


class Sample(NamedTuple):
    """A value of a metric, with its labels in their order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


STATE = Metric(
    "collector_state",
    "gauge",
    "1 for the state that the collector is in, 0 for the others: running; starting; waiting (for the tracker, its "
    "spool is full, or for the store of its archive); unavailable (the system that it watches is); failed (for good); "
    "stopped; retiring; retired.",
    (*_EACH, "state"),
)
READ = Metric("collector_read_records_total", "counter", "Records read from the system.")
COMMITTED = Metric("collector_committed_records_total", "counter", "Of these, those that need not be read again.")
UNDECODABLE = Metric("collector_undecodable_records_total", "counter", "Of these, those that were set aside.")
FAILURES = Metric("collector_unavailable_total", "counter", "How often the system could not be reached or refused.")
LAST_READ = Metric(
    "collector_last_read_timestamp_seconds", "gauge", "When reading worked last. Not there before the first time."
)
LAG = Metric(
    "collector_lag_seconds",
    "gauge",
    "How far what it vouches for is behind now; it grows while nothing is read. Not there before something was shown.",
)
BACKLOG = Metric("collector_backlog_records", "gauge", "Records that wait in the system, where it tells.")
IN_FLIGHT = Metric("collector_in_flight_records", "gauge", "Records read whose events the tracker does not have yet.")
SPOOL_BYTES = Metric("collector_spool_bytes", "gauge", "What its spool takes on disk.")
SPOOL_LIMIT = Metric("collector_spool_limit_bytes", "gauge", "What its spool may take; reading stops when it is full.")
WAITING = Metric("collector_spool_events", "gauge", "Events in the spool that the tracker does not have yet.")
SENT = Metric("collector_sent_events_total", "counter", "Events sent, repetitions too.")
ACKNOWLEDGED = Metric("collector_acknowledged_events_total", "counter", "Events that the tracker has.")
QUARANTINED = Metric("collector_quarantined_events_total", "counter", "Of these, those that it put into quarantine.")
DROPPED = Metric(
    "collector_dropped_events_total", "counter", "Events given up since the spool was made: coverage has a hole there."
)
RETRIES = Metric("collector_report_retries_total", "counter", "Requests that the tracker did not say yes to.")
ANSWERED = Metric(
    "collector_acknowledged_timestamp_seconds",
    "gauge",
    "When the tracker last said yes; before the first time, when the collector was started.",
)
ARCHIVED = Metric(
    "collector_archived_records_total", "counter", "Messages that its archive keeps for good, those kept again too."
)
ARCHIVED_BYTES = Metric("collector_archived_bytes_total", "counter", "What their segments take in the archive's store.")
SEGMENTS = Metric("collector_archived_segments_total", "counter", "Segments written into the archive.")
ARCHIVE_WAITING = Metric(
    "collector_archive_waiting_records", "gauge", "Messages read that the archive does not have yet: not committed."
)
ARCHIVE_WAITING_BYTES = Metric("collector_archive_waiting_bytes", "gauge", "What these take in memory, about.")
ARCHIVE_FAILURES = Metric(
    "collector_archive_failures_total", "counter", "How often the archive's store, or its key, could not be had."
)
ARCHIVE_LOST = Metric(
    "collector_archive_lost_records_total", "counter", "Messages given up where the archive is not required: its holes."
)
ARCHIVED_AT = Metric(
    "collector_archived_timestamp_seconds", "gauge", "When a segment was written last. Not there before the first."
)
RELOADED = Metric(
    "collectors_config_last_reload_successful", "gauge", "0 when the configuration that was read last was refused.", ()
)
RELOADED_AT = Metric(
    "collectors_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration in force was read.",
    (),
)
BUILD = Metric("collectors_build_info", "gauge", "Always 1; says which version runs.", ("version",))

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def samples(every: Sequence[Seen], now: int, reloaded: bool, reloaded_at: int, version: str) -> Iterator[Sample]:
    """All values. `now` by the clock of the snapshots (epoch µs), and so `reloaded_at`, when the configuration in force
    was read; `reloaded`: the one that was read last is in force."""
    yield Sample(RELOADED, (), float(reloaded))
    yield Sample(RELOADED_AT, (), reloaded_at / 1e6)
    yield Sample(BUILD, (version,), 1.0)
    for seen in every:
        each = (seen.name, seen.kind)
        yield from (Sample(STATE, (*each, state), float(seen.health.state == state)) for state in STATES)
        yield from (Sample(metric, each, value) for metric, value in _values(seen, now))


def _values(seen: Seen, now: int) -> Iterator[tuple[Metric, float]]:
    health, counts = seen.health, seen.counts
    yield READ, health.read
    yield COMMITTED, health.committed
    yield UNDECODABLE, health.undecodable
    yield FAILURES, health.errors
    if health.last_read:
        yield LAST_READ, health.last_read / 1e6
    if health.lag_at and health.lag_ms < UNKNOWN_MS:
        yield LAG, health.lag_ms / 1e3 + max(0, now - health.lag_at) / 1e6
    yield BACKLOG, health.backlog
    yield IN_FLIGHT, health.in_flight
    yield SPOOL_BYTES, counts.spool_bytes
    yield SPOOL_LIMIT, counts.spool_limit
    yield WAITING, counts.backlog
    yield SENT, counts.sent
    yield ACKNOWLEDGED, counts.acknowledged
    yield QUARANTINED, counts.quarantined
    yield DROPPED, counts.dropped
    yield RETRIES, counts.retries
    yield ANSWERED, counts.answered_at / 1e6
    if seen.archived:
        yield from _archived(seen.archived)


def _archived(archived: Archived) -> Iterator[tuple[Metric, float]]:
    yield ARCHIVED, archived.records
    yield ARCHIVED_BYTES, archived.bytes
    yield SEGMENTS, archived.segments
    yield ARCHIVE_WAITING, archived.waiting_records
    yield ARCHIVE_WAITING_BYTES, archived.waiting_bytes
    yield ARCHIVE_FAILURES, archived.failures
    yield ARCHIVE_LOST, archived.lost
    if archived.at:
        yield ARCHIVED_AT, archived.at / 1e6


def section() -> str:
    """The collectors' part of docs/metrics.md."""
    lines = [
        "",
        "## Collectors",
        "",
        "What `GET /metrics` of `collectors run` shows where its configuration says",
        "[`listen`](collectors/index.md#health-and-metrics), for each collector that it runs.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
        *(f"| `{m.name}` | {m.kind} | {', '.join(f'`{n}`' for n in m.labels)} | {m.text} |" for m in ALL),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(section())
