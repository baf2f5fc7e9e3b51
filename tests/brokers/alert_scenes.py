"""For each alert: series that are quiet at first, then bad, then good again, in steps of 15 seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from tracker.alerting.alert import ANOMALIES, OPERATIONS, Alert
from tracker.model.units import SECOND, say
from tracker.slo.burn import PAIRS, WINDOWS, Pair

STEP = 15
FLOWS = ("orders", "parcels", "letters")
T = {"instance": "t", "job": "tracker"}


@dataclass(frozen=True)
class Scene:
    """`series` in promtool's notation. Quiet at `before`, firing at `during`, over at `after` (seconds).

    `summary` is what the person who is woken reads; `labels` are those beside severity and owner. It fires
    likewise for the flows in `also`, of which nobody says who owns them. `severity`: else the alert's.
    """

    alert: str
    series: Mapping[str, str]
    before: int
    during: int
    after: int
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[str] = ()
    owner: str = OPERATIONS
    severity: str = ""
    always: bool = False

    def test(self, alert: Alert) -> dict[str, Any]:
        """As `promtool test rules` takes it. The links ask for the flow and the hop that the alert's labels name."""
        others = [replace(self, labels={**self.labels, "flow": flow}, summary=self.summary.replace("orders", flow),
                          owner=OPERATIONS, severity="")
                  for flow in self.also]  # fmt: skip
        firing = [scene._firing(alert) for scene in (self, *others)]
        quiet = firing if self.always else []
        looks: list[tuple[Any, list[Any]]] = [(self.before, quiet), (self.during, firing), (self.after, quiet)]
        return {
            "name": self.alert,
            "interval": f"{STEP}s",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [
                {"eval_time": f"{at}s", "alertname": self.alert, "exp_alerts": expected} for at, expected in looks
            ],
        }

    @property
    def alike(self) -> bool:
        """It is about the ledger, which several trackers show alike: their alert is one."""
        return "instance" not in self.labels and any('instance="t"' in name for name in self.series)

    def among(self) -> Scene:
        """The same with five trackers on the store: two that read it, two that lost it, and one whose questions are not
        answered. What these read last stays as it was when all was well, or when it was worst."""
        every = dict(self.series)
        for name, values in self.series.items():
            good, bad = (_frozen(values, at) for at in (self.before, self.during))
            for one, said in {"u": values, "v": good, "w": bad, "x": bad}.items():
                every[name.replace('instance="t"', f'instance="{one}"')] = said
        up = {store_up(one): f"{has}x600" for one, has in zip("tuvwx", (1, 1, 0, 0, 1), strict=True)}
        read = 'tracker_read_timestamp_seconds{{instance="{}",job="tracker"}}'.format
        return replace(self, series=every | up | {read("t"): "0+15x600", read("x"): "-600x600"})

    def _firing(self, alert: Alert) -> dict[str, Any]:
        has = {"flow": alert.of_flow, "hop": alert.of_hop}
        place = {name: self.labels.get(name, "") for name in has if has[name]}
        asked = f"?{urlencode(place)}" if place else ""
        asks = [name for name in place if place[name] and (name == "flow" or alert.board == ANOMALIES)]
        chosen = "?" + "&".join(f"var-{name}={place[name]}" for name in asks) if asks else ""
        return {
            "exp_labels": {
                "severity": self.severity or alert.severity,
                "owner": self.owner,
                "incident_kind": alert.runbook,
                **self.labels,
            },
            "exp_annotations": {
                "summary": self.summary,
                "description": alert.text,
                "runbook_url": f"http://127.0.0.1:8000/runbooks/{alert.runbook}{asked}",
                "dashboard_url": f"http://127.0.0.1:3000/d/{alert.board}{chosen}",
            },
        }


def store_up(instance: str) -> str:
    """Whether this tracker has its store."""
    return f'tracker_store_up{{instance="{instance}",job="tracker"}}'


def _frozen(values: str, at: int) -> str:
    """What a series said last is said for ever, from the beginning."""
    said: list[str] = []
    for part in values.split():
        first, _, times = part.partition("x")
        start, sign, step = re.fullmatch(r"(_|-?[\d.]+)(?:([+-])([\d.]+))?", first).groups()
        for n in range(int(times or 0) + 1):
            moved = n * float(f"{sign}{step}") if sign else 0.0
            said.append(start if start == "_" else f"{float(start) + moved:g}")
    return f"{said[at // STEP]}x600"


def watermark(flow: str, hop: str) -> str:
    """Until when a checkpoint of the flow there is vouched for."""
    return f'tracker_watermark_timestamp_seconds{{flow="{flow}",hop="{hop}",stage="persist",instance="t"}}'


def open_(flow: str, hop: str) -> str:
    """How many copies are missing there."""
    return f'tracker_findings{{flow="{flow}",hop="{hop}",kind="under_replicated",status="open",instance="t"}}'


def _findings(alert: str, kind: str, summary: str, lasting: int) -> Scene:
    """Three findings from 60 s on; they are open for `lasting` + 60 s, then recovered."""
    bad = (lasting + 60) // STEP
    series = f'tracker_findings{{flow="orders",hop="billing",kind="{kind}",status="open",instance="t",job="tracker"}}'
    return Scene(
        alert,
        {
            series: f"0x3 3x{bad} 0x40",
            series.replace("open", "recovered"): "0x3 0x40 9x100",
            series.replace(kind, "other"): "5x200",
        },
        60 + lasting - STEP,
        60 + lasting + STEP,
        60 + lasting + 120,
        summary,
        {"flow": "orders", "hop": "billing"},
    )


def _gauge(alert: str, series: str, good: str, bad: str, lasting: int, summary: str, **rest: Any) -> Scene:
    """Good for a minute, then bad for as long as the alert waits and a minute more, then good."""
    steps = (lasting + 60) // STEP
    return Scene(alert, {series: f"{good}x3 {bad}x{steps} {good}x200"}, 60 + lasting - STEP, 60 + lasting + STEP,
                 60 + lasting + 120, summary, **rest)  # fmt: skip


def _full(alert: str, taken: str, limit: str, summary: str) -> Scene:
    """Three quarters of it are taken for a while. At another tracker as much is little, and a third one has none."""
    labels = '{{instance="{}",job="tracker"}}'
    series = {
        (taken + labels).format("t"): "0x3 300x11 0x40",
        (limit + labels).format("t"): "400x60",
        (taken + labels).format("u"): "300x60",
        (limit + labels).format("u"): "4000x60",
        (taken + labels).format("v"): "0x60",
        (limit + labels).format("v"): "0x60",
    }
    return Scene(alert, series, 165, 195, 300, summary, T)


def _refused(status: str, reason: str) -> str:
    return f'tracker_ingest_refused_total{{status="{status}",reason="{reason}",instance="t",job="tracker"}}'


def _restarts(worker: str) -> str:
    return f'tracker_worker_restarts_total{{thread="{worker}",instance="t",job="tracker"}}'


def _archive(collector: str) -> str:
    return f'collector_archive_failures_total{{collector="{collector}",kind="kafka",instance="c",job="collectors"}}'


def _state(collector: str, state: str) -> str:
    return f'collector_state{{collector="{collector}",kind="kafka",state="{state}",instance="c",job="collectors"}}'


def _burning(alert: str, pair: Pair, summary: str) -> Scene:
    """A pair of windows that just does not burn too fast, then one of which both do, then only the long one still."""
    rate = 'tracker_delivery_burn_rate{{flow="orders",window="{}",instance="t",job="tracker"}}'
    limit, above = f"{pair.rate:g}", f"{pair.rate + 1:g}"
    names = [say(window * SECOND) for window in (pair.long, pair.short)]
    return Scene(
        alert,
        {
            **{rate.format(say(w * SECOND)): "0x40" for w in WINDOWS if say(w * SECOND) not in names},
            rate.format(names[0]): f"{limit}x7 {above}x20",
            rate.format(names[1]): f"{above}x15 {limit}x20",
            rate.format(names[0]).replace("orders", "others"): f"{above}x40",
            rate.format(names[1]).replace("orders", "others"): f"{limit}x40",
        },
        105,
        120,
        255,
        summary,
        {"flow": "orders"},
    )


PLACE = {"flow": "orders", "hop": "billing", "stage": "ack"}

SCENES = (
    Scene(
        "HopSilent",  # two flows at kafka-eu from 60 s on, one of them at another hop, too; both are back at 255 s
        {
            watermark("orders", "kafka-eu"): "0+15x4 60x12 255+15x40",
            watermark("parcels", "kafka-eu"): "0+15x4 60x12 255+15x40",
            watermark("orders", "kafka-us"): "0+15x4 60x12 255+15x40",
            watermark("parcels", "kafka-us"): "0+15x80",
            watermark("orders", "billing"): "0+15x4 60x80",
        },
        150,
        195,
        300,
        "kafka-eu: no flow is vouched for any more, orders for 2m 15s",
        {"flow": "orders", "hop": "kafka-eu"},
        ("parcels",),
    ),
    Scene(
        "HopFailing",  # an hour in which all is well, then three of six flows, at another hop two, at a third of seven
        {
            store_up("t"): "1x600",
            **{watermark(flow, "kafka-us"): "0+15x600" for flow in (*FLOWS, "d", "e", "f")},
            **{open_(flow, "kafka-us"): "0x243 3x300" for flow in FLOWS[:2]},
            open_(FLOWS[2], "kafka-us"): "_x244 3x300",
            **{open_(flow, "kafka-eu"): "0x243 3x300" for flow in FLOWS[:2]},
            **{watermark(flow, "billing"): "0+15x600" for flow in (*FLOWS, "d", "e", "f", "g")},
            **{open_(flow, "billing"): "0x243 3x300" for flow in FLOWS},
        },
        3660,
        3690,
        7290,
        "kafka-us: messages of at least half of its flows are missing, 3 of orders",
        {"flow": "orders", "hop": "kafka-us"},
        ("parcels", "letters"),
    ),
    _findings("MessagesLost", "lost", "3 of orders lost at billing", 30),
    _findings("MessagesUnacknowledged", "unacknowledged", "3 of orders not acknowledged by billing", 30),
    _findings("MessagesDivergent", "divergent", "3 of orders changed on the way to billing", 30),
    _findings("MessagesUnderReplicated", "under_replicated", "3 of orders not copied to billing", 300),
    _findings("MessagesDeadLettered", "dead_lettered", "3 of orders dead-lettered by billing", 300),
    _burning("DeliveryBudgetBurningFast", PAIRS[1], "orders: the error budget goes 7 times faster than allowed"),
    _burning("DeliveryBudgetBurningSlowly", PAIRS[2],
             "orders: for a day or more the error budget goes 4 times faster than allowed"),
    Scene(
        "DeliveryObjectiveMissed",
        {
            'tracker_delivery_ratio{flow="orders",instance="t",job="tracker"}': "1x3 0.95x44 0.9995x40",
            'tracker_delivery_target{flow="orders",instance="t",job="tracker"}': "0.999x100",
        },
        645,
        675,
        780,
        "orders: 95% delivered in time, less than promised",
        {"flow": "orders"},
    ),
    _gauge("ObjectiveMissed", 'tracker_objective_met{flow="orders",objective="latency_p99",instance="t",job="tracker"}',
           "1", "0", 600, "orders does not keep its objective latency_p99",
           labels={"flow": "orders", "objective": "latency_p99"}),
    Scene(
        "ObjectivesNotJudged",  # worked out until 60 s, then not until 600 s
        {'tracker_slo_timestamp_seconds{instance="t",job="tracker"}': "0+15x4 60x35 600+15x40"},
        465,
        495,
        630,
        "burn rates are 7m 15s old",
        T,
    ),
    Scene(
        "RecoveryObjectiveMissed",  # then nothing of the last day is missing
        {
            'tracker_recovery_back_seconds{flow="orders",percentile="p90",instance="t",job="tracker"}': (
                "60x3 1200x24 _x60"
            ),
            'tracker_recovery_target_seconds{flow="orders",percentile="p90",instance="t",job="tracker"}': "900x100",
            'tracker_recovery_back_seconds{flow="orders",percentile="p50",instance="t",job="tracker"}': "30x100",
            'tracker_recovery_target_seconds{flow="orders",percentile="p50",instance="t",job="tracker"}': "120x100",
        },
        345,
        375,
        800,
        "orders: p90 of what was missing back after 20m 0s",
        {"flow": "orders", "percentile": "p90"},
    ),
    _gauge("Anomaly", 'tracker_anomalies{flow="orders",hop="billing",signal="latency",instance="t",job="tracker"}', "0",
           "1", 0, "orders: latency is not as usual at billing",
           labels={"flow": "orders", "hop": "billing", "signal": "latency"}),
    Scene(
        "CoverageStalled",  # reports until 60 s, then none for three hours, then again
        {
            'tracker_watermark_timestamp_seconds{flow="orders",hop="billing",stage="ack",instance="t",job="tracker"}': (
                "0+15x4 60x720 10875+15x40"
            ),
        },
        165,
        10800,
        10935,
        "orders: billing:ack not vouched for: 2h 59m 0s",
        PLACE,
    ),
    Scene(
        "BlindSpot",
        {
            'tracker_blind_spots{flow="orders",hop="billing",stage="ack",cause="hole"}': "0x3 1x24 _x40",
            'tracker_blind_spots{flow="orders",hop="billing",stage="ack",cause="behind"}': "1x100",
            'tracker_blind_spots{flow="orders",hop="billing",stage="ack",cause="not_announced"}': "1x100",
        },
        345,
        375,
        800,
        "orders: blind at billing:ack (hole)",
        {**PLACE, "cause": "hole"},
    ),
    Scene(
        "CollectorUnavailable",  # unavailable from 60 s on, then failed, then running again at 480 s
        {
            _state("kafka-eu", "running"): "1x3 0x28 1x40",
            _state("kafka-eu", "unavailable"): "0x3 1x14 0x60",
            _state("kafka-eu", "failed"): "0x18 1x13 0x40",
            _state("other", "waiting"): "1x80",
        },
        345,
        375,
        500,
        "collector kafka-eu (kafka) on c cannot read",
        {"collector": "kafka-eu", "kind": "kafka", "instance": "c"},
    ),
    Scene(
        "CollectorSpoolFilling",
        {
            'collector_spool_bytes{collector="kafka-eu",kind="kafka",instance="c",job="collectors"}': "8x3 192x12 8x40",
            'collector_spool_limit_bytes{collector="kafka-eu",kind="kafka",instance="c",job="collectors"}': "256x80",
            'collector_spool_bytes{collector="other",kind="kafka",instance="c",job="collectors"}': "179x80",
            'collector_spool_limit_bytes{collector="other",kind="kafka",instance="c",job="collectors"}': "256x80",
        },
        165,
        195,
        300,
        "spool of collector kafka-eu on c: 75% full",
        {"collector": "kafka-eu", "kind": "kafka", "instance": "c"},
    ),
    Scene(
        "CollectorArchiveAway",  # it fails every 30 s from 60 s to 480 s; another one failed once
        {
            _archive("kafka-eu"): f"0x3 {' '.join(f'{n}x1' for n in range(1, 15))} 15x40",
            _archive("other"): "0x3 1x80",
        },
        345,
        390,
        660,
        "archive of collector kafka-eu on c cannot be written",
        {"collector": "kafka-eu", "kind": "kafka", "instance": "c"},
    ),
    Scene(
        "CollectorConfigRefused",  # refused from 60 s on, put right at 180 s
        {
            'collectors_config_last_reload_successful{instance="c",job="collectors"}': "1x3 0x8 1x40",
            'collectors_config_last_reload_successful{instance="other",job="collectors"}': "1x60",
        },
        105,
        135,
        240,
        "collectors on c refused their configuration",
        {"instance": "c"},
    ),
    Scene(
        "TrackerDown",  # one of two answers until 60 s, and again from 180 s on
        {'up{job="tracker",instance="t"}': "1x3 0x8 1x40", 'up{job="tracker",instance="u"}': "0x60"},
        105,
        135,
        240,
        "no tracker answers Prometheus",
        {"job": "tracker"},
    ),
    Scene(
        "TrackerInstanceDown",  # another one answers; of the last test's job none does
        {'up{job="tracker",instance="t"}': "1x3 0x24 1x40", 'up{job="tracker",instance="u"}': "1x80",
         'up{job="collectors",instance="c"}': "0x80"},
        345,
        375,
        500,
        "the tracker on t does not answer Prometheus; another one does",
        T,
    ),
    _gauge("StoreDown", 'tracker_store_up{instance="t",job="tracker"}', "1", "0", 60,
           "the tracker's store does not answer", labels=T),
    Scene(
        "MetricsOld",  # read until 60 s, then not until 600 s
        {'tracker_read_timestamp_seconds{instance="t",job="tracker"}': "0+15x4 60x35 600+15x40"},
        210,
        255,
        660,
        "findings and coverage as Prometheus sees them are 3m 15s old",
        T,
    ),
    Scene(
        "BooksOld",  # counted until 60 s, then not until 6,000 s
        {'tracker_counted_timestamp_seconds{instance="t",job="tracker"}': "0+15x4 60x395 6000+15x40"},
        2700,
        2775,
        6060,
        "messages and books as Prometheus sees them are 45m 15s old",
        T,
    ),
    Scene(
        "WorkerDown",  # it fails twice at 60 s, and again and again from 180 s to 300 s; another one failed twice
        {
            _restarts("reconcile"): "0x3 2x7 3+4x8 35x100",
            _restarts("replay"): "0x3 2x100",
            'tracker_thread_up{thread="reconcile",instance="t",job="tracker"}': "1x200",
        },
        165,
        270,
        1200,
        "worker reconcile of the tracker on t fails again and again, or has ended",
        {"thread": "reconcile", "instance": "t"},
    ),
    Scene(
        "ReconcilerStalled",  # no pass, as nothing comes; from 405 s on reports do, and passes only from 600 s on
        {
            store_up("t"): "1x100",
            'tracker_pass_finished_timestamp_seconds{instance="t",job="tracker"}': "0x39 600+15x40",
            'tracker_ingest_events_total{flow="orders",instance="t",job="tracker"}': "7x100",
            'tracker_ingest_reports_total{instance="t",job="tracker"}': "0x26 1+1x60",
        },
        390,
        510,
        700,
        "no pass has finished for 8m 30s though events come in",
    ),
    _gauge("ConservationBroken", 'tracker_conservation_difference{flow="orders",instance="t",job="tracker"}', "0", "-4",
           120, "orders: the books differ by -4 messages", labels={"flow": "orders"}),
    Scene(
        "IngestRefused",  # the spool is full from 60 s to 480 s; once there was no slot; others are the senders' affair
        {
            _refused("503", "spool"): "0x4 3+3x28 87x60",
            _refused("503", "slots"): "0x4 1x90",
            _refused("503", "share"): "0+9x100",
            _refused("503", "closing"): "0+9x100",
            _refused("413", "request"): "0+9x100",
        },
        345,
        420,
        840,
        "60 batches turned away in 5 minutes by the tracker on t: spool",
        {"reason": "spool", "instance": "t"},
    ),
    Scene(
        "SendersRefused",  # batches that are too large from 60 s to 780 s, and some that cannot be read
        {
            _refused("413", "request"): "0x4 3+3x48 147x60",
            _refused("400", "request"): "0x4 5x120",
            _refused("503", "spool"): "0+9x120",
        },
        645,
        720,
        1140,
        "60 batches of senders refused in 5 minutes on t: 413, request",
        {"status": "413", "reason": "request", "instance": "t"},
    ),
    _full("IngestMemoryFilling", "tracker_ingest_pending_bytes", "tracker_ingest_pending_limit_bytes",
          "75% of the memory for batches that wait to be stored is taken"),
    _full("SpoolFilling", "tracker_spool_bytes", "tracker_spool_limit_bytes", "the tracker's spool on t is 75% full"),
    _gauge("SpoolSetAside", 'tracker_spool_set_aside{instance="t",job="tracker"}', "0", "2", 60,
           "2 batches of the spool were set aside", labels=T),
    Scene(
        "QuarantineGrowing",
        {'tracker_ingest_quarantined_total{instance="t",job="tracker"}': "0x4 5x100"},
        60,
        120,
        1080,
        "lines went to quarantine",
        {"instance": "t"},
    ),
    _gauge("StorePartsMany", 'tracker_store_parts{table="events",instance="t",job="tracker"}', "12", "900", 600,
           "900 active parts in table events", labels={"table": "events"}),
    _gauge("ReplayWaiting", 'tracker_replays{status="awaiting_approval",instance="t",job="tracker"}', "0", "2", 900,
           "2 replays are awaiting_approval", labels={"status": "awaiting_approval"}),
    _gauge("ReplayInDoubt", 'tracker_replay_messages{state="in_doubt",instance="t",job="tracker"}', "0", "7", 900,
           "7 messages of replays: sent or not is not known", labels={"state": "in_doubt"}),
    Scene("Watchdog", {'up{job="tracker",instance="t"}': "1x3 0x8 1x40"}, 0, 135, 240,
          "Prometheus evaluates the tracker's rules, and Alertmanager tells of it", always=True),
)  # fmt: skip

ALSO = (
    _gauge("Anomaly", 'tracker_anomalies{flow="orders",hop="",signal="volume",instance="t",job="tracker"}', "0", "1", 0,
           "orders: volume is not as usual", labels={"flow": "orders", "signal": "volume"}),
    _gauge("WorkerDown", 'tracker_thread_up{thread="commit",instance="t",job="tracker"}', "1", "0", 60,
           "worker commit of the tracker on t fails again and again, or has ended",
           labels={"thread": "commit", "instance": "t"}),
)  # fmt: skip
"""Other ways in which one fires."""
