"""Puts dashboards, alert rules and runbooks into the wheel (hatchling's build hook).

Not by `force-include` in pyproject.toml: that copies them into an editable installation too, and the copies would hide
the files that people edit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASSETS = {"dashboards": "dashboards", "alerts": "alerts", "docs/runbooks": "runbooks"}


class WheelAssets(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the folders below `tracker/_assets`, where `tracker.assets` looks for them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build; `version` is `standard` or `editable`."""
        if self.target_name != "wheel" or version != "standard":
            return
        for source, target in ASSETS.items():
            path = Path(self.root) / source
            if not path.is_dir():
                raise FileNotFoundError(f"{path}: what the wheel must carry is missing")
            build_data["force_include"][str(path)] = f"tracker/_assets/{target}"
