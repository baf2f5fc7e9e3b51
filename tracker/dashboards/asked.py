"""Pieces of SQL that several dashboards ask the views of (docs/clickhouse.md)."""

from __future__ import annotations

FLOW = "flow IN (${flow:sqlstring})"
HOP = "hop IN (${hop:sqlstring})"
FINDINGS = f"""FROM ${{database}}.findings
WHERE cause = '' AND {FLOW}"""
"""Of the flows chosen; what an earlier checkpoint's finding explains is left out."""
MESSAGES = f"""FROM ${{database}}.messages
WHERE {FLOW} AND $__timeFilter(origin_at)"""
"""Created in the span shown."""


def seconds(start: str, end: str) -> str:
    """Between two DateTime64(6) columns."""
    return f"(toUnixTimestamp64Micro({end}) - toUnixTimestamp64Micro({start})) / 1e6"


def quantiles(value: str) -> str:
    """Columns p50, p90 and p99."""
    return ",\n    ".join(f"quantileExact({q / 100})({value}) AS p{q}" for q in (50, 90, 99))
