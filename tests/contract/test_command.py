"""`collectors run` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.contract.http_tracker import HttpTracker
from tests.unit.collectors.test_config import GOOD


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_gracefully(tmp_path, number):
    """`collectors run` reports to the tracker and ends with 0 on SIGTERM and SIGINT."""
    path = tmp_path / "config.yaml"
    with HttpTracker() as tracker:
        text = GOOD.replace("http://127.0.0.1:8000", tracker.url).replace("/var/lib/collectors", str(tmp_path))
        path.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "collectors.main", "run", str(path)],
            env={**os.environ, "TRACKER_TOKEN": "x"}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        line = ""
        while "running" not in line and time.monotonic() < deadline:
            line = process.stderr.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "stopping" in errors


def test_nothing_heavy_is_imported_for_the_core():
    """The emitter and the runner pull in no client library, no database and no web framework."""
    program = "import sys, collectors.main, collectors.instrument.observe; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"confluent_kafka", "pika", "chdb", "fastapi", "sqlalchemy", "pyarrow", "polars"} & set(loaded)
