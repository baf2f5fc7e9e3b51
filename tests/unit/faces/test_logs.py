"""Log lines: what is never written."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging
import sys
import structlog
from tracker.cli.logs import configure

configure(sys.argv[1], "info")

def send(given):
    raise ConnectionError("the broker is away")

try:
    send("hunter-" + "2")
except ConnectionError:
    structlog.get_logger().exception("sending_failed", token="hunter-2")
    logging.getLogger("library").exception("sending failed")
"""


@pytest.mark.parametrize("kind", ["console", "json"])
def test_a_traceback_shows_where_and_never_what(kind: str) -> None:
    """Ours and a library's: the lines of the program are there, and no value that it held."""
    run = subprocess.run([sys.executable, "-c", PROGRAM, kind], capture_output=True, text=True, timeout=30, check=True)
    assert run.stderr.count("the broker is away") == 2
    assert run.stderr.count("in send") >= 2
    assert "hunter-2" not in run.stderr
