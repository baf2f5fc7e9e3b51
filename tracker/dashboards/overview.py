"""Overview: are all flows well, what is missing, how fast is it found and back, and what can we not see."""

from __future__ import annotations

from typing import Any

from tracker.dashboards import variables
from tracker.dashboards.coverage import COVERAGE
from tracker.dashboards.itself import TRACKER
from tracker.dashboards.missing import MISSING
from tracker.dashboards.panel import BAD, GOOD, SCHEMA_VERSION, WARN, Link, Panel, PromQL, Row, Sql, laid_out
from tracker.dashboards.recovery import RECOVERY
from tracker.model.verdict import WRONG

UID = "tracker-overview"
_STATES = """FROM ${database}.states FINAL
WHERE tenant = '' AND flow IN (${flow:sqlstring}) AND $__timeFilter(origin_at)"""
_WRONG = ", ".join(f"'{verdict}'" for verdict in WRONG)


NOW = Row(
    "Now",
    [
        Panel(
            "Open findings",
            "stat",
            [PromQL('sum(tracker_findings{status="open", flow=~"$flow"}) or vector(0)', "open")],
            "Messages that somebody has to act on; what an earlier checkpoint's finding explains is left out.",
            4,
            5,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Incidents",
            "stat",
            [PromQL('sum(tracker_incidents{flow=~"$flow"}) or vector(0)', "not resolved")],
            "Findings of one flow, hop and kind that belong together in time. One page each.",
            4,
            5,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Blind spots, last hour",
            "stat",
            [PromQL('sum(tracker_blind_spots{flow=~"$flow"}) or vector(0)', "blind spots")],
            "Spans of time in which nobody vouches for a checkpoint. What is not seen there is unknown, not lost.",
            4,
            5,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Conservation",
            "stat",
            [PromQL('sum(abs(tracker_conservation_difference{flow=~"$flow"}))', "difference")],
            "Produced + orphans - sum over verdicts, of the last hour. Anything but 0 is a bug of the tracker.",
            4,
            5,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Oldest coverage",
            "stat",
            [PromQL('max(time() - tracker_watermark_timestamp_seconds{flow=~"$flow"})', "age")],
            "How long ago the slowest collector last vouched for its checkpoint. Empty: none has announced itself.",
            4,
            5,
            unit="s",
            decimals=0,
            steps=[(None, GOOD), (30, WARN), (120, BAD)],
        ),
        Panel(
            "Store",
            "stat",
            [PromQL("min(tracker_store_up)", "up")],
            "1 when the store answered the last look.",
            4,
            5,
            steps=[(None, BAD), (1, GOOD)],
        ),
    ],
)

FLOWS = Row(
    "Flows",
    [
        Panel(
            "Messages by flow",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow,
    count() AS messages,
    countIf(verdict IN ({_WRONG})) AS wrong,
    countIf(verdict = 'late') AS late,
    countIf(verdict = 'blind') AS blind,
    countIf(verdict = 'in_flight') AS in_flight,
    countIf(verdict = 'explained') AS explained,
    countIf(verdict = 'delivered') AS delivered,
    max(origin_at) AS newest
{_STATES}
GROUP BY flow
ORDER BY wrong DESC, flow
LIMIT 1000"""
                )
            ],
            "Messages created in the span chosen, by what became of them.",
            14,
            9,
            links=[Link("flow", "only this flow", "/d/" + UID + "?var-flow=${__value.raw:percentencode}")],
        ),
        Panel(
            "Delivered in time / settled",
            "bargauge",
            [
                PromQL('tracker_delivery_ratio{flow=~"$flow"}', "{{flow}}", now=True),
                PromQL('tracker_delivery_target{flow=~"$flow"}', "{{flow}} promised", now=True),
            ],
            "Over the objective's own window, not over the span chosen. Empty: no flow has a delivery objective.",
            10,
            9,
            unit="percentunit",
            decimals=3,
        ),
        Panel(
            "Verdicts by creation time",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(origin_at) AS time, verdict, count() AS messages
{_STATES}
GROUP BY time, verdict
ORDER BY time""",
                    series=True,
                )
            ],
            "Every message stands where it was created, whatever became of it later. The sum is what was produced.",
            24,
            9,
            stacked=True,
            coloured=True,
        ),
    ],
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": UID,
        "title": "Tracker: overview",
        "description": "Made by `python -m tracker.dashboards.generate`; change that, not the JSON.",
        "tags": ["tracker"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables.all_of_them()},
        "annotations": {"list": []},
        "links": [
            {"title": "Console", "type": "link", "url": "${tracker}/", "targetBlank": True},
            {"title": "API", "type": "link", "url": "${tracker}/docs", "targetBlank": True},
        ],
        "panels": laid_out([NOW, FLOWS, MISSING, RECOVERY, COVERAGE, TRACKER]),
    }
