"""The pieces that dashboards are made of: queries, panels, rows; and their layout on Grafana's grid of 24 columns.

Nothing here knows what is shown. One module per dashboard, each with a `dashboard()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tracker.model.verdict import Verdict

SCHEMA_VERSION = 39
"""Of Grafana 11; newer ones bring it up to date when they load it."""
COLUMNS = 24
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "${clickhouse}"}
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}

GOOD, WARN, BAD, QUIET = "green", "orange", "red", "text"
COLOURS: Mapping[str, str] = {
    Verdict.delivered: "green",
    Verdict.late: "yellow",
    Verdict.in_flight: "blue",
    Verdict.explained: "light-blue",
    Verdict.blind: "#8e8e8e",
    Verdict.dead_lettered: "purple",
    Verdict.under_replicated: "light-purple",
    Verdict.unacknowledged: "orange",
    Verdict.lost: "red",
    Verdict.divergent: "dark-red",
}
"""A verdict has one colour wherever it is drawn."""

Json = dict[str, Any]
Kind = Literal["stat", "timeseries", "table", "bargauge"]


@dataclass(frozen=True, slots=True)
class Sql:
    """A ClickHouse query. `series`: its columns are a time, then values and at most one name; else a table."""

    text: str
    series: bool = False

    def target(self, ref: str) -> Json:
        """As the ClickHouse data source of Grafana takes it."""
        kind = "timeseries" if self.series else "table"
        return {
            "refId": ref,
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": kind,
            "format": 0 if self.series else 1,
            "rawSql": self.text.strip(),
        }


@dataclass(frozen=True, slots=True)
class PromQL:
    """A Prometheus query; `legend` names each series, `now` asks for the newest value only."""

    text: str
    legend: str = ""
    now: bool = False

    def target(self, ref: str) -> Json:
        """As the Prometheus data source of Grafana takes it."""
        return {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": self.text.strip(),
            "legendFormat": self.legend or "__auto",
            "instant": self.now,
            "range": not self.now,
            "format": "table" if self.now and not self.legend else "time_series",
        }


@dataclass(frozen=True, slots=True)
class Link:
    """A link on the values of `column`."""

    column: str
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `steps`: (from, colour), the first from None. `stacked` bars for shares of a whole."""

    title: str
    kind: Kind
    queries: Sequence[Sql | PromQL]
    text: str
    width: int = 12
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    steps: Sequence[tuple[float | None, str]] = ((None, QUIET),)
    stacked: bool = False
    coloured: bool = False
    """Series are named after verdicts and have their colours."""
    links: Sequence[Link] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    """Units of single columns of a table."""

    def json(self, number: int, x: int, y: int) -> Json:
        """As Grafana keeps it."""
        source = CLICKHOUSE if isinstance(self.queries[0], Sql) else PROMETHEUS
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [query.target(chr(ord("A") + n)) for n, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": _OPTIONS[self.kind],
        }

    def _defaults(self) -> Json:
        steps = [{"value": value, "color": colour} for value, colour in self.steps]
        mode = "thresholds" if len(self.steps) > 1 else "palette-classic"
        defaults: Json = {
            "unit": self.unit,
            "color": {"mode": mode if self.kind != "timeseries" else "palette-classic"},
            "thresholds": {"mode": "absolute", "steps": steps},
        }
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.kind == "timeseries":
            defaults["custom"] = _STACKED if self.stacked else _LINES
        return defaults

    def _overrides(self) -> list[Json]:
        made = []
        if self.coloured:
            made += [_by_name(name, color={"mode": "fixed", "fixedColor": c}) for name, c in COLOURS.items()]
        made += [_by_name(name, unit=unit) for name, unit in self.columns.items()]
        linked: dict[str, list[Json]] = {}
        for link in self.links:
            away = link.url.startswith("${tracker}")
            linked.setdefault(link.column, []).append({"title": link.title, "url": link.url, "targetBlank": away})
        return made + [_by_name(column, links=links) for column, links in linked.items()]


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, laid out from left to right."""

    title: str
    panels: Sequence[Panel]


_LINES = {
    "drawStyle": "line",
    "lineInterpolation": "stepAfter",
    "fillOpacity": 8,
    "showPoints": "auto",
    "spanNulls": 60_000,
}
_STACKED = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
_OPTIONS: Mapping[str, Json] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "bargauge": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
    },
}


def _by_name(name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": "byName", "options": str(name)},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def laid_out(rows: Sequence[Row]) -> list[Json]:
    """Rows and panels with ids and places: a panel that does not fit into its line begins the next one."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        head = {"id": len(placed) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append(head | {"gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            placed.append(panel.json(len(placed) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return placed
