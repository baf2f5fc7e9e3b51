"""What Prometheus is given: tables of gauges are kept as text, and read as the client library would have written it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_open
from prometheus_client.parser import text_string_to_metric_families as parsed

from tracker.slo.metrics import ALL, BURN_RATE, COUNTED, EVENTS, LATENCY, NODE_CLOCK, PASS_SECONDS, Metrics

ODD = 'a "quoted" \\ name\nof two lines'


@pytest.fixture
def shown() -> Metrics:
    """Some of each kind."""
    made = Metrics()
    made.replace(BURN_RATE, {("orders", "1h"): 14.5, ("orders", "5m"): math.inf, ("parcels", "1h"): 0})
    made.replace(NODE_CLOCK, {(ODD,): -0.25, ("n",): 1e-9})
    made.set(PASS_SECONDS, 1.5)
    made.count(EVENTS, 3, "orders")
    return made


def values(families: Iterable[object]) -> dict[object, float]:
    """Every sample."""
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}  # type: ignore[attr-defined]  # what the library yields has no type


def test_both_formats_say_what_the_registry_says(shown: Metrics) -> None:
    """To the last sample, whatever a label holds; names, kinds and texts, too."""
    text, kind = shown.exposition()
    assert kind.startswith("text/plain")
    families = list(parsed(text.decode()))
    assert values(families) == values(parsed(generate_latest(shown.registry).decode()))
    assert values(families)["tracker_node_clock_offset_seconds", ("collector", ODD)] == -0.25
    assert {f.name.removesuffix("_total") for f in families} == {m.name.removesuffix("_total") for m in ALL}
    text, kind = shown.exposition("application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert values(parsed_open(text.decode())) == values(parsed_open(open_metrics(shown.registry).decode()))


def test_what_is_replaced_is_gone(shown: Metrics) -> None:
    """A flow that was deleted is shown no more."""
    shown.replace(BURN_RATE, {("parcels", "1h"): 1})
    assert b"orders" not in b"".join(line for line in shown.exposition()[0].splitlines() if b"burn" in line)
    shown.replace(LATENCY, {})
    assert b"tracker_latency_seconds{" not in shown.exposition()[0]
    with pytest.raises(KeyError):
        shown.replace(COUNTED, {})
