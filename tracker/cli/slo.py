"""`tracker slo`: what was promised, how it stands, and how it was kept in a period."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api
from tracker.cli.errors import CommandError

app = typer.Typer(invoke_without_command=True, help="How objectives stand; and how they were kept in a period.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]


@app.callback()
def slo(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """How objectives stand, as `list` does; or, with a command, how they were kept in a period."""
    if context.invoked_subcommand is None:
        list_slos(limit, as_json)


@app.command("list")
def list_slos(limit: Limit = 1000, as_json: Json = False) -> None:
    """How every objective stands now: budget left, burn rates, since when something is wrong."""
    rows = list(api().pages("/v1/slos", limit))
    if as_json:
        emit(True, rows, "")
        return
    for row in rows:
        row["burn"] = _burn(row["burn_rates"])
        row["left"] = _percent(row["budget_left"])
    columns = {"flow": "FLOW", "objective": "OBJECTIVE", "window": "WINDOW", "target": "TARGET", "value": "VALUE",
               "status": "STATUS", "since": "SINCE", "left": "BUDGET LEFT", "burn": "BURN 1h/6h/1d/3d", "good": "GOOD",
               "bad": "BAD", "blind": "BLIND"}  # fmt: skip
    emit(False, rows, table(columns, rows, "no flow has an objective"))


@app.command("report")
def report(
    flow: Annotated[str | None, typer.Option(help="of this flow")] = None,
    owner: Annotated[str | None, typer.Option(help="of all flows of this owner")] = None,
    start: Annotated[str, typer.Option("--from", help="RFC 3339, epoch, or a span before now")] = "-30d",
    end: Annotated[str, typer.Option("--to", help="likewise, or `now`")] = "now",
    html: Annotated[bool, typer.Option("--html", help="as a page")] = False,
    as_json: Json = False,
) -> None:
    """How objectives were kept in a period, as Markdown."""
    if html and as_json:
        raise CommandError("--html and --json: which of the two?")
    form = "json" if as_json else "html" if html else "markdown"
    asked: dict[str, Any] = {"flow": flow, "owner": owner, "from": start, "to": end, "format": form}
    if as_json:
        emit(True, api().get("/v1/slos/report", **asked), "")
    else:
        typer.echo(api().text("/v1/slos/report", **asked), nl=False)


def _burn(rates: dict[str, float]) -> str | None:
    return " / ".join(f"{rates[window]:.3g}" for window in ("1h", "6h", "1d", "3d")) if rates else None


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.4g} %"
