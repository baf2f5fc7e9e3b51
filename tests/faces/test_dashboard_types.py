"""The kept JSON against the types that Grafana publishes: `@grafana/schema`, checked by TypeScript's own compiler."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers.needed import missing
from tracker.assets import folder

SCHEMA = Path(__file__).parents[1] / "schema"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "message-tracker"
KEPT = {path.stem: path.read_text("utf-8") for path in sorted(folder("dashboards").glob("*.json"))}


@pytest.fixture(scope="module")
def packages() -> Path:
    """`node_modules` as the lock file pins them; fetched once and kept."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("npm", "Node.js 18 or newer with npm")
    named = hashlib.sha256((SCHEMA / "package-lock.json").read_bytes()).hexdigest()[:12]
    kept = CACHE / f"grafana-schema-{named}"
    if not (kept / ".complete").is_file():
        part = CACHE / f"grafana-schema-{named}.{os.getpid()}"
        part.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SCHEMA / name, part)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        fetched = subprocess.run(command, cwd=part, capture_output=True, text=True, timeout=240, check=False)
        if fetched.returncode:
            shutil.rmtree(part)
            missing("npm", f"`npm ci` in tests/schema works: {fetched.stderr[-300:]}")
        (part / ".complete").touch()
        try:
            part.rename(kept)
        except OSError:  # somebody else was first
            shutil.rmtree(part)
    return kept / "node_modules"


def _wrong(folder: Path, packages: Path, boards: Mapping[str, str]) -> str:
    """What the compiler has against them, a line each."""
    (folder / "node_modules").symlink_to(packages)
    for name in ("board.ts", "tsconfig.json"):
        shutil.copy(SCHEMA / name, folder)
    for name, text in boards.items():
        made = f"import type {{ Board }} from './board';\nexport const made: Board = {text};\n"
        (folder / f"{name}.ts").write_text(made, "utf-8")
    command = ["node", "node_modules/typescript/bin/tsc", "--project", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False).stdout


def test_the_dashboards_are_of_grafanas_types(packages: Path, tmp_path: Path) -> None:
    """Panels with their options, field configurations, queries, variables, links, annotations; no field is unknown."""
    assert _wrong(tmp_path, packages, KEPT) == ""


def test_what_is_not_of_these_types_is_told(packages: Path, tmp_path: Path) -> None:
    """An unknown field, a value that is none of a list, one that lacks: or the other test would prove nothing."""
    faults = {
        "an_unknown_field": lambda board: board.update(colour="red"),
        "an_unknown_value": lambda board: board["panels"][1]["options"].update(colorMode="bright"),
        "an_unknown_option": lambda board: board["panels"][1]["options"].update(sparkle=True),
        "an_unknown_kind_of_panel": lambda board: board["panels"][1].update(type="piechart"),
        "a_link_without_kind": lambda board: board["links"][0].pop("type"),
        "a_query_without_name": lambda board: board["panels"][1]["targets"][0].pop("refId"),
    }
    boards = {}
    for name, fault in faults.items():
        board = json.loads(KEPT["overview"])
        fault(board)
        boards[name] = json.dumps(board)
    told = _wrong(tmp_path, packages, boards)
    assert {line.split("(")[0].removesuffix(".ts") for line in told.splitlines() if "error TS" in line} == set(faults)
