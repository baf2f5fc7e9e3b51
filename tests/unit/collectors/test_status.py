"""What is said of collectors from outside: readiness and metrics."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collectors.archiving import Archived
from collectors.base import NOTHING_YET_MS
from collectors.metrics import ALL, STATES, samples
from collectors.registry import exposition
from collectors.runner import Health
from collectors.sender import Counts
from collectors.status import Seen, plain, readiness

S = 1_000_000
NOW = 1_800_000_000 * S
WELL = Health("a", "running", last_read=NOW - S, lag_ms=250, lag_at=NOW - 2 * S, read=7, committed=5, in_flight=2)
COUNTS = Counts(sent=9, acknowledged=8, dropped=1, spool_bytes=4096, spool_limit=8192, answered_at=NOW - 3 * S)


KEPT = Archived(records=6, bytes=900, segments=2, waiting_records=1, failures=3, lost=4, at=NOW - S, error="away")


def seen(health=WELL, counts=COUNTS):
    """A collector as it is."""
    return Seen(health.name, "kafka", health, counts, KEPT)


def ready(*healths):
    """Whether these are ready, and what is said of each."""
    found, body = readiness([seen(health) for health in healths], NOW, 60 * S, "")
    return found, [one["why"] for one in json.loads(body)["collectors"]]


@pytest.mark.parametrize(
    ("health", "why"),
    [
        (WELL, ""),
        (replace(WELL, state="unavailable", last_error="gone", last_read=NOW - 59 * S), ""),
        (replace(WELL, state="unavailable", last_error="gone", last_read=NOW - 61 * S), "has not read for 61 s: gone"),
        (replace(WELL, state="waiting", last_read=NOW - 90 * S), "has not read for 90 s"),
        (replace(WELL, state="starting", last_read=0), "has not read yet"),
        (replace(WELL, state="unavailable", last_read=0, last_error="no host"), "has not read yet: no host"),
        (replace(WELL, state="failed", last_error="no permission"), "ended for good: no permission"),
        (replace(WELL, state="retired", last_read=0), ""),
    ],
)
def test_who_does_not_read_is_not_ready(health, why):
    """A collector is ready while it read not long ago; one that is retired has nothing to read. One that is not ready
    says why, and then the process is not ready either."""
    assert ready(WELL, health) == (not why, ["", why])


def test_nobody_is_not_ready():
    """A process that has not begun its collectors is not ready."""
    assert ready() == (False, [])


def test_no_secret_is_shown():
    """Logins in addresses are taken out of every text; the configuration that was refused is told."""
    secret = "amqp://guest:s3cr@t@rabbit:5672/%2F hangs up"
    health = replace(WELL, last_error=secret, state="failed")
    _, body = readiness([seen(health, replace(COUNTS, last_error=secret))], NOW, S, f"c.yaml:3: bad {secret}")
    assert b"s3cr" not in body
    assert b"guest" not in body
    said = json.loads(body)
    assert said["configuration_refused"] == "c.yaml:3: bad amqp://***@rabbit:5672/%2F hangs up"
    assert said["collectors"][0]["tracker_error"] == "amqp://***@rabbit:5672/%2F hangs up"
    assert len(plain("x" * 10_000)) == 500


def shown(*every):
    """The metrics as somebody reads them who knows the format."""
    text = exposition()(lambda: samples(every, NOW, True, NOW - 4 * S, "1.2"))().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_values_of_a_collector():
    """Counts and gauges of a collector, with names and labels as they are defined; ages by the given clock."""
    found = shown(seen())
    assert found["collector_read_records_total", "a", "kafka"] == 7
    assert found["collector_committed_records_total", "a", "kafka"] == 5
    assert found["collector_in_flight_records", "a", "kafka"] == 2
    assert found["collector_lag_seconds", "a", "kafka"] == pytest.approx(2.25)
    assert found["collector_spool_bytes", "a", "kafka"] == 4096
    assert found["collector_spool_limit_bytes", "a", "kafka"] == 8192
    assert found["collector_acknowledged_events_total", "a", "kafka"] == 8
    assert found["collector_dropped_events_total", "a", "kafka"] == 1
    assert found["collector_acknowledged_timestamp_seconds", "a", "kafka"] == NOW / S - 3
    assert found["collectors_build_info", "1.2"] == 1
    assert found["collectors_config_last_reload_successful",] == 1
    assert found["collectors_config_last_reload_success_timestamp_seconds",] == NOW / S - 4
    assert [s for s in STATES if found["collector_state", "a", "kafka", s]] == ["running"]
    assert found["collector_archived_records_total", "a", "kafka"] == 6
    assert found["collector_archive_lost_records_total", "a", "kafka"] == 4
    assert found["collector_archived_timestamp_seconds", "a", "kafka"] == NOW / S - 1
    assert {name for name, *_ in found} == {metric.name for metric in ALL}


@pytest.mark.parametrize("health", [Health("a"), replace(WELL, lag_ms=NOTHING_YET_MS, last_read=0)])
def test_what_is_not_known_is_not_shown(health):
    """Before anything was read or shown to be complete there is no lag and no time of it, not even 0."""
    names = {name for name, *_ in shown(seen(health))}
    assert not names & {"collector_lag_seconds", "collector_last_read_timestamp_seconds"}


def test_several_collectors_share_their_families():
    """Each metric is one family with a sample per collector: anything else Prometheus refuses."""
    found = shown(seen(), seen(replace(WELL, name="b", read=1)))
    assert found["collector_read_records_total", "b", "kafka"] == 1
    assert found["collector_read_records_total", "a", "kafka"] == 7


def test_every_state_that_a_collector_may_be_in_is_known():
    """The states that the code names are those of the metric."""
    import re
    from pathlib import Path

    import collectors

    folder = Path(collectors.__file__).parent
    code = "".join((folder / name).read_text() for name in ("runner.py", "fleet.py", "retirement.py"))
    named = set(re.findall(r'state(?:: str)? ?= ?"(\w+)"', code)) | set(re.findall(r'Health\(name, "(\w+)"', code))
    named |= set(re.findall(r'"(\w+)" if done else "(?:\w+)"', code))
    assert named <= set(STATES)
    assert named >= {"starting", "running", "waiting", "unavailable", "failed", "stopped", "retiring", "retired"}


def test_names_are_distinct_and_carry_their_unit():
    """Counters end in _total, gauges of time in _seconds; no name stands twice."""
    assert len({metric.name for metric in ALL}) == len(ALL)
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in ALL)
    assert all(metric.name.startswith(("collector_", "collectors_")) for metric in ALL)
