"""What a real Alertmanager, and its own tool, make of the configuration that is rendered."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.brokers.kafka_topic import wait_for
from tests.docs.pages import ROOT, blocks
from tests.drills.paged import Pager
from tests.servers.prometheus import Alertmanager
from tracker.alerting.alert import OPERATIONS
from tracker.alerting.receivers import parsed
from tracker.alerting.routing import rendered
from tracker.alerting.rules import alerts

pytestmark = pytest.mark.brokers

BY_NAME = {alert.name: alert for alert in alerts()}
ODD = 'team "odd" {{ x }} ü'
TOLD = f"""
receivers:
  operations: {{page: {{webhook_configs: [{{url: 'PAGER/operations-page'}}]}},
               ticket: {{webhook_configs: [{{url: 'PAGER/operations-ticket'}}]}}}}
  team-payments: {{webhook_configs: [{{url: 'PAGER/team-payments'}}]}}
  '{ODD}': {{webhook_configs: [{{url: 'PAGER/odd'}}]}}
watchdog: {{webhook_configs: [{{url: 'PAGER/switch', send_resolved: false}}]}}
"""


def fires(name: str, owner: str = OPERATIONS, **labels: str) -> dict[str, str]:
    """The labels of that alert as Prometheus sends it."""
    alert = BY_NAME[name]
    return {"alertname": name, "severity": alert.severity, "owner": owner, "incident_kind": alert.runbook, **labels}


class Running:
    """An Alertmanager with the rendered routes, and who is told by it."""

    def __init__(self, server: Alertmanager, pager: Pager) -> None:
        self.server, self.pager = server, pager

    def post(self, *firing: dict[str, str]) -> None:
        """As Prometheus does, one alert after another."""
        for labels in firing:
            httpx.post(f"{self.server.url}/api/v2/alerts", json=[{"labels": labels}]).raise_for_status()

    def silenced(self) -> dict[tuple[str, str], set[str]]:
        """(alert, its flow) -> the names of those that silence it."""
        every = httpx.get(f"{self.server.url}/api/v2/alerts").json()
        names = {one["fingerprint"]: one["labels"]["alertname"] for one in every}
        return {
            (one["labels"]["alertname"], one["labels"].get("flow", "")): {
                names[by] for by in one["status"]["inhibitedBy"]
            }
            for one in every
            if one["status"]["inhibitedBy"]
        }

    def told(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        """Each notification: to whom, and (alert, flow, hop) of all in it."""
        return [
            (body["receiver"], sorted(
                (one["labels"]["alertname"], one["labels"].get("flow", ""), one["labels"].get("hop", ""))
                for one in body["alerts"]))
            for _, body in self.pager.told
        ]  # fmt: skip


@pytest.fixture
def running(alertmanager_server: Callable[[str], Alertmanager]) -> Iterator[Running]:
    """It waits one second for what belongs together, not ten; and tells the switch each second, not each minute."""
    pager = Pager()
    config = rendered([], parsed(TOLD.replace("PAGER/", pager.url)))
    assert "group_wait: 10s" in config
    assert "interval: 1m" in config
    quick = config.replace("group_wait: 10s", "group_wait: 1s").replace("interval: 1m", "interval: 1s")
    yield Running(alertmanager_server(quick), pager)
    pager.close()


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (fires("MessagesLost", "team-payments", flow="orders", hop="kafka-eu"), "team-payments"),
        (fires("MessagesDeadLettered", "team-payments", flow="orders", hop="billing"), "team-payments"),
        (fires("MessagesLost", ODD, flow="odd", hop="kafka-eu"), ODD),
        (fires("MessagesLost", "team-new", flow="new", hop="kafka-eu"), "operations/page"),
        (fires("MessagesDeadLettered", "team-new", flow="new", hop="billing"), "operations/ticket"),
        (fires("TrackerDown", job="tracker"), "operations/page"),
        (fires("Watchdog"), "watchdog"),
        (fires("StorePartsMany", table="events"), "operations/ticket"),
        (fires("HopFailing", flow="orders", hop="kafka-eu"), "operations/page"),
        (fires("HopFailing", flow="quiet", hop="kafka-eu", severity="ticket"), "operations/ticket"),
    ],
)
def test_who_is_told(labels: dict[str, str], receiver: str, amtool: str, tmp_path: Path) -> None:
    """amtool accepts the file and routes by owner and severity; owners that have no receiver are told of by operations;
    what is of a hop goes to operations, whichever flow shows it. A name may be of any characters."""
    path = tmp_path / "alertmanager.yaml"
    path.write_text(rendered([], parsed(TOLD.replace("PAGER/", "http://127.0.0.1:9/"))), "utf-8")
    checked = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    said = [f"{name}={_quoted(value)}" for name, value in labels.items()]
    command = [amtool, "config", "routes", "test", f"--config.file={path}", f"--verify.receivers={receiver}", *said]
    routed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert routed.returncode == 0, routed.stdout + routed.stderr


def test_the_example_of_the_page(amtool: str, tmp_path: Path) -> None:
    """The receivers and the command that docs/alerting.md shows lead to what it shows."""
    page = ROOT / "docs/alerting.md"
    [receivers], [shown] = blocks(page, "yaml"), [one for one in blocks(page, "text") if "amtool" in one]
    (tmp_path / "alerting").mkdir()
    (tmp_path / "alerting/alertmanager.yaml").write_text(rendered([], parsed(receivers)), "utf-8")
    command, expected = shown.removeprefix("$ amtool ").splitlines()
    routed = subprocess.run(
        [amtool, *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert routed.stdout.strip() == expected


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def test_one_incident_is_one_page(running: Running) -> None:
    """Two hops of one flow with the same kind of finding are one notification to its owner; another kind is one of its
    own, and so is a ticket."""
    mine = {"owner": "team-payments", "flow": "orders"}
    running.post(
        fires("MessagesUnacknowledged", **mine, hop="billing"),
        fires("MessagesUnacknowledged", **mine, hop="inventory"),
        fires("MessagesDivergent", **mine, hop="kafka-us"),
        fires("DeliveryBudgetBurningFast", **mine),
        fires("MessagesUnacknowledged", flow="parcels", hop="billing"),
    )
    wait_for(lambda: len(running.told()) >= 4, "four notifications", 20)
    assert sorted(running.told()) == [
        ("operations/page", [("MessagesUnacknowledged", "parcels", "billing")]),
        ("team-payments", [("DeliveryBudgetBurningFast", "orders", "")]),
        ("team-payments", [("MessagesDivergent", "orders", "kafka-us")]),
        ("team-payments", [("MessagesUnacknowledged", "orders", "billing"),
                           ("MessagesUnacknowledged", "orders", "inventory")]),
    ]  # fmt: skip


def test_an_outage_of_a_hop_is_one_page(running: Running) -> None:
    """The hop's own alert is one notification for all flows that it hits. What each of them would say about that hop,
    and about its budget, is silent; another hop's, and what of a flow that is not hit, is not."""
    hit = [{"flow": flow, "hop": "kafka-us"} for flow in ("orders", "parcels", "letters")]
    running.post(
        *(fires("HopFailing", **place) for place in hit),
        *(fires("MessagesUnderReplicated", "team-payments", **place) for place in hit),
        fires("MessagesLost", "team-payments", flow="orders", hop="kafka-us"),
        fires("DeliveryBudgetBurningFast", "team-payments", flow="orders", instance="t"),
        fires("DeliveryBudgetBurningSlowly", "team-payments", flow="orders", instance="t"),
        fires("MessagesLost", "team-payments", flow="orders", hop="kafka-eu"),
        fires("MessagesLost", "team-payments", flow="others", hop="kafka-us"),
        fires("MessagesDivergent", "team-payments", flow="orders", hop="kafka-us"),
    )
    wait_for(lambda: len(running.told()) >= 4, "four notifications", 20)
    assert sorted(running.told()) == [
        ("operations/page", sorted(("HopFailing", place["flow"], "kafka-us") for place in hit)),
        ("team-payments", [("MessagesDivergent", "orders", "kafka-us")]),
        ("team-payments", [("MessagesLost", "orders", "kafka-eu")]),
        ("team-payments", [("MessagesLost", "others", "kafka-us")]),
    ]
    assert {name for name, _ in running.silenced()} == {
        "MessagesUnderReplicated", "MessagesLost", "DeliveryBudgetBurningFast", "DeliveryBudgetBurningSlowly"
    }  # fmt: skip


def test_a_silent_hop_silences_its_collectors_alerts(running: Running) -> None:
    """For the flows that it names; one that stalls for itself is told, and silences its own blind spot only. That one
    of several trackers has lost its store silences none of it."""
    place = {"flow": "orders", "hop": "kafka-eu", "stage": "persist"}
    other = {"flow": "parcels", "hop": "billing", "stage": "ack"}
    running.post(
        fires("StoreDown", instance="u"),
        fires("HopSilent", flow="orders", hop="kafka-eu"),
        *(fires(name, **one) for one in (place, other) for name in ("CoverageStalled", "BlindSpot")),
        fires("BlindSpot", flow="parcels", hop="billing", stage="deliver"),
    )
    expected = {
        ("CoverageStalled", "orders"): {"HopSilent"},
        ("BlindSpot", "orders"): {"HopSilent", "CoverageStalled"},
        ("BlindSpot", "parcels"): {"CoverageStalled"},
    }
    wait_for(lambda: {key: by & expected.get(key, set()) for key, by in running.silenced().items()} and
             set(running.silenced()) == set(expected), "silence", 20)  # fmt: skip
    every = httpx.get(f"{running.server.url}/api/v2/alerts").json()
    loud = {
        (one["labels"]["alertname"], one["labels"].get("stage", ""))
        for one in every
        if not one["status"]["inhibitedBy"]
    }
    assert loud == {("StoreDown", ""), ("HopSilent", ""), ("CoverageStalled", "ack"), ("BlindSpot", "deliver")}


def test_the_tracker_being_down_silences_the_rest(running: Running) -> None:
    """Whatever comes from the tracker is silent while it is down; what collectors tell by themselves is not, nor that
    alerts get through."""
    running.post(
        fires("TrackerDown", job="tracker"),
        *(fires(name, flow="orders", hop="billing") for name in BY_NAME if name != "TrackerDown"),
    )
    loud = {"TrackerDown", "Watchdog"} | {name for name in BY_NAME if name.startswith("Collector")}
    silent = set(BY_NAME) - loud
    wait_for(lambda: {name for name, _ in running.silenced()} == silent, "silence", 20)
    assert {name for name, _ in running.silenced()} == silent


def test_the_switch_is_told_again_and_again(running: Running) -> None:
    """Only the switch hears of the alert that always fires, at once, and again while nothing is new: it would tell
    somebody else when it hears no more."""
    running.post(fires("Watchdog"), fires("MessagesLost", flow="orders", hop="kafka-eu"))
    wait_for(lambda: sum(to == "watchdog" for to, _ in running.told()) >= 3, "the third time", 30)
    assert [told for told in running.told() if told[0] != "watchdog"] == [
        ("operations/page", [("MessagesLost", "orders", "kafka-eu")])
    ]


def test_a_finding_silences_only_what_it_explains(running: Running) -> None:
    """A message that is missing explains a delivery objective that is missed, one that differs that of divergence, too;
    neither explains a producer that makes nothing any more. A dead letter, or a copy that is missing, may be open for
    months, and silences nothing. A budget that goes fast is never silenced: it got much worse."""
    delivery = ("DeliveryBudgetBurningFast", "DeliveryBudgetBurningSlowly", "DeliveryObjectiveMissed")
    found = {
        "a": "MessagesLost",
        "b": "MessagesUnacknowledged",
        "c": "MessagesDivergent",
        "d": "MessagesUnderReplicated",
        "e": "MessagesDeadLettered",
    }
    running.post(
        *(fires(name, flow=flow, hop="kafka-eu") for flow, name in found.items()),
        *(fires(name, flow=flow) for flow in found for name in (*delivery, "RecoveryObjectiveMissed")),
        *(fires("ObjectiveMissed", flow=flow, objective=objective)
          for flow in found for objective in ("freshness", "throughput", "coverage", "divergence")),
    )  # fmt: skip
    slow = {(name, flow): {found[flow]} for flow in "abc" for name in delivery[1:]}
    expected = slow | {("ObjectiveMissed", "c"): {"MessagesDivergent"}}
    wait_for(lambda: running.silenced() == expected, "silence", 20)
    every = httpx.get(f"{running.server.url}/api/v2/alerts").json()
    hidden = [one["labels"] for one in every if one["status"]["inhibitedBy"]]
    assert [one["objective"] for one in hidden if one["alertname"] == "ObjectiveMissed"] == ["divergence"]


def test_installations_are_apart(alertmanager_server: Callable[[str], Alertmanager]) -> None:
    """One cluster's tracker being down does not silence another cluster's alerts."""
    told = parsed(TOLD.replace("PAGER/", "http://127.0.0.1:9/"))
    running = Running(alertmanager_server(rendered([], told, ["cluster"])), Pager())
    running.post(
        fires("TrackerDown", cluster="eu"),
        fires("MessagesLost", cluster="us", flow="us-orders", hop="a"),
        fires("MessagesLost", cluster="eu", flow="eu-orders", hop="a"),
    )
    wait_for(lambda: running.silenced(), "silence", 20)
    running.pager.close()
    assert running.silenced() == {("MessagesLost", "eu-orders"): {"TrackerDown"}}
