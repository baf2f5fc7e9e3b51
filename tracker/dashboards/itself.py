"""The tracker itself: what comes in, what is refused, passes, the store, who asks."""

from __future__ import annotations

from tracker.dashboards import places
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import BAD, GOOD, Panel, PromQL, Row

WAY_IN = Row(
    "The way in",
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
                PromQL(
                    "sum by (status, reason) (rate(tracker_ingest_refused_total[$__rate_interval]))",
                    "refused: {{status}} {{reason}}",
                ),
            ],
            "Per second: lines that could not be used, requests refused as a whole. 503: collectors keep theirs.",
            8,
            unit="cps",
        ),
        Panel(
            "How long an insert takes",
            "timeseries",
            [
                PromQL(
                    "histogram_quantile(0.99, "
                    "sum by (le) (rate(tracker_ingest_commit_seconds_bucket[$__rate_interval])))",
                    "p99",
                )
            ],
            "Until it was durable; requests that wait share one.",
            8,
            unit="s",
        ),
        Panel(
            "Waiting",
            "timeseries",
            [
                PromQL("sum(tracker_ingest_pending_bytes)", "in memory"),
                PromQL("sum(tracker_spool_bytes)", "in the spool on disk"),
            ],
            "What was taken and is not in the store yet. A spool that grows: the store is down or slow.",
            12,
            unit="bytes",
        ),
        Panel(
            "Age of the spool",
            "timeseries",
            [PromQL("max(tracker_spool_oldest_seconds)", "oldest")],
            "How long the oldest of it waits; 0 when nothing does.",
            12,
            unit="s",
        ),
    ],
)

WORK = Row(
    "Work",
    [
        Panel(
            "Last pass",
            "timeseries",
            [
                PromQL("max(tracker_pass_seconds)", "took"),
                PromQL("time() - max(tracker_pass_finished_timestamp_seconds)", "ago"),
            ],
            "What the reconciler needed for its last pass, and when that was. Without anything new there is no pass.",
            6,
            unit="s",
        ),
        Panel(
            "Counted last",
            "timeseries",
            [
                PromQL("max(time() - tracker_counted_timestamp_seconds)", "messages and books"),
                PromQL("max(time() - tracker_slo_timestamp_seconds)", "burn rates"),
            ],
            "How old the numbers are that alerts compare. They are given about a tenth of the time.",
            6,
            unit="s",
        ),
        Panel(
            "Threads",
            "bargauge",
            [PromQL("min by (thread) (tracker_thread_up)", "{{thread}}", now=True)],
            "1 while a worker lives.",
            6,
            steps=[(None, BAD), (1, GOOD)],
        ),
        Panel(
            "Workers begun again",
            "timeseries",
            [PromQL("sum by (thread) (increase(tracker_worker_restarts_total[10m]))", "{{thread}}")],
            "How often within ten minutes, since they failed for a reason that nobody foresaw. Three are an alert.",
            6,
        ),
    ],
)

STORE = Row(
    "The store",
    [
        Panel(
            "Store size",
            "timeseries",
            [PromQL("max by (table) (tracker_store_bytes)", "{{table}}")],
            "Bytes on disk.",
            8,
            unit="bytes",
            stacked=True,
        ),
        Panel(
            "Rows",
            "timeseries",
            [PromQL("max by (table) (tracker_store_rows)", "{{table}}")],
            "Of each table.",
            8,
        ),
        Panel(
            "Parts",
            "timeseries",
            [PromQL("max by (table) (tracker_store_parts)", "{{table}}")],
            "Active parts per table. The engine slows inserts down at 1,000 in one partition.",
            8,
        ),
    ],
)

ASKED = Row(
    "Who asks",
    [
        Panel(
            "Requests",
            "timeseries",
            [PromQL("sum by (status) (rate(tracker_http_requests_total[$__rate_interval]))", "{{status}}")],
            "Per second, by status.",
            8,
            unit="reqps",
        ),
        Panel(
            "Slowest routes: p99",
            "timeseries",
            [
                PromQL(
                    "topk(10, histogram_quantile(0.99, "
                    "sum by (route, le) (rate(tracker_http_request_seconds_bucket[$__rate_interval]))) > 0)",
                    "{{route}}",
                )
            ],
            "Time to answer.",
            8,
            unit="s",
        ),
        Panel(
            "Questions by SQL",
            "timeseries",
            [PromQL("sum by (outcome) (rate(tracker_clickhouse_questions_total[$__rate_interval]))", "{{outcome}}")],
            "Per second; these dashboards ask them. busy: too many at once.",
            8,
            unit="reqps",
        ),
        Panel(
            "Versions",
            "table",
            [PromQL("tracker_build_info", now=True)],
            "Which version each process runs.",
            24,
            4,
        ),
    ],
)

ITSELF = Dashboard(
    places.ITSELF,
    "Tracker: itself",
    "Is the tracker well: does it take in, judge, store and answer?",
    [WAY_IN, WORK, STORE, ASKED],
)
