from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.alert_scenes import ALSO, FLOWS, SCENES, Scene, open_, store_up, watermark
from tracker.alerting.alert import OPERATIONS, Alert
from tracker.alerting.generate import FILE
from tracker.alerting.rules import alerts
from tracker.model.units import SECOND, say
from tracker.slo.burn import WINDOWS, burn_rate
from tracker.slo.metrics import BURN_RATE

pytestmark = pytest.mark.brokers


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """Every expression and template can be read by Prometheus."""
    checked = subprocess.run([promtool, "check", "rules", str(FILE)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_every_alert_has_a_scene() -> None:
    """No alert is left untested."""
    assert [scene.alert for scene in SCENES] == [alert.name for alert in alerts()]


@pytest.mark.parametrize("scene", [*SCENES, *ALSO], ids=lambda scene: scene.alert)
def test_it_fires_is_quiet_and_resolves(scene: Scene, promtool: str, tmp_path: Path) -> None:
    """The alert is quiet while all is well and until its time has passed, then fires with the labels, summary and links
    that a person needs, and is over once all is well again. Series that look alike do not set it off."""
    _passes(promtool, tmp_path, scene.alert, scene.test(_alert(scene)))


OWNED = 'tracker_flow_info{{flow="{}",owner="{}",severity="{}",instance="{}",job="tracker"}}'
ODD = 'team "odd" {{ x }} ü'


@pytest.mark.parametrize("scene", [one for one in SCENES if "flow" in one.labels], ids=lambda scene: scene.alert)
def test_a_flow_has_an_owner_and_may_wake_nobody(scene: Scene, promtool: str, tmp_path: Path) -> None:
    """Its owner gets what is about the flow, also while trackers show two versions of its spec: the newest one counts.
    Where that says `severity: ticket`, no alert about it is a page, also if operations gets it."""
    told = {
        OWNED.format("orders", "team-old", "page", "t"): "3x800",
        OWNED.format("orders", ODD.replace('"', r"\""), "ticket", "u"): "4x800",
    }
    alert = _alert(scene)
    shown = replace(scene, series={**scene.series, **told}, severity="ticket", owner=ODD if alert.owned else OPERATIONS)
    _passes(promtool, tmp_path, scene.alert, shown.test(alert))


@pytest.mark.parametrize("scene", [one for one in SCENES if one.alike], ids=lambda scene: scene.alert)
def test_several_trackers_on_one_store_say_it_once(scene: Scene, promtool: str, tmp_path: Path) -> None:
    """Two trackers show the same, and it is one alert with the same numbers. Two others have lost the store: what they
    read last, good or bad, neither hides what is so now, nor sets it off, nor keeps it up."""
    _passes(promtool, tmp_path, scene.alert, scene.among().test(_alert(scene)))


@pytest.mark.parametrize(
    "series",
    [
        {open_(flow, "kafka-us"): "3x240 stale _x8 3x600" for flow in FLOWS} | {store_up("t"): "1x240 stale _x8 1x600"},
        {open_(flow, "kafka-us"): "3x600" for flow in FLOWS}
        | {open_(flow, "kafka-us").replace('"t"', '"u"'): "_x240 3x600" for flow in FLOWS}
        | {store_up("t"): "1x600", store_up("u"): "_x240 1x600"},
        {open_(flow, "kafka-us"): "3x600" for flow in FLOWS} | {store_up("t"): "1x600"},
    ],
    ids=["a restart", "another tracker", "Prometheus is new"],
)
def test_old_findings_are_no_outage(series: dict[str, str], promtool: str, tmp_path: Path) -> None:
    """What has been open for hours sets no HopFailing off when its samples of an hour ago are missing, since the
    tracker was restarted then, or was seen for the first time; nor when a second tracker shows it, too."""
    marks = {watermark(flow, "kafka-us"): "0+15x900" for flow in FLOWS}
    every = [{"series": name, "values": values} for name, values in (series | marks).items()]
    looks = [{"eval_time": f"{at}s", "alertname": "HopFailing", "exp_alerts": []} for at in range(60, 600 * 15, 60)]
    _passes(promtool, tmp_path, "HopFailing", {"interval": "15s", "input_series": every, "alert_rule_test": looks})


def _alert(scene: Scene) -> Alert:
    return next(alert for alert in alerts() if alert.name == scene.alert)


def _passes(promtool: str, folder: Path, alert: str, test: dict[str, Any]) -> None:
    """promtool finds of this alert what the test expects. Other rules are left out: hours of them take seconds."""
    kept = yaml.safe_load(FILE.read_text("utf-8"))["groups"]
    mine = [rule for group in kept for rule in group["rules"] if rule["alert"] == alert]
    rules, path = folder / "rules.yaml", folder / "tests.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "of-this-test", "rules": mine}]}))
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": [test]}))
    tested = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("share", "lasting", "pages_at"),
    [(0.03, 5, None), (0.03, 35, 29), (0.5, 5, 2), (0.0005, 120, None)],
    ids=["3 % for 5 minutes", "3 %", "50 %", "half of what is allowed, for 2 hours"],
)
def test_when_a_burning_budget_pages(
    share: float, lasting: int, pages_at: int | None, promtool: str, tmp_path: Path
) -> None:
    """After a clean hour of a flow that promises 99.9 %, that share of its messages is lost for so many minutes: nobody
    is woken before the minute named, and somebody is within it; half an hour later nobody is any more."""
    name, end = "DeliveryBudgetBurningFast", 60 + lasting
    looks = [60, end if pages_at is None else 60 + pages_at - 1, end + 40]
    tests = [{"eval_time": f"{at}m", "alertname": name, "exp_alerts": []} for at in looks]
    test: dict[str, Any] = {"interval": "15s", "input_series": burnt(share, lasting), "alert_rule_test": tests}
    if pages_at is not None:
        test["promql_expr_test"] = [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing", flow="orders", severity="page"}})',
                "eval_time": f"{60 + pages_at}m15s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ]
    _passes(promtool, tmp_path, name, test)


def burnt(share: float, lasting: int) -> list[dict[str, str]]:
    """Burn rates of the flow every 15 s: an hour of 50 good messages a second, then `lasting` minutes in which that
    share of them is bad, then good ones again. Counted as the store counts them, by passes in each window."""
    steps = [(0.0 if not 240 <= n < 240 + 4 * lasting else share) * 750 for n in range(240 + 4 * lasting + 240)]
    series = []
    for window in WINDOWS:
        rates = []
        for n in range(len(steps)):
            within = steps[max(0, n + 1 - window // 15) : n + 1]
            bad = round(sum(within))
            rates.append(burn_rate(750 * len(within) - bad, bad, 0.999, window, 15 * (n + 1)))
        labels = f'flow="orders",window="{say(window * SECOND)}",instance="t",job="tracker"'
        series.append({"series": f"{BURN_RATE.name}{{{labels}}}", "values": " ".join(f"{rate:.6g}" for rate in rates)})
    return series
