"""`tracker incidents`: findings that belong together, who has them, and what is told of them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli.answers import Json, emit, seconds, table
from tracker.cli.client import api, segment
from tracker.cli.files import write

app = typer.Typer(no_args_is_help=True, help="Findings that belong together, and who has them.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]
Reason = Annotated[str, typer.Option(help="kept in the history and the audit log")]
Messages = Annotated[list[str] | None, typer.Option(help="only this message's; may be repeated")]
_TIMES = {"incidents": "INCIDENTS", "findings": "FINDINGS", "open": "OPEN", "detect": "DETECT p50 / p90",
          "act": "ACT", "recovered_by_replay": "BY REPLAY", "recover_by_replay": "RECOVER",
          "recovered_by_itself": "BY ITSELF", "recover_by_itself": "RECOVER", "parked": "PARKED",
          "abandoned": "ABANDONED", "lost": "LOST"}  # fmt: skip


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


@app.command()
def times(
    flow: Annotated[str | None, typer.Option()] = None,
    kind: Annotated[str | None, typer.Option(help="lost, unacknowledged, ...")] = None,
    start: Annotated[str, typer.Option("--from", help="RFC 3339, epoch, or -30d")] = "-30d",
    end: Annotated[str, typer.Option("--to", help="RFC 3339, epoch, or now")] = "now",
    step: Annotated[str, typer.Option(help="of --trend")] = "1d",
    trend: Annotated[bool, typer.Option("--trend", help="step by step, all together")] = False,
    as_json: Json = False,
) -> None:
    """How soon what was missing was found, seen to and back (MTTD, MTTA, MTTR), and what is lost (RPO)."""
    asked = {"flow": flow, "kind": kind, "from": start, "to": end, "step": step}
    got = api().get("/v1/recovery", **asked)
    rows = [_flat(row) for row in got["trend" if trend else "items"]]
    columns = ({"start": "FROM"} if trend else {"flow": "FLOW", "kind": "KIND"}) | _TIMES
    emit(as_json, got, table(columns, rows, "nothing was missing in that time"))
    if not as_json and not trend:
        for one in got["flows"]:
            for said in one["objectives"]:
                emit(False, None, _promise(one["flow"], said))


@app.command()
def loss(incident: str, limit: Limit = 100, as_json: Json = False) -> None:
    """What an incident cost for good (its RPO): counts, and the messages by name."""
    path = f"/v1/incidents/{segment(incident)}/loss"
    got = api().get(path, limit=min(limit, 1000))
    rows, cursor = got["items"], got.pop("next")
    while cursor and len(rows) < limit:
        page = api().get(path, cursor=cursor, limit=min(limit - len(rows), 1000))
        rows, cursor = rows + page["items"], page["next"]
    if as_json:
        emit(True, got | {"items": rows}, "")
        return
    counts = ", ".join(f"{got[name]} {name}" for name in ("parked", "abandoned", "gone"))
    emit(False, None, f"{incident}: {got['lost']} lost for good ({counts}); {got['retrievable']} open that a source "
                      f"still holds; {got['unknown']} of the gone could not be asked for everywhere")  # fmt: skip
    columns = {"message_id": "MESSAGE", "kind": "KIND", "hop": "HOP", "status": "STATUS", "copy": "COPY",
               "opened_at": "OPENED"}  # fmt: skip
    emit(False, None, table(columns, rows, "no message is lost for good"))


@app.command()
def park(incident: str, reason: Reason, message: Messages = None, as_json: Json = False) -> None:
    """Set open findings aside: nobody tries any further, and the incident ends with its last one."""
    _rule(incident, "parked", reason, message, as_json)


@app.command()
def abandon(incident: str, reason: Reason, message: Messages = None, as_json: Json = False) -> None:
    """Give findings up for good, open or parked ones: their messages are lost."""
    _rule(incident, "abandoned", reason, message, as_json)


@app.command()
def reopen(incident: str, reason: Reason, message: Messages = None, as_json: Json = False) -> None:
    """Open parked or abandoned findings again."""
    _rule(incident, "open", reason, message, as_json)


def _rule(incident: str, status: str, reason: str, messages: list[str] | None, as_json: bool) -> None:
    said = {"status": status, "reason": reason, "message_ids": messages or None}
    got = api().send("POST", f"/v1/incidents/{segment(incident)}/findings", said)
    emit(as_json, got, f"{incident}: {got['findings']} findings become {status} with the next pass")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """One column for each percentile that is shown."""
    spans = {name: _said(row[name]) for name in ("detect", "act", "recover_by_replay", "recover_by_itself")}
    return row | spans


def _said(pair: dict[str, float | None]) -> str:
    return " / ".join("-" if value is None else seconds(value) for value in (pair["p50_s"], pair["p90_s"]))


def _promise(flow: str, said: dict[str, Any]) -> str:
    stands = "never" if said["stands_s"] is None else seconds(said["stands_s"])
    verdict = "kept" if said["met"] else "missed"
    return f"{flow}: {said['percentile']} promised within {seconds(said['target_s'])}, it is {stands}: {verdict}"
