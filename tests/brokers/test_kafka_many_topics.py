"""Thousands of topics in one tail: it starts, it vouches for each of them, and resting costs a bounded share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.many_topics import FRESH_S, measure
from tests.servers import kafka
from tests.servers.needed import missing


@pytest.mark.brokers
@pytest.mark.long
@pytest.mark.parametrize("topics", [1_000, 10_000])
def test_thousands_of_topics(tmp_path: Path, topics: int) -> None:
    """All records are read, all partitions vouched for up to seconds ago; memory and disk stay bounded."""
    if kafka.java() is None or kafka.jars() is None:
        missing("kafka", "`make servers` installs it")
    found = measure(topics, tmp_path)
    print(json.dumps(found))
    assert 0 <= found["lag_s"] < FRESH_S
    assert found["collector_peak_rss_mb"] < 1024
    assert found["tracker_peak_rss_mb"] < 4096
    assert found["ledger_bytes_per_s"] < 1_000_000
