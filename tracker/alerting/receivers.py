"""The file in which a user keeps who is told how, by owner:

    global: {smtp_smarthost: 'mail.example.org:587', smtp_from: tracker@example.org}
    receivers:
      operations:
        page: {pagerduty_configs: [{routing_key_file: /etc/alertmanager/secrets/pagerduty}]}
        ticket: {email_configs: [{to: operations@example.org}]}
      team-payments:
        webhook_configs: [{url: 'https://chat.example.org/hooks/payments'}]
    watchdog: {webhook_configs: [{url: 'https://switch.example.org/tracker'}]}

What stands under an owner, or under its `page` and `ticket`, and under `watchdog` (a dead man's switch), is that of
Alertmanager (https://prometheus.io/docs/alerting/latest/configuration/#receiver), and so is `global`. Secrets stand in
files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from tracker.alerting.alert import OPERATIONS

SECRETS = ("auth_password", "auth_secret", "api_key", "api_secret", "bot_token", "token", "user_key", "password",
           "credentials", "bearer_token", "client_secret", "secret_key", "webhook_url", "slack_api_url")  # fmt: skip
"""What Alertmanager's documentation calls `<secret>`: keys of this name, or that end with it after a `_`."""
SECRETS_OF = {"pagerduty_configs": ("routing_key", "service_key"), "slack_configs": ("api_url",)}
"""Names that are a secret for one way of telling, and none for another."""
KEYS = {"global", "receivers", "watchdog"}
SEVERITIES = ("page", "ticket")
Ways = Mapping[str, Any]
"""How somebody is told: `webhook_configs` and the like, with their lists."""


class ReceiversError(ValueError):
    """The file cannot be used; says where and why."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """By owner, how pages and how tickets are told (None: this owner tells both alike); what is for all; and what is
    told all the time that alerts get through."""

    by_owner: Mapping[str, Mapping[str | None, Ways]] = field(default_factory=dict)
    common: Mapping[str, Any] = field(default_factory=dict)
    watchdog: Ways = field(default_factory=dict)


def parsed(text: str) -> Receivers:
    """What the file's text says. Raises ReceiversError."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ReceiversError(f"not readable as YAML: {error}") from None
    if not isinstance(raw, dict) or not raw.keys() <= KEYS or not _mapping(raw.get("receivers")):
        raise ReceiversError("has the keys `receivers`, a mapping by owner, `watchdog` and `global`, and no others")
    common = raw.get("global") or {}
    if not _mapping(common):
        raise ReceiversError("`global` is a mapping")
    _public("global", common, ())
    if OPERATIONS not in raw["receivers"]:
        raise ReceiversError(f"`receivers` has no `{OPERATIONS}`: who gets what belongs to no flow?")
    watchdog = _ways("watchdog", raw["watchdog"]) if "watchdog" in raw else {}
    return Receivers({owner: _ways_of(owner, said) for owner, said in raw["receivers"].items()}, common, watchdog)


def _ways_of(owner: object, said: object) -> Mapping[str | None, Ways]:
    if not isinstance(owner, str):
        raise ReceiversError(f"owner {owner!r}: quote what is meant as text")
    if not isinstance(said, dict) or not said:
        raise ReceiversError(f"{owner}: say how, as `webhook_configs: [...]`")
    if said.keys() == set(SEVERITIES):
        return {severity: _ways(f"{owner}.{severity}", said[severity]) for severity in SEVERITIES}
    if said.keys() & set(SEVERITIES):
        raise ReceiversError(f"{owner}: give both `page` and `ticket`, or neither")
    return {None: _ways(owner, said)}


def _ways(place: str, said: object) -> Ways:
    if not isinstance(said, dict) or not said:
        raise ReceiversError(f"{place}: say how, as `webhook_configs: [...]`")
    for name, several in said.items():
        if not str(name).endswith("_configs") or not isinstance(several, list) or not all(map(_mapping, several)):
            raise ReceiversError(f"{place}.{name}: Alertmanager's are lists as `webhook_configs: [{{url: ...}}]`")
        for number, one in enumerate(several):
            _public(f"{place}.{name}[{number}]", one, SECRETS_OF.get(name, ()))
    return said


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _public(place: str, value: object, also: Collection[str]) -> None:
    """No secret stands in it. Raises ReceiversError."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in also or any(key == name or str(key).endswith(f"_{name}") for name in SECRETS):
                raise ReceiversError(f"{place}.{key} is a secret: put it into a file, and name that in `{key}_file`")
            _public(f"{place}.{key}", inner, also)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _public(f"{place}[{number}]", inner, also)
    elif isinstance(value, str) and "://" in value and urlsplit(value).password:
        raise ReceiversError(
            f"{place} has a password: give it as `http_config: {{basic_auth: {{password_file: ...}}}}`"
        )
