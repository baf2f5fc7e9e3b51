"""Writes `alerts/tracker.yaml`: `python -m tracker.alerting.generate`.

With `--print` the rules go to stdout instead, for other addresses and with owners taken from flow specs:

    python -m tracker.alerting.generate --print --tracker https://tracker.example orders.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tracker.alerting.alert import Alert, Places, rule
from tracker.alerting.collecting import COLLECTING
from tracker.alerting.findings import FINDINGS
from tracker.alerting.itself import COVERAGE, ITSELF
from tracker.alerting.objectives import OBJECTIVES
from tracker.assets import folder
from tracker.model.spec import load_spec

FILE = folder("alerts") / "tracker.yaml"
GROUPS: Mapping[str, Sequence[Alert]] = {
    "findings": FINDINGS,
    "objectives": OBJECTIVES,
    "coverage": COVERAGE,
    "collecting": COLLECTING,
    "itself": ITSELF,
}
INTERVAL = "15s"
HEAD = "# Made by `python -m tracker.alerting.generate`: change tracker/alerting/*.py, not this file.\n"


def alerts() -> list[Alert]:
    """Every alert."""
    return [alert for group in GROUPS.values() for alert in group]


def rendered(places: Places, owners: Mapping[str, str]) -> str:
    """The rule file. `owners` by flow."""
    groups = [
        {"name": f"tracker-{name}", "interval": INTERVAL, "rules": [rule(alert, places, owners) for alert in group]}
        for name, group in GROUPS.items()
    ]
    return HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=118, allow_unicode=True)


def main(arguments: list[str]) -> int:
    """Exit status: always 0; a wrong flow spec raises SpecError naming the line."""
    usual = Places()
    parser = argparse.ArgumentParser(
        prog="python -m tracker.alerting.generate", description="Prometheus rules of the tracker"
    )
    parser.add_argument("--print", action="store_true", help="to stdout, not into alerts/tracker.yaml")
    parser.add_argument("--tracker", default=usual.tracker, help="the tracker's address as people reach it")
    parser.add_argument("--grafana", default=usual.grafana, help="Grafana's address as people reach it")
    parser.add_argument("specs", nargs="*", type=Path, help="flow specs whose owners get the alerts")
    wanted = parser.parse_args(arguments)
    specs = [load_spec(path.read_text("utf-8")) for path in wanted.specs]
    places = Places(wanted.tracker.rstrip("/"), wanted.grafana.rstrip("/"))
    text = rendered(places, {spec.flow: spec.owner for spec in specs})
    if wanted.print:
        sys.stdout.write(text)
    else:
        FILE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
