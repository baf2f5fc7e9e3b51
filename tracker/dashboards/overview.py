"""Overview: are all flows well, are promises kept, what is missing, and can we see it."""

from __future__ import annotations

from tracker.dashboards import places
from tracker.dashboards.asked import FINDINGS, FLOW, MESSAGES
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import BAD, GOOD, WARN, Panel, PromQL, Row, Sql
from tracker.model.verdict import WRONG

UID = places.OVERVIEW
_WRONG = ", ".join(f"'{verdict}'" for verdict in WRONG)

_OPEN = 'max by (flow, hop, kind) (tracker_findings{status="open", flow=~"$flow"})'

NOW = Row(
    "Now",
    [
        Panel(
            "Open findings",
            "stat",
            [PromQL(f"sum({_OPEN}) or vector(0)", "open")],
            "Messages that somebody has to act on; what an earlier checkpoint's finding explains is left out.",
            4,
            5,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Incidents",
            "stat",
            [PromQL('sum(max by (flow, status) (tracker_incidents{flow=~"$flow"})) or vector(0)', "not resolved")],
            "Findings of one flow, hop and kind that belong together in time. One page each.",
            4,
            5,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Blind spots, last hour",
            "stat",
            [
                PromQL(
                    'sum(max by (flow, hop, stage, cause) (tracker_blind_spots{flow=~"$flow"})) or vector(0)',
                    "blind spots",
                )
            ],
            "Spans of time in which nobody vouches for a checkpoint. What is not seen there is unknown, not lost.",
            4,
            5,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Conservation",
            "stat",
            [PromQL('sum(max by (flow) (abs(tracker_conservation_difference{flow=~"$flow"})))', "difference")],
            "Produced + orphans - sum over verdicts, of the last hour. Anything but 0 is a bug of the tracker.",
            4,
            5,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Oldest coverage",
            "stat",
            [
                PromQL(
                    'time() - min(max by (flow, hop, stage) (tracker_watermark_timestamp_seconds{flow=~"$flow"}))',
                    "age",
                )
            ],
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

PROMISES = Row(
    "Promises",
    [
        Panel(
            "Delivered in time / settled",
            "bargauge",
            [
                PromQL('max by (flow) (tracker_delivery_ratio{flow=~"$flow"})', "{{flow}}", now=True),
                PromQL('max by (flow) (tracker_delivery_target{flow=~"$flow"})', "{{flow}} promised", now=True),
            ],
            "Over the objective's own window, not over the span chosen. Empty: no flow has a delivery objective.",
            8,
            unit="percentunit",
            decimals=3,
        ),
        Panel(
            "Error budget left",
            "timeseries",
            [PromQL('max by (flow) (tracker_delivery_budget_left{flow=~"$flow"})', "{{flow}}")],
            "Of the objective's own window. Below 0 the promise is broken.",
            8,
            unit="percentunit",
        ),
        Panel(
            "Burn rate",
            "timeseries",
            [
                PromQL(
                    'max by (flow, window) (tracker_delivery_burn_rate{flow=~"$flow", window=~"1h|6h"})',
                    "{{flow}} {{window}}",
                )
            ],
            "How many times faster than allowed the budget went in the last hour and the last six. Above 1 it will not "
            "last.",
            8,
        ),
        Panel(
            "Other objectives",
            "bargauge",
            [
                PromQL(
                    'max by (flow, objective) (tracker_objective_met{flow=~"$flow"})',
                    "{{flow}} {{objective}}",
                    now=True,
                )
            ],
            "1 while it is kept, 0 while it is not. Empty: no flow has one, or no message to go by.",
            24,
            6,
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
{MESSAGES}
GROUP BY flow
ORDER BY wrong DESC, flow
LIMIT 1000"""
                )
            ],
            "Messages created in the span chosen, by what became of them. Click a flow for its hops.",
            12,
            9,
            links=[places.to_flow()],
        ),
        Panel(
            "Verdicts by creation time",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(origin_at) AS time, verdict, count() AS messages
{MESSAGES}
GROUP BY time, verdict
ORDER BY time""",
                    series=True,
                )
            ],
            "Every message stands where it was created, whatever became of it later. The sum is what was produced.",
            12,
            9,
            stacked=True,
            coloured=True,
        ),
    ],
)

MISSING = Row(
    "What is missing",
    [
        Panel(
            "Open findings by kind",
            "timeseries",
            [PromQL(f"sum by (kind) ({_OPEN})", "{{kind}}")],
            "How many messages need somebody. Goes back to 0 when they are recovered or withdrawn.",
            12,
            coloured=True,
        ),
        Panel(
            "Findings opened, by kind",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(opened_at) AS time, kind, count() AS findings
{FINDINGS} AND $__timeFilter(opened_at)
GROUP BY time, kind
ORDER BY time""",
                    series=True,
                )
            ],
            "When they were found, whatever their status is now.",
            12,
            stacked=True,
            coloured=True,
        ),
        Panel(
            "Incidents with open findings",
            "table",
            [
                Sql(
                    f"""
SELECT first_opened_at AS since, flow, hop, kind, messages, open, recovered, incident
FROM ${{database}}.incidents
WHERE open > 0 AND {FLOW}
ORDER BY since DESC
LIMIT 100"""
                )
            ],
            "Of any age. Click an incident for its page, a kind for its runbook, a hop for what happens there.",
            24,
            links=[places.to_incident(), places.to_runbook(), places.to_flow(), places.to_hop()],
        ),
    ],
)

OVERVIEW = Dashboard(
    UID,
    "Tracker: overview",
    "Is every flow well, is what was promised kept, and what is missing?",
    [NOW, PROMISES, FLOWS, MISSING],
)
