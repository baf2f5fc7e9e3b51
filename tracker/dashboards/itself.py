"""The tracker itself: what comes in, what is refused, passes, the size of the store, replays."""

from __future__ import annotations

from tracker.dashboards.panel import Panel, PromQL, Row

TRACKER = Row(
    "The tracker itself",
    [
        Panel(
            "Events stored",
            "timeseries",
            [PromQL('sum by (flow) (rate(tracker_ingest_events_total{flow=~"$flow"}[$__rate_interval]))', "{{flow}}")],
            "Per second, events and ranges.",
            8,
            unit="cps",
        ),
        Panel(
            "Not stored",
            "timeseries",
            [
                PromQL("sum(rate(tracker_ingest_quarantined_total[$__rate_interval]))", "quarantined lines"),
                PromQL("sum by (status) (rate(tracker_ingest_refused_total[$__rate_interval]))", "refused: {{status}}"),
            ],
            "Per second: lines that could not be used, requests refused as a whole. 503: collectors keep theirs.",
            8,
            unit="cps",
        ),
        Panel(
            "Last pass",
            "timeseries",
            [
                PromQL("max(tracker_pass_seconds)", "took"),
                PromQL("max(time() - tracker_pass_finished_timestamp_seconds)", "ago"),
            ],
            "What the reconciler needed for its last pass, and when that was. Without anything new there is no pass.",
            8,
            unit="s",
        ),
        Panel(
            "Store size",
            "timeseries",
            [PromQL("sum by (table) (tracker_store_bytes)", "{{table}}")],
            "Bytes on disk.",
            8,
            unit="bytes",
            stacked=True,
        ),
        Panel(
            "Parts",
            "timeseries",
            [PromQL("max by (table) (tracker_store_parts)", "{{table}}")],
            "Active parts per table. The engine slows inserts down at 1,000 in one partition.",
            8,
        ),
        Panel(
            "Replays that have not ended",
            "timeseries",
            [
                PromQL("sum by (status) (tracker_replays)", "replays {{status}}"),
                PromQL("sum by (state) (tracker_replay_messages)", "messages {{state}}"),
            ],
            "in_doubt: sent or not is still open, the ledger will tell.",
            8,
        ),
    ],
)
