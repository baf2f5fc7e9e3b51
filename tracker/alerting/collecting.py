"""Alerts about collectors, from what `collectors run` shows itself: the reason, where the tracker only misses them."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.alerting.alert import Alert

FULL = 0.7
"""Share of a collector's spool. It is taken in segments, so a small spool looks half full when it holds little."""

AWAY = "2m"
"""An archive that cannot be written is tried at least every 30 seconds, and every minute while nothing comes."""

COLLECTING: Sequence[Alert] = (
    Alert(
        "CollectorUnavailable",
        'max by (instance, collector, kind) (collector_state{state=~"unavailable|failed"}) == 1',
        "5m",
        "ticket",
        "collector-unavailable",
        "collector {{ $labels.collector }} ({{ $labels.kind }}) on {{ $labels.instance }} cannot read",
        "Its system is not reached, or refuses it. What happens there is not seen: a blind spot, until it is back.",
    ),
    Alert(
        "CollectorSpoolFilling",
        f"max by (instance, collector, kind) (collector_spool_bytes / collector_spool_limit_bytes) > {FULL}",
        "2m",
        "page",
        "collector-spool",
        "spool of collector {{ $labels.collector }} on {{ $labels.instance }}: {{ $value | humanizePercentage }} full",
        "The tracker does not take what it sees, or not fast enough. When it is full it stops reading, and the system "
        "may delete what was not read.",
    ),
    Alert(
        "CollectorArchiveAway",
        f"max by (instance, collector, kind) (increase(collector_archive_failures_total[{AWAY}])) > 0",
        "5m",
        "page",
        "collector-archive",
        "archive of collector {{ $labels.collector }} on {{ $labels.instance }} cannot be written",
        "Its store is away or full, or its key is not there. Either reading stops when memory is full, and the system "
        "may delete what was not read, or (`required: false`) messages pass that the archive will not have.",
    ),
    Alert(
        "CollectorConfigRefused",
        "max by (instance) (collectors_config_last_reload_successful) == 0",
        "1m",
        "ticket",
        "collector-config",
        "collectors on {{ $labels.instance }} refused their configuration",
        "The file is wrong, so all goes on as before: what was to be watched, or to be over, is not. After a stop they "
        "would not start any more.",
    ),
)
