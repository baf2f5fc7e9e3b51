"""Anomalies: what is not as usual, though nobody promised anything."""

from __future__ import annotations

from tracker.dashboards import places, variables
from tracker.dashboards.asked import FLOW
from tracker.dashboards.board import Dashboard
from tracker.dashboards.panel import Panel, Row, Sql

_OURS = f"FROM ${{database}}.anomalies\nWHERE {FLOW} AND (anomalies.hop = '' OR anomalies.hop IN (${{hop:sqlstring}}))"
"""What is about the whole flow has no hop. Named with its table, for a query may call another value hop."""
_SHOWN = "since <= $__toTime AND (ended_at IS NULL OR ended_at >= $__fromTime)"
_LINKS = [places.to_flow(), places.to_hop(), places.to_anomaly()]
_WHERE = "flow, if(hop = '', 'the whole flow', hop) AS hop, signal, direction"

NOW = Row(
    "Not as usual at this moment",
    [
        Panel(
            "Open by signal",
            "table",
            [
                Sql(
                    f"""
SELECT signal, count() AS open, uniqExact(flow) AS flows, min(since) AS oldest
{_OURS} AND ended_at IS NULL
GROUP BY signal
ORDER BY open DESC"""
                )
            ],
            "Signals that are far from what they usually are at this hour. Empty: none is.",
            8,
            links=[places.to_anomaly()],
        ),
        Panel(
            "What is open",
            "table",
            [
                Sql(
                    f"""
SELECT {_WHERE}, since, expected, came, distance, baseline
{_OURS} AND ended_at IS NULL
ORDER BY distance DESC
LIMIT 200"""
                )
            ],
            "Furthest off first. expected and came: messages a minute, seconds, or a share of 1, where it was furthest "
            "off; distance: in usual distances.",
            16,
            links=_LINKS,
        ),
    ],
)

PAST = Row(
    "In the span shown",
    [
        Panel(
            "Begun",
            "timeseries",
            [
                Sql(
                    f"""
SELECT $__timeInterval(since) AS time, toString(signal) AS signal, count() AS begun
{_OURS} AND $__timeFilter(since)
GROUP BY time, signal
ORDER BY time""",
                    series=True,
                )
            ],
            "Anomalies by the moment since when the signal is off.",
            24,
            7,
            stacked=True,
        ),
        Panel(
            "All",
            "table",
            [
                Sql(
                    f"""
SELECT {_WHERE}, since, noticed_at, ended_at, ended_by, expected, came, distance, baseline
{_OURS} AND {_SHOWN}
ORDER BY since DESC
LIMIT 500"""
                )
            ],
            "Those that were not over before the span. ended_by usual: the signal came back, or what is usual moved "
            "there.",
            24,
            10,
            links=_LINKS,
        ),
    ],
)

ANOMALIES = Dashboard(
    places.ANOMALIES,
    "Tracker: anomalies",
    "What is not as usual, what was expected, what came, and since when?",
    [NOW, PAST],
    own=[variables.hops_off()],
    span="now-24h",
)
