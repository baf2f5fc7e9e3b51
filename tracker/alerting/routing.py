"""Alertmanager's configuration: who is told of an alert, what is told together, and what is not told because another
alert explains it (https://prometheus.io/docs/alerting/latest/configuration/). docs/adr/0044 says why so."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from tracker.alerting.alert import OPERATIONS
from tracker.alerting.outages import KIND
from tracker.alerting.receivers import SEVERITIES, Receivers, ReceiversError, Ways
from tracker.alerting.rules import GROUPS
from tracker.alerting.watchdog import NAME as WATCHDOG

NAME = "alertmanager.yaml"
TOGETHER = ("flow", "incident_kind")
"""Alerts with the same of these are one notification: an incident that shows at several hops is one."""
AGAIN = {"page": "1h", "ticket": "4h"}
"""What is still so is told again after this."""
WAITING, BETWEEN = "10s", "5m"
APART = ("collecting", "watchdog")
"""Groups that do not come from the tracker: they stay true and loud while it is down."""
SWITCH, OFTEN = "watchdog", "1m"
"""The receiver of the alert that always fires, and how often it is told: a switch waits for about five minutes."""
PLACE = ("hop", "incident_kind")
"""Of an outage of a hop: one notification for all its flows."""
OF_STORE = ("WorkerDown", "IngestRefused", "IngestMemoryFilling", "MetricsOld", "BooksOld", "ObjectivesNotJudged")
MISSING = ("MessagesLost", "MessagesUnacknowledged", "MessagesUnderReplicated")
BAD = ("MessagesLost", "MessagesUnacknowledged", "MessagesDivergent")
"""Findings that wake somebody, and that count against the delivery objective. Copies that are missing and dead letters
are tickets that may be open for months: they silence nothing."""
DELIVERY = ("DeliveryBudgetBurningSlowly", "DeliveryObjectiveMissed")
"""Tickets only: a budget that goes fast wakes somebody though a finding is open, which may have been so for days."""


class Explained(NamedTuple):
    """While an alert of `sources` fires, those of `targets` are not told that have the same `labels`, and that
    `of` (a label and its value) where that is given."""

    sources: Sequence[str]
    targets: Sequence[str]
    labels: Sequence[str] = ()
    of: tuple[str, str] | None = None


EXPLAINED: Sequence[Explained] = (
    Explained(("StoreDown",), OF_STORE, ("instance",)),
    Explained(("HopSilent",), ("CoverageStalled", "BlindSpot"), ("flow", "hop")),
    Explained(("HopFailing",), MISSING, ("flow", "hop")),
    Explained(("HopFailing",), ("DeliveryBudgetBurningFast",), ("flow",)),
    Explained(("CoverageStalled",), ("BlindSpot",), ("flow", "hop", "stage")),
    Explained(BAD, DELIVERY, ("flow",)),
    Explained(("MessagesDivergent",), ("ObjectiveMissed",), ("flow",), ("objective", "divergence")),
)


def rendered(owners: Collection[str], receivers: Receivers, apart: Sequence[str] = (), head: str = "") -> str:
    """The configuration. Each owner that `receivers` names has a route of its own; where it names none, each of
    `owners`, and nobody is told yet. Others' alerts go to operations. `apart`: external labels that tell installations
    with one Alertmanager apart: nothing of one is told with, or silenced by, what is of another.

    Raises ReceiversError where two receivers would have one name.
    """
    if SWITCH in receivers.by_owner or SWITCH in owners:
        raise ReceiversError(f"an owner is named {SWITCH!r}, as what is told that all this works: rename it")
    ways = receivers.by_owner or {owner: {None: {}} for owner in sorted({*owners, OPERATIONS})}
    config: dict[str, Any] = {"global": dict(receivers.common)} if receivers.common else {}
    config["route"] = {
        "receiver": _name(OPERATIONS, "ticket", ways),
        "group_by": [*apart, *TOGETHER],
        "group_wait": WAITING,
        "group_interval": BETWEEN,
        "repeat_interval": AGAIN["ticket"],
        "routes": [
            _switch(apart),
            {**_of(OPERATIONS, [_is("incident_kind", KIND)], ways), "group_by": [*apart, *PLACE]},
            *(_of(owner, [_is("owner", owner)], ways) for owner in sorted(ways) if owner != OPERATIONS),
            _pages(OPERATIONS, ways),
        ],
    }
    config["receivers"] = _receivers({**ways, SWITCH: {None: receivers.watchdog}})
    config["inhibit_rules"] = list(_silences(apart))
    return head + yaml.safe_dump(config, sort_keys=False, width=118, allow_unicode=True)


def untold(owners: Iterable[str], receivers: Receivers) -> list[str]:
    """Owners of flows that the file does not name: operations gets their alerts."""
    return sorted({owner for owner in owners if owner} - set(receivers.by_owner)) if receivers.by_owner else []


def _name(owner: str, severity: str, ways: Mapping[str, Mapping[str | None, Ways]]) -> str:
    return owner if None in ways[owner] else f"{owner}/{severity}"


def _of(owner: str, matchers: Sequence[str], ways: Mapping[str, Mapping[str | None, Ways]]) -> dict[str, Any]:
    """What matches is told to this owner, tickets and pages each in their way."""
    return {"matchers": matchers, "receiver": _name(owner, "ticket", ways), "routes": [_pages(owner, ways)]}


def _switch(apart: Sequence[str]) -> dict[str, Any]:
    often = {"group_wait": "0s", "group_interval": OFTEN, "repeat_interval": OFTEN}
    return {"matchers": [_is("alertname", WATCHDOG)], "receiver": SWITCH, "group_by": [*apart, "alertname"], **often}


def _pages(owner: str, ways: Mapping[str, Mapping[str | None, Ways]]) -> dict[str, Any]:
    """A route of their own, so that a page never waits for the interval of a ticket's group."""
    receiver = _name(owner, "page", ways)
    return {"matchers": [_is("severity", "page")], "receiver": receiver, "repeat_interval": AGAIN["page"]}


def _receivers(ways: Mapping[str, Mapping[str | None, Ways]]) -> list[dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for owner in sorted(ways):
        for severity, how in ways[owner].items():
            name = _name(owner, severity or SEVERITIES[0], ways)
            if name in made:
                raise ReceiversError(f"two receivers would be named {name!r}: rename an owner")
            made[name] = {"name": name, **how}
    return list(made.values())


def _silences(apart: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each of a source's targets that has the same of these labels is not told while the source fires."""
    from_tracker = [alert.name for name, group in GROUPS.items() if name not in APART for alert in group]
    rest = [name for name in from_tracker if name != "TrackerDown"]
    for sources, targets, same, of in (Explained(("TrackerDown",), rest), *EXPLAINED):
        equal = {"equal": [*apart, *same]} if apart or same else {}
        only = [_is(*of)] if of else []
        yield {"source_matchers": [_named(sources)], "target_matchers": [_named(targets), *only], **equal}


def _named(names: Sequence[str]) -> str:
    return f'alertname =~ "{"|".join(names)}"' if len(names) > 1 else _is("alertname", names[0])


def _is(label: str, value: str) -> str:
    """A matcher; its quoting is JSON's as far as names of owners go."""
    return f"{label} = {json.dumps(value, ensure_ascii=False)}"
