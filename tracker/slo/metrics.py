"""Every metric that a tracker shows at `/metrics`, defined once. The page docs/metrics.md is made from this file, and
tests look up here every name that alerts and dashboards use.

Labels have few values: flows, hops, verdicts, statuses; never message ids, never what a client may invent.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from opentelemetry.trace import format_trace_id, get_current_span
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

M = TypeVar("M", Counter, Gauge, Histogram)


class Kind(StrEnum):
    """How a metric counts."""

    counter = "counter"
    gauge = "gauge"
    histogram = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A counter's samples are named `name` with `_total` at the end, which `name` already has."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 50_000.0, 100_000.0, 250_000.0)

# --- the way in
EVENTS = Metric("tracker_ingest_events_total", Kind.counter, "Events and ranges stored, by flow.", ("flow",))
QUARANTINED = Metric("tracker_ingest_quarantined_total", Kind.counter, "Lines that went to quarantine.")
REFUSED = Metric(
    "tracker_ingest_refused_total",
    Kind.counter,
    "Requests with events or reports that stored nothing, by status and reason. The sender's are request (4xx), rate "
    "and share; ours are slots, memory, spool, store, control and spans; starting and closing pass.",
    ("status", "reason"),
)
REPORTS = Metric("tracker_ingest_reports_total", Kind.counter, "Coverage reports stored.")
COMMIT_SECONDS = Metric(
    "tracker_ingest_commit_seconds",
    Kind.histogram,
    "How long one shared insert took until it was durable.",
    (),
    SECONDS,
)
COMMIT_ROWS = Metric("tracker_ingest_commit_rows", Kind.histogram, "Rows of one shared insert.", (), ROWS)
PENDING = Metric("tracker_ingest_pending_bytes", Kind.gauge, "Memory of batches that are not durable yet.")
PENDING_LIMIT = Metric(
    "tracker_ingest_pending_limit_bytes", Kind.gauge, "What they may take: beyond it, batches are answered with 503."
)
SPOOL_BYTES = Metric(
    "tracker_spool_bytes", Kind.gauge, "Bytes of events that wait on disk, because the store is down or slow."
)
SPOOL_LIMIT = Metric(
    "tracker_spool_limit_bytes", Kind.gauge, "What may wait there, TRACKER_SPOOL_MB; 0 without a spool."
)
SPOOL_OLDEST = Metric(
    "tracker_spool_oldest_seconds", Kind.gauge, "How long the oldest of them waits; 0 when none does."
)
SPOOL_DRAINED = Metric(
    "tracker_spool_drained_rows_total", Kind.counter, "Rows that went from the spool into the store."
)
SPOOL_ASIDE = Metric(
    "tracker_spool_set_aside",
    Kind.gauge,
    "Batches of the spool that could be neither read nor stored since the start: files in its folder `aside`.",
)
SPANS = Metric(
    "tracker_otlp_spans_total",
    Kind.counter,
    "Spans received by what became of them: event, other (not about messages), no_flow, no_id, no_stage, failed, "
    "quarantined.",
    ("outcome",),
)

# --- the faces
REQUESTS = Metric(
    "tracker_http_requests_total", Kind.counter, "Requests answered, by route.", ("method", "route", "status")
)
REQUEST_SECONDS = Metric(
    "tracker_http_request_seconds", Kind.histogram, "Time to answer, by route.", ("route",), SECONDS
)
RPCS = Metric("tracker_grpc_requests_total", Kind.counter, "Calls of OTLP over gRPC answered, by code.", ("status",))
RPC_SECONDS = Metric("tracker_grpc_request_seconds", Kind.histogram, "Time to answer a call over gRPC.", (), SECONDS)
QUESTIONS = Metric(
    "tracker_clickhouse_questions_total",
    Kind.counter,
    "Statements sent to `/clickhouse` by what became of them: answered, refused, busy (503), gone (nobody waited).",
    ("outcome",),
)
QUESTION_SECONDS = Metric(
    "tracker_clickhouse_question_seconds", Kind.histogram, "Time to answer a statement, waiting too.", (), SECONDS
)

# --- what became of messages
READ = Metric(
    "tracker_read_timestamp_seconds",
    Kind.gauge,
    "When findings, watermarks, incidents and replays were read last, all of them; they are whenever somebody looks.",
)
COUNTED = Metric(
    "tracker_counted_timestamp_seconds",
    Kind.gauge,
    "When messages, books and objectives other than delivery were counted last. With many millions that takes long: it "
    "is given about a tenth of the time.",
)
FLOW_INFO = Metric(
    "tracker_flow_info",
    Kind.gauge,
    "The version of each flow's newest spec, with its owner and the most that an alert about it may be: page, ticket.",
    ("flow", "owner", "severity"),
)
MESSAGES = Metric("tracker_messages", Kind.gauge, "Messages by flow and verdict, now.", ("flow", "verdict"))
FINDINGS = Metric(
    "tracker_findings",
    Kind.gauge,
    "Findings by flow, hop, kind and status; those that an earlier checkpoint's finding explains are left out.",
    ("flow", "hop", "kind", "status"),
)
INCIDENTS = Metric("tracker_incidents", Kind.gauge, "Incidents that are not resolved.", ("flow", "status"))
CONSERVATION = Metric(
    "tracker_conservation_difference",
    Kind.gauge,
    "Produced + orphans - sum over verdicts, of the last hour's origins. Anything but 0 is a bug of ours.",
    ("flow",),
)

# --- objectives
JUDGED = Metric(
    "tracker_slo_timestamp_seconds",
    Kind.gauge,
    "When burn rates were worked out last. With thousands of flows that takes a while: it is given about a tenth of "
    "the time.",
)
DELIVERY_RATIO = Metric(
    "tracker_delivery_ratio",
    Kind.gauge,
    "Delivered in time / settled, over the objective's window; each message as it was first settled.",
    ("flow",),
)
DELIVERY_TARGET = Metric("tracker_delivery_target", Kind.gauge, "The share that the flow's owner promised.", ("flow",))
BUDGET_LEFT = Metric(
    "tracker_delivery_budget_left",
    Kind.gauge,
    "The share of the error budget of the objective's window that is left; below 0 the promise is broken.",
    ("flow",),
)
BURN_RATE = Metric(
    "tracker_delivery_burn_rate",
    Kind.gauge,
    "How many times faster than allowed the error budget went in the last 5m, 30m, 1h, 2h, 6h, 1d, 3d.",
    ("flow", "window"),
)
CORRECTED = Metric(
    "tracker_delivery_corrected",
    Kind.gauge,
    "Messages that had counted as good or bad and turned out otherwise within the objective's window; they refund "
    "nothing. Flows without any are left out.",
    ("flow", "to"),
)
UNCOUNTED = Metric(
    "tracker_delivery_uncounted",
    Kind.gauge,
    "Messages that became blind or explained within the objective's window: neither good nor bad. Flows without any "
    "are left out.",
    ("flow", "verdict"),
)
THROUGHPUT = Metric(
    "tracker_throughput",
    Kind.gauge,
    "New messages per second over the last five minutes, as passes saw them.",
    ("flow",),
)
FRESHNESS = Metric(
    "tracker_freshness_seconds",
    Kind.gauge,
    "How long ago the newest message that arrived was made, of flows that promise freshness.",
    ("flow",),
)
LATENCY = Metric(
    "tracker_latency_seconds",
    Kind.gauge,
    "How long messages took from origin to end that arrived in the last hour: quantiles 0.5, 0.95, 0.99, within 1 %.",
    ("flow", "quantile"),
)
REPLICATION_LAG = Metric(
    "tracker_replication_lag_seconds",
    Kind.gauge,
    "How long copies took to this hop in the last hour: the quantile 0.99, within 1 %.",
    ("flow", "hop"),
)
OBJECTIVE_MET = Metric(
    "tracker_objective_met",
    Kind.gauge,
    "1 while an objective other than delivery is kept, 0 while it is not; without messages to go by it is left out.",
    ("flow", "objective"),
)

# --- what is not as usual
ANOMALIES = Metric(
    "tracker_anomalies",
    Kind.gauge,
    "Anomalies that last, by signal: volume, latency, loss, duplicates, coverage; `hop` is empty for the whole flow. "
    "Only the tracker that looks for them shows it.",
    ("flow", "hop", "signal"),
)

# --- what we can see
BLIND_SPOTS = Metric(
    "tracker_blind_spots", Kind.gauge, "Blind spots of the last hour, by cause.", ("flow", "hop", "stage", "cause")
)
WATERMARK = Metric(
    "tracker_watermark_timestamp_seconds",
    Kind.gauge,
    "Until when everything at this checkpoint is vouched for: the slowest source's last report.",
    ("flow", "hop", "stage"),
)

NODE_CLOCK = Metric(
    "tracker_node_clock_offset_seconds",
    Kind.gauge,
    "How far the clock of a collector's node is behind the tracker's (negative: ahead), as measured last; of those "
    "that reported in the last hour the 20 that are furthest off. Times are corrected by it; repair the clock anyhow.",
    ("collector",),
)

# --- the tracker itself
PASS_NUMBER = Metric("tracker_pass_number", Kind.gauge, "Number of the last finished pass of the reconciler.")
PASS_FINISHED = Metric(
    "tracker_pass_finished_timestamp_seconds", Kind.gauge, "When the last pass that had anything to do was finished."
)
PASS_SECONDS = Metric("tracker_pass_seconds", Kind.gauge, "How long the last finished pass took.")
THREAD_UP = Metric("tracker_thread_up", Kind.gauge, "1 while a worker thread of this process lives.", ("thread",))
WORKER_RESTARTS = Metric(
    "tracker_worker_restarts_total",
    Kind.counter,
    "How often a worker of this process failed for a reason that nobody foresaw, and was begun again.",
    ("thread",),
)
REPLAYS = Metric("tracker_replays", Kind.gauge, "Replays that have not ended, by status.", ("status",))
REPLAY_MESSAGES = Metric(
    "tracker_replay_messages", Kind.gauge, "Messages of replays that have not ended, by state.", ("state",)
)
POLICY_LEFT = Metric(
    "tracker_replay_policy_left",
    Kind.gauge,
    "Open findings of flows in mode `auto` that the policy left alone when it last looked, by reason. Only the tracker "
    "that has the lease shows it.",
    ("flow", "reason"),
)
POLICY_BUDGET = Metric(
    "tracker_replay_policy_budget_left",
    Kind.gauge,
    "Messages that the budget of a flow in mode `auto` still had when the policy last looked.",
    ("flow",),
)
REPLAY_CIRCUIT = Metric(
    "tracker_replay_circuit",
    Kind.gauge,
    "1 for the state of the circuit to each target that this tracker sends to: closed, open or half_open.",
    ("target", "state"),
)
REPLAY_IN_FLIGHT = Metric(
    "tracker_replay_in_flight",
    Kind.gauge,
    "Messages that are on their way to each target, in doubt, or sent and not settled, as this tracker counted last.",
    ("target",),
)
STORE_UP = Metric("tracker_store_up", Kind.gauge, "1 when the store answered at the last look.")
STORE_ROWS = Metric("tracker_store_rows", Kind.gauge, "Rows per table.", ("table",))
STORE_BYTES = Metric("tracker_store_bytes", Kind.gauge, "Bytes on disk per table.", ("table",))
STORE_PARTS = Metric("tracker_store_parts", Kind.gauge, "Active parts per table.", ("table",))
BUILD = Metric("tracker_build_info", Kind.gauge, "Always 1; says which version runs.", ("version",))

# --- recovery: how soon what was missing was found and back, of the last day
RECOVERY_SECONDS = Metric(
    "tracker_recovery_seconds",
    Kind.gauge,
    "How long recovery took, of findings and incidents opened in the last day. `span`: detect (from when it could be "
    "known to opened), act (an incident's first acknowledgement or approved replay), replay and itself (from opened to "
    "recovered, by that). `percentile`: p50, p90.",
    ("flow", "kind", "span", "percentile"),
)
RECOVERY_FINDINGS = Metric(
    "tracker_recovery_findings",
    Kind.gauge,
    "Findings opened in the last day by how they ended: open, replay, itself (recovered by that), parked, abandoned.",
    ("flow", "kind", "outcome"),
)
LOST_FOR_GOOD = Metric(
    "tracker_lost_for_good",
    Kind.gauge,
    "Findings whose message is lost for good (RPO): parked, abandoned, or open while no hop holds a copy; since ever.",
    ("flow", "kind"),
)
RECOVERY_BACK = Metric(
    "tracker_recovery_back_seconds",
    Kind.gauge,
    "How long until it is back, over all findings opened in the last day of a flow with a recovery objective: what is "
    "open counts with its age, what is parked or abandoned as +Inf.",
    ("flow", "percentile"),
)
RECOVERY_TARGET = Metric(
    "tracker_recovery_target_seconds",
    Kind.gauge,
    "How soon the flow's owner promised to have it back.",
    ("flow", "percentile"),
)

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))

OWN = frozenset(
    (PENDING, PENDING_LIMIT, SPOOL_BYTES, SPOOL_LIMIT, SPOOL_OLDEST, SPOOL_ASIDE, READ, COUNTED, JUDGED, THREAD_UP,
     POLICY_LEFT, POLICY_BUDGET, REPLAY_CIRCUIT, REPLAY_IN_FLIGHT, STORE_UP, BUILD)
)  # fmt: skip
"""Gauges of this process. The others are of the ledger: every tracker on the same store shows the same, and a sum over
trackers would count it twice."""


class Metrics:
    """The values of one process. Gauges with labels are tables that are replaced as a whole, and of which the text is
    kept: with thousands of flows they are hundreds of thousands of samples. `registry` has all of them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that says when it began: nobody asks that
        self.registry, self._others = CollectorRegistry(), CollectorRegistry()
        self._tables = {metric.name: _Table(metric) for metric in ALL if _tabled(metric)}
        self._made = {metric.name: _make(metric, self._others) for metric in ALL if not _tabled(metric)}
        for made in (*self._made.values(), *self._tables.values()):
            self.registry.register(made)

    def count(self, metric: Metric, value: float = 1, *labels: str) -> None:
        """Add to a counter."""
        self._child(metric, Counter, labels).inc(value)

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge without labels."""
        self._child(metric, Gauge, ()).set(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add an observation to a histogram; where it is made within a trace that is kept, an example of its bucket."""
        within = get_current_span().get_span_context()
        example = {"trace_id": format_trace_id(within.trace_id)} if within.trace_flags.sampled else None
        self._child(metric, Histogram, labels).observe(value, example)

    def replace(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """The gauge has these label values and no others."""
        self._tables[metric.name].replace(values)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """(all of them in Prometheus' text format, or in OpenMetrics where that is accepted, the content type)."""
        encode, kind = choose_encoder(accept)
        head, end, _ = encode(self._others).partition(b"# EOF\n")
        return b"".join([head, *(table.text for table in self._tables.values()), end]), kind

    def _child(self, metric: Metric, kind: type[M], labels: tuple[str, ...]) -> M:
        made = self._made[metric.name]
        child = made.labels(*labels) if labels else made
        assert isinstance(child, kind), f"{metric.name} is a {metric.kind}"
        return child


def _tabled(metric: Metric) -> bool:
    return metric.kind == Kind.gauge and bool(metric.labels)


class _Table(Collector):
    """A gauge with labels: its values, and its text, which both formats write alike
    (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.replace({})

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """These, and no others."""
        metric, self._values = self._metric, values
        form = metric.name + "{" + ",".join(f'{label}="%s"' for label in metric.labels) + "} %s\n"
        lines = (form % (*map(_escaped, labels), _number(value)) for labels, value in values.items())
        head = f"# HELP {metric.name} {metric.text}\n# TYPE {metric.name} {metric.kind}\n"
        self.text = (head + "".join(lines)).encode()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As the client library has it."""
        family = GaugeMetricFamily(self._metric.name, self._metric.text, labels=self._metric.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


def _escaped(label: str) -> str:
    if '"' in label or "\\" in label or "\n" in label:
        return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return label


def _number(value: float) -> str:
    return (
        repr(float(value)) if math.isfinite(value) else "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    )


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == Kind.histogram:
        return Histogram(metric.name, metric.text, metric.labels, registry=registry, buckets=metric.buckets)
    make = Counter if metric.kind == Kind.counter else Gauge
    return make(metric.name, metric.text, metric.labels, registry=registry)


def page() -> str:
    """docs/metrics.md, without the collectors' part."""
    lines = [
        "# Metrics",
        "",
        "What `GET /metrics` shows (Prometheus text format; scope `read`). Made from `tracker/slo/metrics.py` by",
        "`python -m tracker.slo.metrics`, and its part on [collectors](#collectors) from `collectors/metrics.py` by",
        "`python -m collectors.metrics`; a test keeps page and code equal.",
        "",
        "Gauges are of the ledger: several trackers on one store all show the same, so ask for their maximum, not for",
        "their sum. Counters, histograms and what is `own` are of each process.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
        *(f"| `{m.name}` | {_kind(m)} | {', '.join(f'`{n}`' for n in m.labels)} | {m.text} |" for m in ALL),
    ]
    return "\n".join(lines) + "\n"


def _kind(metric: Metric) -> str:
    return f"{metric.kind}, own" if metric in OWN else metric.kind


if __name__ == "__main__":
    sys.stdout.write(page())
