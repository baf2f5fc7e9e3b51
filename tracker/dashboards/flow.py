"""One flow, hop by hop: how many, what is missing, how long, which copies, what came twice."""

from __future__ import annotations

from tracker.dashboards import places, variables
from tracker.dashboards.asked import FINDINGS, FLOW, HOP, MESSAGES
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import Panel, PromQL, Row, Sql

_EVENTS = f"""FROM ${{database}}.events
WHERE {FLOW} AND {HOP} AND $__timeFilter(received_at)"""

COUNTS = Row(
    "Counts",
    [
        Panel(
            "Hops",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, hop, toString(stage) AS stage,
    uniqExact(message_id) AS messages,
    uniqExactIf(message_id, replay_id != '') AS sent_again,
    uniqExact(node) AS nodes,
    min(observed_at) AS first,
    max(observed_at) AS last
{_EVENTS}
GROUP BY flow, hop, stage
ORDER BY flow, first
LIMIT 1000"""
                )
            ],
            "What was received in the span, in the order of first observations. Messages count once per checkpoint.",
            14,
            9,
            links=[places.to_flow(), places.to_hop()],
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
            "Of the whole flow, at whichever hop. Every message stands where it was created.",
            10,
            9,
            stacked=True,
            coloured=True,
        ),
        Panel(
            "Messages by hop",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(observed_at) AS time,
    concat(hop, ':', toString(stage)) AS place,
    uniqExact(message_id) AS messages
{_EVENTS}
GROUP BY time, place
ORDER BY time""",
                    series=True,
                )
            ],
            "By the hop's own clock. Where two lines part, messages stay behind or their events do.",
            24,
        ),
    ],
)

LOSSES = Row(
    "Losses",
    [
        Panel(
            "Findings opened, by hop",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(opened_at) AS time, concat(hop, ' ', kind) AS place, count() AS findings
{FINDINGS} AND {HOP} AND $__timeFilter(opened_at)
GROUP BY time, place
ORDER BY time""",
                    series=True,
                )
            ],
            "Where what is missing was expected.",
            10,
            9,
            stacked=True,
        ),
        Panel(
            "Findings by hop",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, hop, stage, kind,
    countIf(status = 'open') AS open,
    countIf(status = 'recovered') AS recovered,
    countIf(status IN ('parked', 'abandoned')) AS given_up,
    countIf(status = 'withdrawn') AS withdrawn,
    minIf(opened_at, status = 'open') AS oldest_open
{FINDINGS} AND {HOP} AND (status = 'open' OR $__timeFilter(opened_at))
GROUP BY flow, hop, stage, kind
ORDER BY open DESC, flow, hop
LIMIT 500"""
                )
            ],
            "Opened in the span, or still open. Click a kind for its runbook.",
            14,
            9,
            links=[places.to_runbook(), places.to_hop()],
        ),
        Panel(
            "Dropped and dead-lettered",
            "table",
            [
                Sql(
                    f"""
SELECT flow, hop, toString(stage) AS stage, reason, uniqExact(message_id) AS messages, max(observed_at) AS last
{_EVENTS} AND stage IN ('drop', 'dead_letter', 'nack')
GROUP BY flow, hop, stage, reason
ORDER BY messages DESC
LIMIT 200"""
                )
            ],
            "What hops said of messages that they did not pass on, and why. A nack alone is no loss.",
            24,
            7,
            links=[places.to_hop()],
        ),
    ],
)

LATENCY = Row(
    "How long it takes",
    [
        Panel(
            "From origin to end",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(at) AS time, max(p50) AS p50, max(p95) AS p95, max(p99) AS p99
FROM ${{database}}.latencies
WHERE {FLOW} AND hop = '' AND $__timeFilter(at)
GROUP BY time
ORDER BY time""",
                    series=True,
                )
            ],
            "Of messages that became complete then: the worst minute's quantiles, of the slowest flow chosen.",
            12,
            unit="s",
        ),
        Panel(
            "To each hop from the one before it: p99",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(at) AS time, concat(hop, ':', stage) AS place, max(p99) AS p99
FROM ${{database}}.latencies
WHERE {FLOW} AND hop != '' AND hasAny(splitByChar('|', hop), [${{hop:sqlstring}}]) AND $__timeFilter(at)
GROUP BY time, place
ORDER BY time""",
                    series=True,
                )
            ],
            "Where the time goes: the worst minute's p99. By corrected clocks; never below 0.",
            12,
            unit="s",
        ),
    ],
)

COPIES = Row(
    "Replication",
    [
        Panel(
            "Replication lag: p99",
            "timeseries",
            [
                PromQL(
                    'max by (flow, hop) (tracker_replication_lag_seconds{flow=~"$flow", hop=~"$hop"})',
                    "{{flow}} {{hop}}",
                )
            ],
            "How long copies took to this hop in the last hour. Empty: the flow has no copies.",
            8,
            unit="s",
        ),
        Panel(
            "Copies missing or different",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(opened_at) AS time, concat(hop, ' ', kind) AS place, count() AS findings
{FINDINGS} AND {HOP} AND kind IN ('under_replicated', 'divergent') AND $__timeFilter(opened_at)
GROUP BY time, place
ORDER BY time""",
                    series=True,
                )
            ],
            "Findings about copies, by when they were opened. Divergent: the payloads differ.",
            8,
            stacked=True,
        ),
        Panel(
            "Copies",
            "table",
            [
                Sql(
                    f"""
SELECT flow, hop, toString(stage) AS stage, node, region, uniqExact(message_id) AS messages, max(observed_at) AS last
{_EVENTS} AND stage IN ('persist', 'replicate')
GROUP BY flow, hop, stage, node, region
ORDER BY flow, hop, stage, node
LIMIT 500"""
                )
            ],
            "How many messages each node said that it holds.",
            8,
            links=[places.to_hop()],
        ),
    ],
)

TWICE = Row(
    "Duplicates",
    [
        Panel(
            "What else is to be said of messages",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(origin_at) AS time, arrayJoin(flags) AS flag, count() AS messages
{MESSAGES}
GROUP BY time, flag
ORDER BY time""",
                    series=True,
                )
            ],
            "Flags, by creation time. duplicated: more deliveries than the flow allows; a replay's are not among them.",
            12,
            9,
        ),
        Panel(
            "Delivered most often",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, message_id, hop, toString(stage) AS stage,
    uniqExactIf(delivery, replay_id = '') AS deliveries,
    max(observed_at) AS last
{_EVENTS} AND delivery != '' AND stage IN ('persist', 'deliver', 'ack')
GROUP BY flow, message_id, hop, stage
HAVING deliveries > 1
ORDER BY deliveries DESC, message_id
LIMIT 100"""
                )
            ],
            "Different hand-overs of one message at one checkpoint; an event that was sent twice is one.",
            12,
            9,
            links=[places.to_message(), places.to_timeline(), places.to_hop()],
        ),
    ],
)

FLOW_BOARD = Dashboard(
    places.FLOW,
    "Tracker: flow",
    "At which hop do messages stay, how long do they take, and which came twice?",
    [COUNTS, LOSSES, LATENCY, COPIES, TWICE],
    own=[variables.hops()],
)
