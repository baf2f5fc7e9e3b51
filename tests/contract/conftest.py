"""What the suites share. The contract's asserts show their values, though the suite is no test module itself."""

import pytest

from collectors.emitter import Emitter
from collectors.sender import Pace
from tests.contract.http_tracker import HttpTracker

pytest.register_assert_rewrite("tests.contract.suite", "tests.contract.broker")

FAST = Pace(linger=0.005, heartbeat=0.05, backoff=(0.001, 0.01), slow=0.02)


@pytest.fixture
def tracker():
    """A tracker that answers as told."""
    with HttpTracker() as server:
        yield server


@pytest.fixture
def emitter(tracker, tmp_path):
    """A function that makes emitters on one spool folder; all are closed at the end."""
    made = []

    def make(**more):
        settings = {"url": tracker.url, "collector": "c", "spool": tmp_path / "spool", "pace": FAST, "timeout": 5.0}
        made.append(Emitter(**{**settings, **more}))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout=0.1)
