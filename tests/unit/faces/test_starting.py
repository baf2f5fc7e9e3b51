"""What a command loads before it does anything: each one of a runbook waits for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVICE = ("chdb", "clickhouse_connect", "fastapi", "numba", "polars", "pyarrow", "sqlalchemy", "uvicorn")
"""What only the service itself needs; together more than a second."""


@pytest.mark.parametrize("module", SERVICE)
def test_a_client_does_not_load_the_service(module: str, loaded: set[str]) -> None:
    """Which takes a second and more."""
    assert module not in loaded


def test_it_loads_what_a_client_needs(loaded: set[str]) -> None:
    """Or the others would prove nothing."""
    assert {"httpx", "typer", "tracker.cli.client"} <= loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that a process has before its command begins."""
    program = "import sys, tracker.cli.main; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
