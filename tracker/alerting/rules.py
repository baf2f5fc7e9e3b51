"""All alerts as a rule file for Prometheus
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from tracker.alerting.alert import Alert, Places, rule
from tracker.alerting.anomalies import ANOMALIES
from tracker.alerting.collecting import COLLECTING
from tracker.alerting.findings import FINDINGS
from tracker.alerting.itself import COVERAGE, ITSELF
from tracker.alerting.objectives import OBJECTIVES
from tracker.alerting.outages import OUTAGES
from tracker.alerting.watchdog import WATCHDOG

NAME = "tracker.yaml"
GROUPS: Mapping[str, Sequence[Alert]] = {
    "outages": OUTAGES,
    "findings": FINDINGS,
    "objectives": OBJECTIVES,
    "anomalies": ANOMALIES,
    "coverage": COVERAGE,
    "collecting": COLLECTING,
    "itself": ITSELF,
    "watchdog": WATCHDOG,
}
INTERVAL = "15s"


def alerts() -> list[Alert]:
    """Every alert."""
    return [alert for group in GROUPS.values() for alert in group]


def rendered(places: Places, head: str = "") -> str:
    """The rule file. `head`: a first line that says where it comes from."""
    groups = [
        {"name": f"tracker-{name}", "interval": INTERVAL, "rules": [rule(alert, places) for alert in group]}
        for name, group in GROUPS.items()
    ]
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=118, allow_unicode=True)
