"""`tracker events`: send a file, look at what was quarantined."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli.answers import Json, console, emit, table
from tracker.cli.client import Api, api
from tracker.cli.errors import FINDINGS, CommandError

app = typer.Typer(no_args_is_help=True, help="Events: send them, see which lines were no good.")
LINES = 20_000
"""Lines of a file that go in one request."""


@app.command()
def send(
    file: Annotated[str, typer.Argument(help="NDJSON, one event a line, or a JSON array; - reads stdin")],
    as_json: Json = False,
) -> None:
    """Send a file of events. Ends with 1 when lines went to quarantine; sending it again counts nothing twice."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    total = _send(api(), data)
    rows = [{**error, "line": error["line"]} for error in total["errors"]]
    summary = f"{total['accepted']} accepted, {total['quarantined']} quarantined"
    emit(as_json, total, summary)
    if rows and not as_json:
        emit(False, rows, table({"line": "LINE", "field": "FIELD", "reason": "REASON"}, rows, ""))
    if total["errors"]:
        raise typer.Exit(FINDINGS)


@app.command()
def quarantine(limit: Annotated[int, typer.Option(min=1)] = 100, as_json: Json = False) -> None:
    """Lines that could not be used, oldest first."""
    rows = list(api().pages("/v1/quarantine", limit))
    columns = {
        "received_at": "RECEIVED",
        "source": "SOURCE",
        "line": "LINE",
        "field": "FIELD",
        "reason": "REASON",
        "raw": "RAW",
    }
    emit(as_json, rows, table(columns, rows, "nothing is in quarantine"))


def _send(client: Api, data: bytes) -> dict[str, Any]:
    if data.lstrip()[:1] == b"[":
        return _post(client, data, "application/json")
    total: dict[str, Any] = {"accepted": 0, "quarantined": 0, "errors": []}
    lines = data.split(b"\n")
    for start in range(0, len(lines), LINES):
        got = _post(client, b"\n".join(lines[start : start + LINES]), "application/x-ndjson")
        total["accepted"] += got["accepted"]
        total["quarantined"] += got["quarantined"]
        total["errors"] += [{**error, "line": error["line"] + start} for error in got["errors"]]
        if len(lines) > LINES:
            console().print(f"{min(start + LINES, len(lines))} of {len(lines)} lines", style="bright_black", end="\r")
    return total


def _post(client: Api, body: bytes, kind: str) -> dict[str, Any]:
    got: dict[str, Any] = client.send("POST", "/v1/events", content=body, headers={"Content-Type": kind})
    return got
