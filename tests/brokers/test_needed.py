"""A missing server: a clear skip on a laptop, a failure where it is required, and a list at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.needed import missing, required

ROOT = Path(__file__).parents[2]


def _run_without_kafka(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the Kafka fixture's own tests where there is neither Java nor a cache nor Docker."""
    tests = ["tests/brokers/test_servers.py", "-k", "TestKafka and with_their_headers", "-p", "no:cacheprovider"]
    bare = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "pytest", *tests]
    return subprocess.run(command, cwd=ROOT, env=bare | env, capture_output=True, text=True, timeout=120, check=False)


def test_a_missing_server_skips_with_a_way_to_get_it() -> None:
    """The reason of the skip names the server and what to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRACKER_TEST_REQUIRE", raising=False)
        with pytest.raises(pytest.skip.Exception, match="needs a server: kafka: fetch its jars"):
            missing("kafka", "fetch its jars")


@pytest.mark.parametrize(
    ("value", "expected"), [("all", True), ("rabbitmq,kafka", True), ("kafka", True), ("rabbitmq", False), ("", False)]
)
def test_servers_are_required_by_name_or_all(value: str, expected: bool) -> None:
    """TRACKER_TEST_REQUIRE is a list of servers, or `all`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_TEST_REQUIRE", value)
        assert required("kafka") is expected


def test_the_end_of_a_run_lists_what_was_not_tested(tmp_path: Path) -> None:
    """On a machine without Kafka the run passes, and its end says what was not tested and what to do about it."""
    done = _run_without_kafka(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    ending = done.stdout[done.stdout.index("not tested for want of a server") :]
    assert "1 test: kafka: Java 17 or newer not found" in ending
    assert "make servers" in ending


def test_a_required_server_that_is_missing_fails_the_run(tmp_path: Path) -> None:
    """In continuous integration nothing is skipped: the same run fails and names the server."""
    done = _run_without_kafka(tmp_path, TRACKER_TEST_REQUIRE="all")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "needs a server: kafka" in done.stdout


def test_an_address_in_the_environment_wins(tmp_path: Path) -> None:
    """With TRACKER_TEST_KAFKA the tests go to that broker, even where none could be started."""
    done = _run_without_kafka(tmp_path, TRACKER_TEST_KAFKA="127.0.0.1:1", PYTEST_ADDOPTS="--setup-only")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SETUP    S kafka_server" in done.stdout
