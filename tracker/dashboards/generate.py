"""All dashboards, as text, and what is kept of them in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tracker.dashboards.anomalies import ANOMALIES
from tracker.dashboards.board import Dashboard
from tracker.dashboards.coverage import COVERAGE
from tracker.dashboards.flow import FLOW_BOARD
from tracker.dashboards.itself import ITSELF
from tracker.dashboards.message import MESSAGE
from tracker.dashboards.overview import OVERVIEW
from tracker.dashboards.recovery import RECOVERY

DASHBOARDS: Mapping[str, Dashboard] = {
    "overview": OVERVIEW,
    "flow": FLOW_BOARD,
    "message": MESSAGE,
    "recovery": RECOVERY,
    "anomalies": ANOMALIES,
    "coverage": COVERAGE,
    "itself": ITSELF,
}
"""By the name of their file."""


def rendered(name: str) -> str:
    """The text of `NAME.json`."""
    return json.dumps(DASHBOARDS[name].json(), indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path) -> list[Path]:
    """Files in the folder that are missing, not as they would be written now, or of no dashboard."""
    paths = {folder / f"{name}.json": rendered(name) for name in DASHBOARDS}
    old = [path for path, text in paths.items() if not path.is_file() or path.read_text("utf-8") != text]
    return old + [path for path in sorted(folder.glob("*.json")) if path not in paths]


def write(folder: Path) -> list[Path]:
    """Write those that are stale, and give them. Files of no dashboard are left alone. Raises OSError."""
    written = [path for path in stale(folder) if path.stem in DASHBOARDS]
    for path in written:
        path.write_text(rendered(path.stem), "utf-8")
    return written
