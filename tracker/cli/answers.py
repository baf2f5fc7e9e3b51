"""How commands show what came back: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]

WIDE = 240
"""Columns where nobody sees a terminal's edge: in a file or a pipe lines are not broken."""
COLOURS = {
    "delivered": "green",
    "late": "yellow",
    "in_flight": "blue",
    "explained": "cyan",
    "blind": "bright_black",
    "dead_lettered": "magenta",
    "under_replicated": "magenta",
    "unacknowledged": "red",
    "lost": "bold red",
    "divergent": "bold magenta",
    "open": "red",
    "recovered": "green",
    "resolved": "green",
}


def console() -> Console:
    """Made when used, so that it writes to the stdout of that moment."""
    wide = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, width=wide)


def emit(as_json: bool, value: Any, text: str | Table) -> None:
    """`value` as JSON, or `text`; nothing that came from outside is read as markup."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        console().print(text, markup=False)


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], empty: str) -> Table | str:
    """A table of `rows`; `columns` maps keys to headings. `empty` is said instead when there are none."""
    if not rows:
        return empty
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(cell(row.get(key)) for key in columns))
    return made


def seconds(value: float) -> str:
    """A span as people say it: `0.3s`, `42s`, `12m5s`, `3h20m`."""
    if value < 60:
        return f"{value:.2g}s" if value < 10 else f"{value:.0f}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"


def cell(value: Any) -> Text:
    """A value as shown: verdicts and statuses coloured, times without their microseconds."""
    if value is None:
        return Text("-", "bright_black")
    if isinstance(value, float):
        return Text(f"{value:g}")
    if isinstance(value, list):
        return Text(", ".join(str(v) for v in value))
    if isinstance(value, Mapping):
        return Text(", ".join(f"{k} {v}" for k, v in value.items()))
    said = str(value)
    if len(said) == 27 and said.endswith("Z") and said[10] == "T":
        said = said[:19].replace("T", " ")
    return Text(said, COLOURS.get(said, ""))
