"""`tracker anomalies`: what is not as usual."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api


def anomalies(
    flow: Annotated[str | None, typer.Option()] = None,
    hop: Annotated[str | None, typer.Option(help="of this hop; empty: of whole flows")] = None,
    signal: Annotated[str | None, typer.Option(help="volume, latency, loss, duplicates or coverage")] = None,
    open_: Annotated[bool | None, typer.Option("--open/--over", help="only those that last, or are over")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most this many")] = 100,
    as_json: Json = False,
) -> None:
    """What is not as usual, newest first: expected, came, since when."""
    asked = {"flow": flow, "hop": hop, "signal": signal, "open": None if open_ is None else str(open_).lower()}
    rows = list(api().pages("/v1/anomalies", limit, **asked))
    columns = {"since": "SINCE", "until": "UNTIL", "flow": "FLOW", "hop": "HOP", "signal": "SIGNAL",
               "direction": "IS", "expected": "EXPECTED", "came": "CAME", "unit": "UNIT", "baseline": "HELD AGAINST",
               "ended_by": "ENDED BY"}  # fmt: skip
    if not as_json:
        for row in rows:
            row |= {name: f"{row[name]:.3g}" for name in ("expected", "came")}
    emit(as_json, rows, table(columns, rows, "nothing is unusual"))
