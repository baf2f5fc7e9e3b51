"""Our metrics as OTLP has them (https://opentelemetry.io/docs/specs/otel/metrics/data-model/): the same values that
`/metrics` shows, for those who push to a collector of OpenTelemetry and scrape nothing.

The rules are those for Prometheus' text (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/):
a counter is a monotonic cumulative sum whose name has no `_total`, buckets are counted each for itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

SCOPE = InstrumentationScope("tracker")
CUMULATIVE = AggregationTemporality.CUMULATIVE
NO_LIMIT = "+Inf"


def converted(registry: CollectorRegistry, resource: Resource, began: int, now: int) -> MetricsData:
    """All that the registry has, as one export. `began`: when counting began; both times in epoch nanoseconds."""
    metrics = [_metric(family, began, now) for family in registry.collect() if family.samples]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(SCOPE, metrics, "")], "")])


def _metric(family: Family, began: int, now: int) -> Metric:
    if family.type == "histogram":
        return Metric(family.name, family.documentation, "", Histogram(_spread(family.samples, began, now), CUMULATIVE))
    counter = family.type == "counter"
    points = [
        NumberDataPoint(dict(sample.labels), began if counter else 0, now, sample.value) for sample in family.samples
    ]
    data = Sum(points, CUMULATIVE, is_monotonic=True) if counter else Gauge(points)
    return Metric(family.name, family.documentation, "", data)


def _spread(samples: Iterable[Sample], began: int, now: int) -> list[HistogramDataPoint]:
    """A point for each set of labels."""
    buckets: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
    sums: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for sample in samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            buckets[labels][sample.labels["le"]] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [_point(dict(labels), found, sums[labels], began, now) for labels, found in buckets.items()]


def _point(
    labels: Mapping[str, str], buckets: Mapping[str, float], total: float, began: int, now: int
) -> HistogramDataPoint:
    """Prometheus' buckets hold those before them, too; the smallest and largest value are known to nobody."""
    bounds = sorted(float(bound) for bound in buckets if bound != NO_LIMIT)
    counts = [int(buckets[bound]) for bound in sorted(buckets, key=float)]
    single = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
    unset: Any = None
    return HistogramDataPoint(dict(labels), began, now, counts[-1], total, single, bounds, min=unset, max=unset)
