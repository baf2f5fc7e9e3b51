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
MOST = 100
"""So many refused lines are shown to a person; `--json` has all."""
QUARANTINED = {
    "received_at": "RECEIVED",
    "source": "SOURCE",
    "line": "LINE",
    "field": "FIELD",
    "reason": "REASON",
    "raw": "RAW",
}
Flow = Annotated[str, typer.Option(help="only lines that name this flow")]
Source = Annotated[str, typer.Option(help="only lines that this token sent, by its name")]
Field = Annotated[str, typer.Option(help="only lines that are wrong in this field, as `digest`")]
Since = Annotated[str, typer.Option(help="received from then on: RFC 3339, epoch, or -1h")]
Until = Annotated[str, typer.Option(help="received before: RFC 3339, epoch, or now")]


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
def quarantine(
    flow: Flow = "",
    source: Source = "",
    field: Field = "",
    since: Since = "0",
    until: Until = "now",
    limit: Annotated[int, typer.Option(min=1)] = 100,
    as_json: Json = False,
) -> None:
    """Lines that could not be used and were not taken since, oldest first."""
    wanted = {"flow": flow, "source": source, "field": field, "since": since, "until": until}
    rows = list(api().pages("/v1/quarantine", limit, **wanted))
    emit(as_json, rows, table(QUARANTINED, rows, "nothing is in quarantine"))


@app.command()
def resubmit(
    flow: Flow = "",
    source: Source = "",
    field: Field = "",
    since: Since = "0",
    until: Until = "now",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would become of them")] = False,
    as_json: Json = False,
) -> None:
    """Send lines of the quarantine through the way in again, after their cause was mended: the flow was put, its spec
    corrected. What is taken leaves the quarantine. Ends with 1 when some are refused still."""
    service = api()
    wanted: dict[str, Any] = {"flow": flow, "source": source, "field": field, "since": since, "until": until}
    wanted |= {"dry_run": dry_run}
    got = service.send("POST", "/v1/quarantine/resubmit", wanted)
    total = {"accepted": got["accepted"], "refused": got["refused"], "dry_run": dry_run}
    while got["next"]:
        got = service.send("POST", "/v1/quarantine/resubmit", wanted | {"after": got["next"]})
        total["accepted"] += got["accepted"]
        total["refused"] += got["refused"]
    said = "would be accepted" if dry_run else "accepted"
    emit(as_json, total, f"{total['accepted']} {said}, {len(total['refused'])} refused")
    if total["refused"]:
        if not as_json:
            emit(False, None, table(QUARANTINED, total["refused"][:MOST], ""))
        raise typer.Exit(FINDINGS)


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
