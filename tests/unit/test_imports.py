"""The directions of the design, kept by import-linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

# What each contract forbids, put into a file of that name.
VIOLATIONS = {
    "tracker/store/zz.py": "import tracker.api",
    "tracker/ingest/zz.py": "import tracker.control",
    "tracker/simulate/zz.py": "import tracker.model.judge",
    "tracker/api/zz.py": "import tracker.simulate\nimport collectors.base\nimport clickhouse_connect",
    "tracker/model/zz.py": "import socket",
    "collectors/zz.py": "import tracker.store\nimport fastapi",
    "collectors/kafka/zz.py": "import confluent_kafka\nimport collectors.rabbitmq.zz",
    "collectors/rabbitmq/zz.py": "import pika",
}


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def _contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [contract["name"] for contract in settings["contracts"]]


def test_imports_go_one_way() -> None:
    """Every contract is kept: layers, light collectors, one door to ClickHouse, brokers that do not know each other."""
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_every_contract_can_fail(tmp_path: Path) -> None:
    """A copy of the code in which each rule is broken once breaks every contract, so none of them is empty."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("tracker", "collectors", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in VIOLATIONS.items():
        (tmp_path / path).write_text(text + "\n")
    told = " ".join(_lint(tmp_path).stdout.split())
    kept = [name for name in _contracts() if f"{name} BROKEN" not in told]
    assert kept == [], told


@pytest.mark.parametrize(
    "contract", ["Only the composition root sees the collectors", "Only the store talks to ClickHouse"]
)
def test_a_new_package_falls_under_the_rules(contract: str) -> None:
    """The contracts that list packages list all of them: a new package of `tracker` cannot be forgotten."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    listed = next(c for c in settings["contracts"] if c["name"] == contract)["source_modules"]
    packages = {f"tracker.{path.parent.name}" for path in (ROOT / "tracker").glob("*/__init__.py")}
    exempt = {"tracker.cli"} if "composition" in contract else {"tracker.store"}
    assert packages - exempt <= set(listed)
