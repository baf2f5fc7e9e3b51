"""Metrics in the text format of Prometheus. The only module that knows its client library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collectors.metrics import Sample


def exposition(samples: Callable[[], Iterable[Sample]]) -> Callable[[], bytes]:
    """What gives the values of the moment as text."""
    registry = CollectorRegistry()
    registry.register(_Families(samples))
    return lambda: generate_latest(registry)


class _Families(Collector):
    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known to differ."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family per metric."""
        made: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, labels, value in self._samples():
            family = made.get(metric.name)
            if family is None:
                make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = made[metric.name] = make(metric.name, metric.text, labels=metric.labels)
            family.add_metric(labels, value)
        yield from made.values()
