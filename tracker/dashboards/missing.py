"""What is missing, how fast it is found, how fast it is back."""

from __future__ import annotations

from tracker.dashboards.panel import Link, Panel, PromQL, Row, Sql

MESSAGE = "${tracker}/find?flow=${__data.fields.flow:percentencode}&id=${__data.fields.message_id:percentencode}"
RUNBOOK = "${tracker}/runbooks/${__data.fields.kind}"
_FINDINGS = """FROM ${database}.findings FINAL
WHERE tenant = '' AND cause = '' AND flow IN (${flow:sqlstring})"""


def _span(start: str, end: str) -> str:
    """Seconds between two DateTime64(6) columns."""
    return f"(toUnixTimestamp64Micro({end}) - toUnixTimestamp64Micro({start})) / 1e6"


def _quantiles(span: str) -> str:
    return ",\n    ".join(f"quantileExact({q / 100})({span}) AS p{q}" for q in (50, 90, 99))


MISSING = Row(
    "What is missing, and how fast it is found and back",
    [
        Panel(
            "Open findings by kind",
            "timeseries",
            [PromQL('sum by (kind) (tracker_findings{status="open", flow=~"$flow"})', "{{kind}}")],
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
{_FINDINGS} AND $__timeFilter(opened_at)
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
            "Time to detect",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(opened_at) AS time,
    {_quantiles(_span("known_at", "opened_at"))}
{_FINDINGS} AND status != 'withdrawn' AND $__timeFilter(opened_at)
GROUP BY time
ORDER BY time""",
                    series=True,
                )
            ],
            "From the moment it could be known (deadline, or receipt of what told it) until the finding was opened.",
            12,
            unit="s",
        ),
        Panel(
            "Time to recover",
            "timeseries",
            [
                Sql(
                    f"""
SELECT
    $__timeInterval(resolved_at) AS time,
    by,
    quantileExact(0.9)({_span("opened_at", "resolved_at")}) AS p90
{_FINDINGS} AND status = 'recovered' AND $__timeFilter(resolved_at)
GROUP BY time, by
ORDER BY time""",
                    series=True,
                )
            ],
            "From opening a finding until what was missing was observed, by a replay or by itself: p90.",
            12,
            unit="s",
        ),
        Panel(
            "Newest open findings",
            "table",
            [
                Sql(
                    f"""
SELECT opened_at, flow, kind, hop, stage, message_id, arrayStringConcat(held_by, ', ') AS held_by, incident, why
{_FINDINGS} AND status = 'open'
ORDER BY findings.opened_at DESC, finding_id DESC
LIMIT 100"""
                )
            ],
            "Click a message for its timeline, a kind for its runbook. Shows open findings of any age.",
            24,
            10,
            links=[Link("message_id", "timeline", MESSAGE), Link("kind", "runbook", RUNBOOK)],
        ),
    ],
)
