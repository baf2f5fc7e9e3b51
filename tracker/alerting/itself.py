"""Alerts about what the tracker can see, and about the tracker itself: an auditor that is blind or dead must say so."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.alerting.alert import Alert
from tracker.alerting.trackers import BLIND, STORE_UP, seen

STALE_S = 60
"""Coverage that is older is stalled. The gauge leaves out what has ended, unless nobody is left there: however long ago
the last one vanished, that is told until somebody comes back, signs off, or the flow no longer names the hop."""
MEMORY_FULL = 0.7
"""The share of `TRACKER_COMMIT_MEMORY_MB`; from 75 % on, batches go to the spool."""
SPOOL_FULL = 0.5
"""The share of `TRACKER_SPOOL_MB`; when it is full, batches are answered with 503."""
RESTARTS = 3
"""A worker that failed so often within ten minutes gets nothing done, or not all of it. Once is a moment's trouble."""
OURS, SENDERS = "slots|memory|spool|store|control|spans", "request|rate|share"
"""Reasons for which requests are refused as a whole. What passes by itself (starting, closing) is in neither."""
REFUSED = 5
"""In five minutes, and for as long again: collectors try at least twice a minute, and one bad request is nobody's
trouble."""
MANY_PARTS = 700
"""The engine slows inserts down at 1,000 parts in one partition."""

WATERMARK = "tracker_watermark_timestamp_seconds"
FRESHEST = f"max by (flow, hop, stage) ({WATERMARK} unless on (instance) {BLIND})"
"""Of a tracker that cannot read its store the watermarks stand still, and say nothing about the hop."""
STALLED = f"(time() - {FRESHEST}) > {STALE_S}"
BLIND_SPOTS = 'tracker_blind_spots{cause=~"deaf|hole|refused|silent|never_seen"}'

COVERAGE: Sequence[Alert] = (
    Alert(
        "CoverageStalled",
        STALLED,
        "1m",
        "page",
        "coverage-stalled",
        "{{ $labels.flow }}: {{ $labels.hop }}:{{ $labels.stage }} not vouched for: {{ $value | humanizeDuration }}",
        "A collector stopped reporting. Messages are not lost by that, but a loss there would go unnoticed.",
        of_flow=True,
        of_hop=True,
    ),
    Alert(
        "BlindSpot",
        f"{seen(BLIND_SPOTS, 'flow, hop, stage, cause')} > 0",
        "5m",
        "ticket",
        "blind-spot",
        "{{ $labels.flow }}: blind at {{ $labels.hop }}:{{ $labels.stage }} ({{ $labels.cause }})",
        "In the last hour there was a span that nobody vouches for. Messages not seen in it are unknown, not lost.",
        of_flow=True,
        of_hop=True,
    ),
)

ITSELF: Sequence[Alert] = (
    Alert(
        "TrackerDown",
        'max by (job) (up{job="tracker"}) == 0 or absent(up{job="tracker"})',
        "1m",
        "page",
        "tracker-down",
        "no tracker answers Prometheus",
        "Nothing is judged. Collectors keep what they see until it is back. Read docs/runbooks/tracker-down.md.",
    ),
    Alert(
        "TrackerInstanceDown",
        'up{job="tracker"} == 0 and on (job) max by (job) (up{job="tracker"}) == 1',
        "5m",
        "ticket",
        "tracker-down",
        "the tracker on {{ $labels.instance }} does not answer Prometheus; another one does",
        "Another tracker of this installation goes on judging. What this one has in its spool waits for it.",
    ),
    Alert(
        "StoreDown",
        "tracker_store_up == 0",
        "1m",
        "page",
        "store-down",
        "the tracker's store does not answer",
        "Events wait in the tracker's spool, then in the collectors'; nothing is judged.",
    ),
    Alert(
        "MetricsOld",
        "time() - tracker_read_timestamp_seconds > 120",
        "1m",
        "page",
        "metrics-old",
        "findings and coverage as Prometheus sees them are {{ $value | humanizeDuration }} old",
        "The store answers, but not these questions: alerts about findings and coverage stand still, nobody is told.",
    ),
    Alert(
        "BooksOld",
        "time() - tracker_counted_timestamp_seconds > 1800",
        "15m",
        "ticket",
        "metrics-old",
        "messages and books as Prometheus sees them are {{ $value | humanizeDuration }} old",
        "Counting fails or takes very long. Blind spots, conservation and objectives other than delivery stand still.",
    ),
    Alert(
        "WorkerDown",
        f"max by (instance, thread) (increase(tracker_worker_restarts_total[10m])) >= {RESTARTS}"
        " or max by (instance, thread) (tracker_thread_up) == 0",
        "1m",
        "page",
        "worker-down",
        "worker {{ $labels.thread }} of the tracker on {{ $labels.instance }} fails again and again, or has ended",
        "reconcile: nothing is judged. commit: no event is stored. replay: nothing is sent again. "
        "policy: flows in mode auto wait for people.",
    ),
    Alert(
        "ReconcilerStalled",
        f"(time() - max(tracker_pass_finished_timestamp_seconds)) > 120 and on () {STORE_UP} == 1 and on () "
        "(sum(increase(tracker_ingest_events_total[5m])) > 0 or sum(increase(tracker_ingest_reports_total[5m])) > 0)",
        "1m",
        "page",
        "reconciler-stalled",
        "no pass has finished for {{ $value | humanizeDuration }} though events come in",
        "Events are stored, but no verdict is given: losses are found late.",
    ),
    Alert(
        "ConservationBroken",
        seen("tracker_conservation_difference", "flow") + " != 0",
        "2m",
        "page",
        "conservation",
        "{{ $labels.flow }}: the books differ by {{ $value }} messages",
        "Produced + orphans and the sum over verdicts disagree. This is a bug of the tracker: do not trust its counts.",
        of_flow=True,
        ours=True,
    ),
    Alert(
        "IngestRefused",
        f'sum by (instance, reason) (increase(tracker_ingest_refused_total{{reason=~"{OURS}"}}[5m])) > {REFUSED}',
        "5m",
        "page",
        "ingest-refused",
        "{{ $value | humanize }} batches turned away in 5 minutes by the tracker on {{ $labels.instance }}: "
        "{{ $labels.reason }}",
        "The tracker has no place for them. Collectors keep what was refused; when their spools are full they drop, "
        "count it, and leave a blind spot.",
    ),
    Alert(
        "SendersRefused",
        f'sum by (instance, status, reason) (increase(tracker_ingest_refused_total{{reason=~"{SENDERS}"}}[5m]))'
        f" > {REFUSED}",
        "10m",
        "ticket",
        "ingest-refused",
        "{{ $value | humanize }} batches of senders refused in 5 minutes on {{ $labels.instance }}: "
        "{{ $labels.status }}, {{ $labels.reason }}",
        "A sender sends again and again what cannot be taken, or more than its token may. What it saw is not in the "
        "ledger.",
    ),
    Alert(
        "IngestMemoryFilling",
        f"tracker_ingest_pending_bytes / tracker_ingest_pending_limit_bytes > {MEMORY_FULL}",
        "2m",
        "ticket",
        "ingest-refused",
        "{{ $value | humanizePercentage }} of the memory for batches that wait to be stored is taken",
        "Batches come in faster than they are stored. Near the bound they go to the spool, and nothing is judged.",
    ),
    Alert(
        "SpoolFilling",
        f"tracker_spool_bytes / tracker_spool_limit_bytes > {SPOOL_FULL}",
        "2m",
        "page",
        "spool",
        "the tracker's spool on {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
        "The store is down or too slow. Nothing is judged until it has all of it; a full spool refuses with 503.",
    ),
    Alert(
        "SpoolSetAside",
        "tracker_spool_set_aside > 0",
        "1m",
        "ticket",
        "spool",
        "{{ $value }} batches of the spool were set aside",
        "Events that were answered are not in the ledger: their bytes on disk changed, or the store refuses them.",
    ),
    Alert(
        "QuarantineGrowing",
        "sum by (instance) (increase(tracker_ingest_quarantined_total[15m])) > 0",
        "0s",
        "ticket",
        "quarantine",
        "lines went to quarantine",
        "Somebody sends events that cannot be used. They are kept with line and reason, and are not counted.",
    ),
    Alert(
        "StorePartsMany",
        seen("tracker_store_parts", "table") + f" > {MANY_PARTS}",
        "10m",
        "ticket",
        "store-parts",
        "{{ $value }} active parts in table {{ $labels.table }}",
        "Parts are made faster than they are merged. The engine slows inserts down at 1,000 in one partition.",
    ),
    Alert(
        "ReplayWaiting",
        seen('tracker_replays{status=~"awaiting_approval|paused"}', "status") + " > 0",
        "15m",
        "ticket",
        "replay-waiting",
        "{{ $value }} replays are {{ $labels.status }}",
        "Messages that could be back wait for a person.",
    ),
    Alert(
        "ReplayInDoubt",
        seen('tracker_replay_messages{state="in_doubt"}', "state") + " > 0",
        "15m",
        "ticket",
        "replay-waiting",
        "{{ $value }} messages of replays: sent or not is not known",
        "The ledger settles a doubt once the target is covered past the claim. It is not: see what we are blind for.",
    ),
)
