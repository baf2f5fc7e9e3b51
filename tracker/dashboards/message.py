"""One message: what became of it, its way, what was found, and what went with it."""

from __future__ import annotations

from tracker.dashboards import places, variables
from tracker.dashboards.asked import FLOW
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import Panel, Row, Sql

_ONE = f"{FLOW} AND message_id = ${{message:sqlstring}}"
_ITS_EVENTS = f"FROM ${{database}}.events WHERE {_ONE}"

VERDICT = Row(
    "What became of it",
    [
        Panel(
            "Verdict",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, message_id, verdict, arrayStringConcat(flags, ', ') AS flags, origin_at, first_observed_at, first_received_at
FROM ${{database}}.messages
WHERE {_ONE}
ORDER BY flow
LIMIT 100"""
                )
            ],
            "As the last pass left it, whatever span is shown. Empty: no message of the flows chosen has this id. "
            "Click the id for the console's timeline, which also says why and what is missing.",
            24,
            5,
            links=[places.to_timeline(), places.to_flow()],
        ),
    ],
)

WAY = Row(
    "Its way",
    [
        Panel(
            "Timeline",
            "table",
            [
                Sql(
                    f"""
SELECT
    observed_at,
    (toUnixTimestamp64Micro(observed_at) - min(toUnixTimestamp64Micro(observed_at)) OVER (PARTITION BY flow)) / 1e6
        AS after,
    flow, hop, toString(stage) AS stage, reason, node, region, partition, offset, attempt, delivery, digest, size,
    replay_id, trace_id, received_at
{_ITS_EVENTS}
ORDER BY observed_at, received_at
LIMIT 1000"""
                )
            ],
            "Everything observed of it, by the hops' clocks; `after`: since it was first seen. An event that was sent "
            "twice may stand here twice.",
            24,
            10,
            links=[places.to_hop()],
            columns={"after": "s", "size": "bytes"},
        ),
    ],
)

FOUND = Row(
    "What was found, and who could see",
    [
        Panel(
            "Findings of this message",
            "table",
            [
                Sql(
                    f"""
SELECT
    opened_at, flow, kind, hop, stage, status, by, cause, resolved_at,
    arrayStringConcat(held_by, ', ') AS held_by, incident, why
FROM ${{database}}.findings
WHERE {_ONE}
ORDER BY opened_at
LIMIT 200"""
                )
            ],
            "All of them, those too that an earlier checkpoint explains (`cause`). Click a kind for its runbook, an "
            "incident for its page.",
            14,
            links=[places.to_runbook(), places.to_incident(), places.to_hop()],
        ),
        Panel(
            "Who vouched for its hops then",
            "table",
            [
                Sql(
                    f"""
SELECT flow, hop, stage, source, collector, start_at, end_at
FROM ${{database}}.coverage
WHERE {FLOW} AND end_at >= (SELECT min(observed_at) {_ITS_EVENTS})
ORDER BY hop, stage, source, start_at
LIMIT 500"""
                )
            ],
            "Runs of coverage that reach into its life. A gap between two of them: nobody knows.",
            10,
            links=[places.to_hop()],
        ),
    ],
)

WITH_IT = Row(
    "What went with it",
    [
        Panel(
            "Messages of the same correlation or trace",
            "table",
            [
                Sql(
                    f"""
SELECT
    flow, message_id, any(hop) AS hop, min(observed_at) AS first,
    any(correlation_id) AS correlation, any(trace_id) AS trace
FROM ${{database}}.events
WHERE $__timeFilter(received_at) AND (
    (correlation_id != '' AND correlation_id IN (SELECT correlation_id {_ITS_EVENTS}))
    OR (trace_id != '' AND trace_id IN (SELECT trace_id {_ITS_EVENTS})))
GROUP BY flow, message_id
ORDER BY first
LIMIT 200"""
                )
            ],
            "Of all flows, received in the span shown. Click one for its way.",
            24,
            links=[places.to_message(), places.to_timeline(), places.to_flow()],
        ),
    ],
)

MESSAGE = Dashboard(
    places.MESSAGE,
    "Tracker: message",
    "Where is this message, which way did it take, and who could have seen it?",
    [VERDICT, WAY, FOUND, WITH_IT],
    own=[variables.typed_in("message", "Message id", "")],
    refresh="",
)
