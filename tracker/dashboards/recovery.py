"""How soon somebody acted, how findings ended, and what is lost for good."""

from __future__ import annotations

from tracker.dashboards.panel import BAD, GOOD, Panel, PromQL, Row, Sql

RECOVERY = Row(
    "Recovery",
    [
        Panel(
            "Lost for good (RPO)",
            "stat",
            [PromQL('sum(tracker_lost_for_good{flow=~"$flow"}) or vector(0)', "lost")],
            "Findings that were parked or abandoned, or are open while no hop holds a copy. Since ever. "
            "`tracker incidents loss ID` names them and asks the flow's sources for copies.",
            4,
            steps=[(None, GOOD), (1, BAD)],
        ),
        Panel(
            "Back within, and what was promised",
            "timeseries",
            [
                PromQL('tracker_recovery_back_seconds{flow=~"$flow"}', "{{flow}} {{percentile}}"),
                PromQL('tracker_recovery_target_seconds{flow=~"$flow"}', "{{flow}} {{percentile}} promised"),
            ],
            "Of all findings of the last day: what is open counts with its age; parked and abandoned as never, which "
            "is not drawn. Empty: no flow has a recovery objective, or nothing was missing.",
            10,
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
            10,
            unit="s",
            coloured=True,
        ),
        Panel(
            "How findings ended",
            "timeseries",
            [
                Sql(
                    """
SELECT
    $__timeInterval(opened_at) AS time,
    if(status = 'recovered', concat('recovered by ', by), status) AS ended,
    count() AS findings
FROM ${database}.findings FINAL
WHERE tenant = '' AND cause = '' AND flow IN (${flow:sqlstring}) AND $__timeFilter(opened_at)
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
