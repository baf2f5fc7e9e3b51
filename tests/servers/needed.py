"""When a server that a test needs is not there: a clear skip on a laptop, a failure where all are required."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

PREFIX = "needs a server: "
HINT = "`make servers` installs it (as root on Debian)"


def required(name: str) -> bool:
    """Whether TRACKER_TEST_REQUIRE (a comma list, or `all`) forbids to skip for want of this server."""
    wanted = os.environ.get("TRACKER_TEST_REQUIRE", "").split(",")
    return "all" in wanted or name in wanted


def missing(name: str, how: str) -> NoReturn:
    """Skips the test that asked, or fails it where the server is required. `how` says how to get the server."""
    reason = f"{PREFIX}{name}: {how}"
    if required(name):
        pytest.fail(f"{reason} (TRACKER_TEST_REQUIRE forbids to skip)", pytrace=False)
    pytest.skip(reason)


def skipped_for_want(reports: list[pytest.TestReport]) -> Counter[str]:
    """Counts skipped tests per reason, of those that wanted a server."""
    reasons: Counter[str] = Counter()
    for report in reports:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if PREFIX in text:
            reasons[text[text.index(PREFIX) + len(PREFIX) :]] += 1
    return reasons
