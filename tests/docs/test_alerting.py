"""The page about alerts: what it says of each is the code's, and its example is used."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from tests.docs.pages import ROOT, blocks
from tracker.alerting.receivers import parsed
from tracker.alerting.routing import EXPLAINED, rendered
from tracker.alerting.rules import alerts

PAGE: Path = ROOT / "docs" / "alerting.md"
TEXT = PAGE.read_text("utf-8")
ELSE = {"page": "operations", "ticket": "operations", "none": "watchdog"}


def test_every_alert_is_on_the_page_as_it_is() -> None:
    """With its runbook, severity, who gets it and how long it waits; in the order of the code; none is left over."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(runbooks/([\w-]+)\.md\) \| (\w+) \| (\w+) \| (\w+) \| \S", TEXT, re.M)
    assert rows == [
        (one.name, one.runbook, one.severity, "owner" if one.owned else ELSE[one.severity], one.lasting)
        for one in alerts()
    ]


def test_formulas_of_objectives_are_where_objectives_are() -> None:
    """Every alert about a budget or an objective links to its formula."""
    rows = [
        line
        for line in TEXT.splitlines()
        if re.match(r"\| \[`(Delivery|Objective|Recovery)\w*(Fast|Slowly|Missed)`", line)
    ]
    assert len(rows) == 5
    assert all("](slo.md#" in row for row in rows)


def test_what_silences_what_is_on_the_page() -> None:
    """Each rule of the code is a row, and each row is a rule."""
    said = re.findall(r"^\| (`[\w`, ]+`) \| (`.*?`)(?: with (\w+) `(\w+)`)? \| ([\w, ]*) ?\|$", TEXT, re.M)
    every = [(_quoted(one.sources), _quoted(one.targets), *(one.of or ("", "")), ", ".join(one.labels))
             for one in EXPLAINED]  # fmt: skip
    assert [(*row[:4], row[4].strip()) for row in said] == every


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_the_example_of_receivers_is_routed() -> None:
    """The file that the page shows is accepted, and every owner in it is told as it says."""
    [example] = blocks(PAGE, "yaml")
    made = yaml.safe_load(rendered([], parsed(example)))
    named = {one["name"]: set(one) - {"name"} for one in made["receivers"]}
    assert named == {
        "operations/page": {"pagerduty_configs"},
        "operations/ticket": {"email_configs"},
        "team-payments": {"slack_configs"},
        "watchdog": {"webhook_configs"},
    }
    assert made["global"]["smtp_auth_password_file"]
