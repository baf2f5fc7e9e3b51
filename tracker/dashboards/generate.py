"""Writes every dashboard's JSON to `dashboards/`: `python -m tracker.dashboards.generate` (`--check`: only compare)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracker.assets import folder
from tracker.dashboards import overview

DASHBOARDS: Mapping[str, Callable[[], dict[str, Any]]] = {"overview": overview.dashboard}


def rendered(name: str) -> str:
    """The text of `NAME.json`."""
    return json.dumps(DASHBOARDS[name](), indent=2, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """Files that are not as they would be written now."""
    kept = folder("dashboards")
    paths = {kept / f"{name}.json": rendered(name) for name in DASHBOARDS}
    old = [path for path, text in paths.items() if not path.is_file() or path.read_text("utf-8") != text]
    return old + [path for path in kept.glob("*.json") if path not in paths]


def main(arguments: list[str]) -> int:
    """Exit status: 1 when `--check` finds a difference."""
    if "--check" in arguments:
        sys.stdout.writelines(f"{path}: run `python -m tracker.dashboards.generate`\n" for path in stale())
        return int(bool(stale()))
    for name in DASHBOARDS:
        (folder("dashboards") / f"{name}.json").write_text(rendered(name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
