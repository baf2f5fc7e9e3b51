"""What Grafana does with a dashboard before a data source sees its queries: variables and macros filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

METRIC = re.compile(r"\b(?:tracker|collectors?)_[a-z0-9_]+\b")
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel but the headings."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries(dashboard: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """(panel's title, query) of every target that has `key`: `rawSql` or `expr`."""
    return [(p["title"], t[key]) for p in panels(dashboard) for t in p["targets"] if key in t]


def sql(text: str, flows: Sequence[str], database: str, start: int, end: int, interval: int = 60) -> str:
    """The SQL with macros expanded as version 4 of Grafana's ClickHouse data source does (epoch seconds)."""
    text = text.replace("${database}", database)
    text = text.replace("${flow:sqlstring}", ",".join("'" + flow.replace("'", "''") + "'" for flow in flows))
    text = re.sub(
        r"\$__timeFilter\((\w+)\)",
        lambda m: f"{m[1]} >= toDateTime({start}) AND {m[1]} <= toDateTime({end})",
        text,
    )
    return re.sub(
        r"\$__timeInterval\((\w+)\)",
        lambda m: f"toStartOfInterval(toDateTime({m[1]}), INTERVAL {interval} second)",
        text,
    )


def promql(text: str, flows: str = ".*") -> str:
    """The PromQL with variables filled in."""
    return text.replace("$flow", flows).replace("$__rate_interval", "1m")


def metrics(text: str) -> set[str]:
    """The names of our metrics that a PromQL expression uses, a histogram's without its endings."""
    found = set()
    for name in METRIC.findall(re.sub(r'"[^"]*"', '""', text)):
        ending = next((e for e in OF_HISTOGRAMS if name.endswith(e)), "")
        found.add(name.removesuffix(ending))
    return found
