"""What Grafana does with a dashboard before a data source sees its queries: variables and macros filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.slo.metrics import ALL, OWN, Kind

METRIC = re.compile(r"\b(?:tracker|collectors?)_[a-z0-9_]+\b")
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
MACROS = {"__timeFilter", "__timeInterval", "__fromTime", "__toTime", "__rate_interval"}
"""Those that the functions below expand."""


@dataclass(frozen=True)
class Query:
    """What a dashboard asks: `kind` is its panel's, or `variable`, or `annotation`; `text` is SQL or PromQL."""

    where: str
    kind: str
    text: str
    target: Mapping[str, Any]

    def __str__(self) -> str:
        """Its name in a test's id."""
        return self.where


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel but the headings."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries(dashboard: Mapping[str, Any], key: str) -> Iterator[Query]:
    """Every query of it of one language: `rawSql` or `expr`."""
    uid = dashboard["uid"].removeprefix("tracker-")
    for panel in panels(dashboard):
        for target in panel["targets"]:
            if key in target:
                yield Query(f"{uid}: {panel['title']} {target['refId']}", panel["type"], target[key], target)
    for one in dashboard["annotations"]["list"]:
        if key in one["target"]:
            yield Query(f"{uid}: annotation {one['name']}", "annotation", one["target"][key], one["target"])
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query" and (isinstance(one["query"], str) == (key == "rawSql")):
            text = one["query"] if key == "rawSql" else one["query"]["query"]
            yield Query(f"{uid}: variable {one['name']}", "variable", text, one)


def sql(text: str, values: Mapping[str, str | list[str]], start: int, end: int, interval: int = 60) -> str:
    """The SQL with variables filled in, and macros expanded as version 4 of Grafana's ClickHouse data source does
    (pkg/macros/macros.go; epoch seconds)."""
    for name, value in values.items():
        quoted = ",".join("'" + one.replace("'", "''") + "'" for one in ([value] if isinstance(value, str) else value))
        text = text.replace(f"${{{name}:sqlstring}}", quoted)
        if isinstance(value, str):
            text = text.replace(f"${{{name}}}", value)
    text = text.replace("$__fromTime", f"toDateTime({start})").replace("$__toTime", f"toDateTime({end})")
    text = re.sub(
        r"\$__timeFilter\((\w+)\)",
        lambda m: f"{m[1]} >= toDateTime({start}) AND {m[1]} <= toDateTime({end})",
        text,
    )
    text = re.sub(
        r"\$__timeInterval\((\w+)\)",
        lambda m: f"toStartOfInterval(toDateTime({m[1]}), INTERVAL {interval} second)",
        text,
    )
    assert "$" not in text, text
    return text


def promql(text: str, flows: str = ".*", hops: str = ".*") -> str:
    """The PromQL with variables filled in."""
    return text.replace("$flow", flows).replace("$hop", hops).replace("$__rate_interval", "1m")


def doubled(text: str) -> set[str]:
    """The gauges of the ledger in a PromQL expression of which several trackers on one store would show several: all
    those that are not the argument of `max`, `min` or `topk`, nor only looked for."""
    ledgers = {metric.name for metric in ALL if metric.kind == Kind.gauge and metric not in OWN}
    once = re.compile(r"((max|min)( by \([\w, ]+\))? ?\((abs\()?|topk by \(\w+\) \(1, |unless on \(\w+\) )$")
    found = re.finditer(METRIC, text)
    return {one[0] for one in found if one[0] in ledgers and not once.search(text[: one.start()])}


def metrics(text: str) -> set[str]:
    """The names of our metrics that a PromQL expression uses, a histogram's without its endings."""
    found = set()
    for name in METRIC.findall(re.sub(r'"[^"]*"', '""', text)):
        ending = next((e for e in OF_HISTOGRAMS if name.endswith(e)), "")
        found.add(name.removesuffix(ending))
    return found
