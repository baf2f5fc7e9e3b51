"""Coverage: who vouches for what, until when, where nobody does, and how the collectors are."""

from __future__ import annotations

from tracker.dashboards import places
from tracker.dashboards.asked import FLOW, seconds
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import BAD, GOOD, WARN, Panel, PromQL, Row, Sql

BLIND = Row(
    "What we can see",
    [
        Panel(
            "Blind spots, last hour",
            "stat",
            [
                PromQL(
                    'sum by (cause) (max by (flow, hop, stage, cause) (tracker_blind_spots{flow=~"$flow"}))',
                    "{{cause}}",
                )
            ],
            "hole: a collector missed a span; refused: lines are in quarantine; deaf: the tracker took nothing; "
            "silent, never_seen: nothing comes; behind: not yet. Empty: all is seen.",
            6,
            8,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Blind spots by cause",
            "timeseries",
            [
                PromQL(
                    'max by (flow, hop, stage, cause) (tracker_blind_spots{flow=~"$flow"})',
                    "{{flow}} {{hop}}:{{stage}} {{cause}}",
                )
            ],
            "Of the last hour. Messages whose deadline falls into one are blind, not lost.",
            9,
        ),
        Panel(
            "Age of coverage",
            "timeseries",
            [
                PromQL(
                    'time() - max by (flow, hop, stage) (tracker_watermark_timestamp_seconds{flow=~"$flow"})',
                    "{{flow}} {{hop}}:{{stage}}",
                )
            ],
            "How long ago each checkpoint was last vouched for. Grows while a collector is down.",
            9,
            unit="s",
        ),
        Panel(
            "Sources",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, hop, stage, source, evidence, collector,
    max(end_at) AS vouched_until,
    count() AS runs,
    if(argMax(signed_off, end_at), 'signed off', 'open') AS state
FROM ${{database}}.coverage
WHERE {FLOW}
GROUP BY flow, hop, stage, source, evidence, collector
ORDER BY state, vouched_until
LIMIT 500"""
                )
            ],
            "Who vouches for what, the longest silent first. Between two runs of a source: a hole or a restart.",
            14,
            9,
            links=[places.to_flow(), places.to_hop()],
        ),
        Panel(
            "Holes",
            "table",
            [
                Sql(
                    f"""
SELECT flow, hop, stage, source, began, ended, {seconds("began", "ended")} AS lasted
FROM (
    SELECT flow, hop, stage, source, start_at AS ended,
        max(end_at) OVER (
            PARTITION BY flow, hop, stage, source ORDER BY start_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS began
    FROM ${{database}}.coverage
    WHERE {FLOW}
)
WHERE toUnixTimestamp64Micro(began) > 0 AND began < ended AND $__timeFilter(ended)
ORDER BY ended DESC
LIMIT 200"""
                )
            ],
            "Spans between runs of a source for which nobody vouched, that ended in the span shown.",
            10,
            9,
            links=[places.to_hop()],
            columns={"lasted": "s"},
        ),
    ],
)

REPORTS = Row(
    "Collectors, as the tracker hears them",
    [
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
    sum(events) AS events,
    sum(dropped) AS dropped
FROM ${database}.reports
WHERE $__timeFilter(received_at)
GROUP BY collector
ORDER BY last_report
LIMIT 500"""
                )
            ],
            "Those that reported in the span chosen. dropped: given up because the spool was full, a hole in coverage.",
            10,
            columns={"lag": "s"},
        ),
        Panel(
            "Lag",
            "timeseries",
            [
                Sql(
                    """
SELECT $__timeInterval(received_at) AS time, collector, max(lag_ms) / 1000 AS lag
FROM ${database}.reports
WHERE $__timeFilter(received_at)
GROUP BY time, collector
ORDER BY time""",
                    series=True,
                )
            ],
            "How far behind its system each collector said it was. What happened since is not vouched for yet.",
            7,
            unit="s",
        ),
        Panel(
            "Clocks",
            "timeseries",
            [PromQL("max by (collector) (tracker_node_clock_offset_seconds)", "{{collector}}")],
            "How far the clock of a collector's node is behind the tracker's. Times are corrected by it. Empty: none "
            "was measured.",
            7,
            unit="s",
        ),
    ],
)

THEMSELVES = Row(
    "Collectors, as they tell themselves (where Prometheus scrapes them)",
    [
        Panel(
            "States",
            "table",
            [PromQL("max by (collector, kind, state) (collector_state) > 0", now=True)],
            "running is well; starting, waiting and unavailable should pass; failed does not.",
            8,
        ),
        Panel(
            "Lag and unread records",
            "timeseries",
            [
                PromQL("max by (collector) (collector_lag_seconds)", "{{collector}} seconds"),
                PromQL("max by (collector) (collector_backlog_records)", "{{collector}} records"),
            ],
            "It grows while nothing is read.",
            8,
        ),
        Panel(
            "Spools",
            "bargauge",
            [
                PromQL(
                    "max by (collector) (collector_spool_bytes / collector_spool_limit_bytes)",
                    "{{collector}}",
                    now=True,
                )
            ],
            "How full they are. A full one stops reading, so that nothing is given up.",
            8,
            unit="percentunit",
            steps=[(None, GOOD), (0.5, WARN), (0.9, BAD)],
        ),
        Panel(
            "Not taken",
            "timeseries",
            [
                PromQL(
                    "sum by (collector) (rate(collector_undecodable_records_total[$__rate_interval]))",
                    "{{collector}} undecodable",
                ),
                PromQL(
                    "sum by (collector) (rate(collector_dropped_events_total[$__rate_interval]))",
                    "{{collector}} dropped",
                ),
                PromQL(
                    "sum by (collector) (rate(collector_unavailable_total[$__rate_interval]))",
                    "{{collector}} unavailable",
                ),
            ],
            "Per second: records that could not be read, events given up, times that the system could not be reached.",
            24,
            unit="cps",
        ),
    ],
)

COVERAGE = Dashboard(
    places.COVERAGE,
    "Tracker: coverage",
    "Can we see everything, and if not: where, since when, and whose collector is it?",
    [BLIND, REPORTS, THEMSELVES],
)
