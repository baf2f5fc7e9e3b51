"""Incidents and recovery: how soon it was found, acted upon, and back; and what is lost for good."""

from __future__ import annotations

from tracker.dashboards import places
from tracker.dashboards.asked import FINDINGS, FLOW, quantiles, seconds
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import BAD, GOOD, WARN, Panel, PromQL, Row, Sql

OPEN = Row(
    "Open",
    [
        Panel(
            "Incidents not resolved",
            "stat",
            [PromQL('sum by (status) (max by (flow, status) (tracker_incidents{flow=~"$flow"}))', "{{status}}")],
            "open: nobody has said that he is at it. Empty: there is none.",
            6,
            5,
            steps=[(None, GOOD), (1, WARN)],
        ),
        Panel(
            "Lost for good (RPO)",
            "stat",
            [PromQL('sum(max by (flow, kind) (tracker_lost_for_good{flow=~"$flow"})) or vector(0)', "lost")],
            "Findings that were parked or abandoned, or are open while no hop holds a copy. Since ever. "
            "`tracker incidents loss ID` names them and asks the flow's sources for copies.",
            6,
            5,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Time to detect, last day (MTTD)",
            "stat",
            [PromQL('max by (percentile) (tracker_recovery_seconds{span="detect", flow=~"$flow"})', "{{percentile}}")],
            "From when it could be known until the finding was opened; of the slowest flow and kind.",
            6,
            5,
            unit="s",
        ),
        Panel(
            "Time to recover, last day (MTTR)",
            "stat",
            [
                PromQL(
                    'max by (span) (tracker_recovery_seconds{span=~"replay|itself", percentile="p90", flow=~"$flow"})',
                    "by {{span}}",
                )
            ],
            "From opening a finding until what was missing was observed: p90 of the slowest flow and kind. Empty: "
            "nothing came back.",
            6,
            5,
            unit="s",
        ),
        Panel(
            "Incidents in this span",
            "table",
            [
                Sql(
                    f"""
SELECT
    first_opened_at AS since, flow, hop, kind, messages, open, recovered,
    {seconds("first_known_at", "first_opened_at")} AS detected_after,
    if(open = 0, {seconds("first_opened_at", "last_resolved_at")}, NULL) AS over_after,
    incident
FROM ${{database}}.incidents
WHERE {FLOW} AND first_opened_at <= $__toTime AND (open > 0 OR last_resolved_at >= $__fromTime)
ORDER BY open > 0 DESC, since DESC
LIMIT 200"""
                )
            ],
            "Those that were open at some time in the span. Click an incident for its page, a kind for its runbook.",
            24,
            9,
            links=[places.to_incident(), places.to_runbook(), places.to_flow(), places.to_hop()],
            columns={"detected_after": "s", "over_after": "s"},
        ),
        Panel(
            "Newest open findings",
            "table",
            [
                Sql(
                    f"""
SELECT opened_at, flow, kind, hop, stage, message_id, arrayStringConcat(held_by, ', ') AS held_by, incident, why
{FINDINGS} AND status = 'open'
ORDER BY opened_at DESC, finding_id DESC
LIMIT 100"""
                )
            ],
            "Click a message for its way, a kind for its runbook. Shows open findings of any age.",
            24,
            10,
            links=[
                places.to_message(),
                places.to_timeline(),
                places.to_runbook(),
                places.to_incident(),
                places.to_hop(),
            ],
        ),
    ],
)

OVER_TIME = Row(
    "How soon, over time",
    [
        Panel(
            "Time to detect",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(opened_at) AS time,
    {quantiles(seconds("known_at", "opened_at"))}
{FINDINGS} AND status != 'withdrawn' AND $__timeFilter(opened_at)
GROUP BY time
ORDER BY time""",
                    series=True,
                )
            ],
            "From the moment it could be known (deadline, or receipt of what told it) until the finding was opened.",
            8,
            unit="s",
        ),
        Panel(
            "Time to act, last day",
            "timeseries",
            [
                PromQL(
                    'max by (kind) (tracker_recovery_seconds{span="act", percentile="p90", flow=~"$flow"})', "{{kind}}"
                )
            ],
            "From an incident's opening to its acknowledgement, or the approval of the first replay for it: p90.",
            8,
            unit="s",
            coloured=True,
        ),
        Panel(
            "Time to recover",
            "timeseries",
            [
                Sql(
                    f"""
WITH assumeNotNull(resolved_at) AS at
SELECT $__timeInterval(at) AS time, by, quantileExact(0.9)({seconds("opened_at", "at")}) AS p90
{FINDINGS} AND status = 'recovered' AND $__timeFilter(resolved_at)
GROUP BY time, by
ORDER BY time""",
                    series=True,
                )
            ],
            "From opening a finding until what was missing was observed, by a replay or by itself: p90.",
            8,
            unit="s",
        ),
        Panel(
            "Back within, and what was promised",
            "timeseries",
            [
                PromQL(
                    'max by (flow, percentile) (tracker_recovery_back_seconds{flow=~"$flow"})',
                    "{{flow}} {{percentile}}",
                ),
                PromQL(
                    'max by (flow, percentile) (tracker_recovery_target_seconds{flow=~"$flow"})',
                    "{{flow}} {{percentile}} promised",
                ),
            ],
            "Of all findings of the last day: what is open counts with its age; parked and abandoned as never, which "
            "is not drawn. Empty: no flow has a recovery objective, or nothing was missing.",
            12,
            unit="s",
        ),
        Panel(
            "Lost for good, by when it was found",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(opened_at) AS time,
    if(status = 'open', 'open, no copy is left', status) AS ended,
    count() AS findings
{FINDINGS} AND (status IN ('parked', 'abandoned') OR (status = 'open' AND kind = 'lost')) AND $__timeFilter(opened_at)
GROUP BY time, ended
ORDER BY time""",
                    series=True,
                )
            ],
            "What the RPO is made of. An open one leaves this graph when it comes back.",
            12,
            stacked=True,
        ),
        Panel(
            "How findings ended",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(opened_at) AS time,
    if(status = 'recovered', concat('recovered by ', by), status) AS ended,
    count() AS findings
{FINDINGS} AND $__timeFilter(opened_at)
GROUP BY time, ended
ORDER BY time""",
                    series=True,
                )
            ],
            "By when they were opened, as they stand now. The sum is what was found.",
            24,
            stacked=True,
        ),
    ],
)

REPLAYS = Row(
    "Replays",
    [
        Panel(
            "Replays that have not ended",
            "timeseries",
            [
                PromQL("max by (status) (tracker_replays)", "replays {{status}}"),
                PromQL("max by (state) (tracker_replay_messages)", "messages {{state}}"),
            ],
            "in_doubt: sent or not is still open, the ledger will tell.",
            8,
        ),
        Panel(
            "Sent again, as observed",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(observed_at) AS time,
    concat(hop, ':', toString(stage)) AS place,
    uniqExact(message_id) AS messages
FROM ${{database}}.events
WHERE {FLOW} AND replay_id != '' AND $__timeFilter(received_at)
GROUP BY time, place
ORDER BY time""",
                    series=True,
                )
            ],
            "Messages that a replay sent, where they were seen. That is what recovery is counted by, not the sending.",
            8,
        ),
        Panel(
            "On their way to targets",
            "timeseries",
            [PromQL("sum by (target) (tracker_replay_in_flight)", "{{target}}")],
            "Sent, or in doubt, and not settled. It stays while the target takes none of them.",
            4,
        ),
        Panel(
            "Circuits",
            "bargauge",
            [PromQL("max by (target, state) (tracker_replay_circuit) > 0", "{{target}} {{state}}", now=True)],
            "The state of the circuit to each target: only closed lets replays through.",
            4,
        ),
    ],
)

RECOVERY = Dashboard(
    places.RECOVERY,
    "Tracker: incidents and recovery",
    "What is open, how soon is it found and back, and what is lost for good?",
    [OPEN, OVER_TIME, REPLAYS],
    span="now-24h",
)
