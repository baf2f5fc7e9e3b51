"""Alertmanager's configuration as text; what Alertmanager does with it is tested in tests/brokers/test_routing.py."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tracker.alerting.alert import OPERATIONS
from tracker.alerting.receivers import Receivers, ReceiversError, parsed
from tracker.alerting.routing import rendered, untold
from tracker.alerting.rules import alerts

TOLD = """
global: {smtp_smarthost: 'mail.example.org:587', smtp_from: tracker@example.org}
receivers:
  operations:
    page: {pagerduty_configs: [{routing_key_file: /secrets/pagerduty}]}
    ticket: {email_configs: [{to: operations@example.org}]}
  team-payments:
    webhook_configs: [{url: 'https://chat.example.org/hooks/payments'}]
watchdog: {webhook_configs: [{url_file: /secrets/switch}]}
"""


def _config(*owners: str, text: str = TOLD, apart: tuple[str, ...] = ()) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(rendered(owners, parsed(text) if text else Receivers(), apart))
    return config


def test_receivers_are_the_files() -> None:
    """Each owner's ways are copied as they stand, pages and tickets apart where the owner has them apart."""
    config = _config()
    assert config["global"]["smtp_from"] == "tracker@example.org"
    assert {one.pop("name"): one for one in config["receivers"]} == {
        "operations/page": {"pagerduty_configs": [{"routing_key_file": "/secrets/pagerduty"}]},
        "operations/ticket": {"email_configs": [{"to": "operations@example.org"}]},
        "team-payments": {"webhook_configs": [{"url": "https://chat.example.org/hooks/payments"}]},
        "watchdog": {"webhook_configs": [{"url_file": "/secrets/switch"}]},
    }


def test_without_a_file_every_owner_has_a_receiver_that_tells_nobody() -> None:
    """The names are there to be filled in."""
    named = [one["name"] for one in _config("team-b", "team-a", text="")["receivers"]]
    assert named == [
        OPERATIONS,
        "team-a",
        "team-b",
        "watchdog",
    ]


def test_owners_that_nobody_told_of() -> None:
    """An owner that the file does not name is said; without a file there is nothing to say."""
    assert untold(["team-payments", "team-new", "", "operations"], parsed(TOLD)) == ["team-new"]
    assert untold(["team-new"], Receivers()) == []


def test_every_alert_that_is_named_exists() -> None:
    """No rule that silences waits for an alert that was renamed, and none silences itself."""
    known = {alert.name for alert in alerts()}
    for rule in _config(text="")["inhibit_rules"]:
        [source], [target, *_] = rule["source_matchers"], rule["target_matchers"]
        sources, targets = (set(re.findall(r'"(.*)"', one)[0].split("|")) for one in (source, target))
        assert sources | targets <= known
        assert not sources & targets


def test_what_is_apart_stays_apart() -> None:
    """A label that tells installations apart is in every group and in every rule that silences."""
    config = _config(apart=("cluster",))
    routes = [config["route"], *config["route"]["routes"]]
    assert all("cluster" in route["group_by"] for route in routes if "group_by" in route)
    assert all("cluster" in rule["equal"] for rule in config["inhibit_rules"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a", "has the keys `receivers`"),
        ("receivers: {}\nroutes: {}", "has the keys `receivers`"),
        ("receivers: {team: {webhook_configs: [{url: 'http://x'}]}}", "no `operations`"),
        ("receivers: {operations: {}}", "operations: say how"),
        ("receivers: {operations: {webhook_configs: []}}\nwatchdog: {url: x}", "watchdog.url: Alertmanager's are"),
        ("receivers: {operations: {webhook: [{url: 'http://x'}]}}", "operations.webhook: Alertmanager's are lists"),
        ("receivers: {operations: {webhook_configs: {url: 'http://x'}}}", "operations.webhook_configs: Alertmanager's"),
        ("receivers: {operations: {page: {webhook_configs: []}}}", "give both `page` and `ticket`"),
        ("receivers: {operations: {slack_configs: [{api_url: 'https://x'}]}}",
         r"operations.slack_configs\[0\].api_url is a secret: put it into a file, and name that in `api_url_file`"),
        ("receivers: {operations: {pagerduty_configs: [{routing_key: k}]}}", "name that in `routing_key_file`"),
        ("receivers: {operations: {webhook_configs: [{url: 'http://x', http_config: {basic_auth: {password: p}}}]}}",
         "http_config.basic_auth.password is a secret"),
        ("receivers: {operations: {webhook_configs: [{url: 'https://me:pw@x'}]}}", "has a password"),
        ("global: {smtp_auth_password: p}\nreceivers: {operations: {email_configs: [{to: a}]}}",
         "global.smtp_auth_password is a secret"),
        ("receivers: {1: {webhook_configs: []}, operations: {webhook_configs: []}}", "owner 1: quote"),
        ("receivers: [", "not readable as YAML"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    """Above all a secret that stands in it: Alertmanager reads those from files, and the configuration is shown."""
    with pytest.raises(ReceiversError, match=reason):
        parsed(text)


def test_a_routing_key_that_is_no_secret_may_stand_there() -> None:
    """VictorOps calls the name of a team so."""
    text = "receivers: {operations: {victorops_configs: [{routing_key: team, api_key_file: /secrets/vo}]}}"
    assert parsed(text).by_owner[OPERATIONS]


def test_names_that_collide_are_refused() -> None:
    """An owner named like another one's receiver would get its alerts."""
    text = TOLD.replace("  team-payments:", "  operations/page:")
    with pytest.raises(ReceiversError, match="two receivers would be named 'operations/page'"):
        rendered([], parsed(text))
    with pytest.raises(ReceiversError, match="an owner is named 'watchdog'"):
        rendered(["watchdog"], Receivers())
