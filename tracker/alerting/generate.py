"""Writes `alerts/tracker.yaml`, and `alerts/alertmanager.yaml` without a route to any owner:
`python -m tracker.alerting.generate`. With routes to the owners of yours: `tracker alerts render`."""

from __future__ import annotations

from collections.abc import Mapping

from tracker.alerting import routing, rules
from tracker.alerting.alert import Places
from tracker.alerting.receivers import Receivers
from tracker.assets import folder

HEAD = "# Made by `python -m tracker.alerting.generate`: change tracker/alerting/*.py, not this file.\n"
FOLDER = folder("alerts")
FILE = FOLDER / rules.NAME


def kept() -> Mapping[str, str]:
    """The text of each file, by name."""
    return {
        rules.NAME: rules.rendered(Places(), HEAD),
        routing.NAME: routing.rendered((), Receivers(), (), HEAD),
    }


if __name__ == "__main__":
    for name, text in kept().items():
        (FOLDER / name).write_text(text, "utf-8")
