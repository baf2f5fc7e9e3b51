"""`tracker incidents`: findings that belong together, who has them, and what is told of them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api, segment
from tracker.cli.files import write

app = typer.Typer(no_args_is_help=True, help="Findings that belong together, and who has them.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]


@app.command("list")
def list_incidents(
    status: Annotated[list[str] | None, typer.Option(help="open, acknowledged, resolved; may be repeated")] = None,
    flow: Annotated[str | None, typer.Option()] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Incidents, newest first."""
    rows = list(api().pages("/v1/incidents", limit, status=status, flow=flow))
    columns = {"id": "INCIDENT", "flow": "FLOW", "kind": "KIND", "hop": "HOP", "status": "STATUS", "open": "OPEN",
               "total": "OF", "owner": "OWNER", "opened_at": "SINCE"}  # fmt: skip
    emit(as_json, rows, table(columns, rows, "no incident matches"))


@app.command("show")
def show_incident(incident: str, as_json: Json = False) -> None:
    """One incident with its history."""
    got = api().get(f"/v1/incidents/{segment(incident)}")
    if as_json:
        emit(True, got, "")
        return
    history = got.pop("timeline")
    rows = [{"what": name, "value": value} for name, value in got.items() if value not in (None, "")]
    emit(False, None, table({"what": "WHAT", "value": "VALUE"}, rows, ""))
    emit(False, None, table({"at": "AT", "who": "WHO", "what": "WHAT"}, history, ""))


@app.command()
def ack(
    incident: str, owner: Annotated[str | None, typer.Option(help="who has it now")] = None, as_json: Json = False
) -> None:
    """Say that somebody is on it."""
    change = {"acknowledge": True} | ({"owner": owner} if owner is not None else {})
    got = api().send("PATCH", f"/v1/incidents/{segment(incident)}", change)
    emit(as_json, got, f"{got['id']}: {got['status']}, owner {got['owner'] or 'nobody'}")


@app.command()
def note(incident: str, text: str, as_json: Json = False) -> None:
    """Leave a note."""
    got = api().send("PATCH", f"/v1/incidents/{segment(incident)}", {"note": text})
    emit(as_json, got, f"{got['id']}: noted")


@app.command()
def assign(incident: str, owner: str, as_json: Json = False) -> None:
    """Say who has it."""
    got = api().send("PATCH", f"/v1/incidents/{segment(incident)}", {"owner": owner})
    emit(as_json, got, f"{got['id']}: owner {got['owner'] or 'nobody'}")


@app.command()
def postmortem(
    incident: str,
    out: Annotated[Path | None, typer.Option(help="the file to write it to")] = None,
    as_json: Json = False,
) -> None:
    """What is to be told of it afterwards, as Markdown: when, how many, which, what was done, how we know."""
    text = api().text(f"/v1/incidents/{segment(incident)}/postmortem")
    if out is not None:
        write(out, text)
    said = {"incident": incident, "markdown": text} if out is None else {"incident": incident, "file": str(out)}
    if as_json:
        emit(True, said, "")
    else:
        typer.echo(text if out is None else f"{incident}: written to {out}", nl=out is not None)
