"""What can be seen: who vouches for what, until when, and where nobody does."""

from __future__ import annotations

from tracker.dashboards.panel import Panel, PromQL, Row, Sql

COVERAGE = Row(
    "What we can see",
    [
        Panel(
            "Age of coverage",
            "timeseries",
            [PromQL('time() - tracker_watermark_timestamp_seconds{flow=~"$flow"}', "{{flow}} {{hop}}:{{stage}}")],
            "How long ago each checkpoint was last vouched for. Grows while a collector is down.",
            12,
            unit="s",
        ),
        Panel(
            "Blind spots by cause",
            "timeseries",
            [
                PromQL(
                    'sum by (flow, hop, stage, cause) (tracker_blind_spots{flow=~"$flow"})',
                    "{{flow}} {{hop}}:{{stage}} {{cause}}",
                )
            ],
            "Of the last hour. hole: a collector missed a span; refused: lines are in quarantine; deaf: the tracker "
            "took nothing; silent, never_seen: nothing comes; behind: not yet.",
            12,
        ),
        Panel(
            "Sources",
            "table",
            [
                Sql(
                    """
SELECT
    flow, hop, stage, source, evidence, collector,
    max(end_at) AS vouched_until,
    if(argMax(signed_off, end_at), 'signed off', 'open') AS state
FROM ${database}.coverage FINAL
WHERE tenant = '' AND flow IN (${flow:sqlstring})
GROUP BY flow, hop, stage, source, evidence, collector
ORDER BY state, vouched_until
LIMIT 500"""
                )
            ],
            "Who vouches for what, the longest silent first.",
            14,
        ),
        Panel(
            "Collectors",
            "table",
            [
                Sql(
                    """
SELECT
    collector,
    max(received_at) AS last_report,
    argMax(lag_ms, received_at) / 1000 AS lag,
    argMax(backlog, received_at) AS backlog,
    sum(dropped) AS dropped
FROM ${database}.reports
WHERE tenant = '' AND $__timeFilter(received_at)
GROUP BY collector
ORDER BY last_report
LIMIT 500"""
                )
            ],
            "Those that reported in the span chosen. dropped: given up because the spool was full, a hole in coverage.",
            10,
            columns={"lag": "s"},
        ),
    ],
)
