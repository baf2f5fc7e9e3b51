"""Commands that look: messages, hops, reconcile, findings, incidents, slo."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from tracker.cli.answers import COLOURS, Json, console, emit, table
from tracker.cli.client import api, segment
from tracker.cli.errors import FINDINGS, CommandError

messages = typer.Typer(no_args_is_help=True, help="One message, or those with a verdict.")
incidents = typer.Typer(no_args_is_help=True, help="Findings that belong together, and who has them.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]
WRONG = ("divergent", "lost", "unacknowledged", "under_replicated", "dead_lettered", "blind")
"""Verdicts for which `reconcile` ends with 1."""


@messages.command()
def show(flow: str, message_id: str, as_json: Json = False) -> None:
    """What became of a message, why, and everything observed of it."""
    got = api().get(f"/v1/flows/{segment(flow)}/messages", id=message_id)
    if as_json:
        emit(True, got, "")
        return
    verdict = got["verdict"] or "not judged"
    out = console()
    out.print(
        Text.assemble(
            (got["message_id"], "bold"), "  ", (verdict, COLOURS.get(verdict, "")), "  ", ", ".join(got["flags"])
        )
    )
    out.print(got["why"], markup=False)
    if got["missing"]:
        columns = {
            "hop": "MISSING AT",
            "stage": "STAGE",
            "status": "STATUS",
            "deadline": "DEADLINE",
            "covered": "COVERED",
        }
        emit(False, None, table(columns, got["missing"], ""))
    for row in got["timeline"]:
        row["after"] = f"{row['latency_ms']:.1f} ms"
        row["what"] = (
            row["stage"] + (f": {row['reason']}" if row["reason"] else "") + (" (replay)" if row["replay_id"] else "")
        )
    columns = {
        "observed_at": "OBSERVED",
        "after": "AFTER",
        "hop": "HOP",
        "what": "STAGE",
        "delivery": "DELIVERY",
        "node": "NODE",
    }
    emit(False, None, table(columns, got["timeline"], ""))


@messages.command("list")
def list_messages(
    flow: str,
    verdict: Annotated[str | None, typer.Option(help="only those with this verdict")] = None,
    flag: Annotated[str | None, typer.Option(help="only those with this flag")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Messages of a flow as the last pass left them."""
    rows = list(api().pages(f"/v1/flows/{segment(flow)}/messages", limit, verdict=verdict, flag=flag))
    columns = {"message_id": "MESSAGE", "verdict": "VERDICT", "flags": "FLAGS", "origin_at": "CREATED"}
    emit(as_json, rows, table(columns, rows, "no message matches"))


def hops(
    flow: Annotated[str | None, typer.Option()] = None,
    hop: Annotated[str | None, typer.Option()] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """What collectors vouch for, newest first."""
    rows = list(api().pages("/v1/coverage", limit, flow=flow, hop=hop))
    columns = {"flow": "FLOW", "hop": "HOP", "stage": "STAGE", "source": "SOURCE", "evidence": "EVIDENCE",
               "collector": "COLLECTOR", "start": "FROM", "end": "TO", "closed": "SIGNED OFF"}  # fmt: skip
    emit(as_json, rows, table(columns, rows, "no collector has reported yet"))


def reconcile(
    name: Annotated[str | None, typer.Argument(metavar="FLOW", help="name of the flow")] = None,
    flow: Annotated[str | None, typer.Option(help="the same as an option, as with other commands")] = None,
    start: Annotated[str, typer.Option("--from", help="RFC 3339, epoch, or -1h")] = "-1h",
    end: Annotated[str, typer.Option("--to", help="RFC 3339, epoch, or now")] = "now",
    step: Annotated[str | None, typer.Option(help="width of a window, as 10s or 1m")] = None,
    as_json: Json = False,
) -> None:
    """Hold the books of a flow against each other. Ends with 1 when messages are missing, wrong or not known, or when
    the books do not agree; 0 otherwise."""
    chosen = {given for given in (name, flow) if given}
    if len(chosen) != 1:
        raise CommandError("name one flow: tracker reconcile FLOW")
    path = f"/v1/flows/{segment(chosen.pop())}/reconciliation"
    got = api().get(path, **{"from": start, "to": end, "step": step})
    wrong = sum(got["verdicts"].get(verdict, 0) for verdict in WRONG)
    if as_json:
        emit(True, got, "")
    else:
        _books(got)
    if wrong or not got["conserved"]:
        raise typer.Exit(FINDINGS)


def _books(got: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"{got['flow']}: {got['produced']} produced, {got['orphans']} orphans, as of {got['as_of'] or 'no pass yet'}",
        markup=False,
    )
    rows = [{"verdict": verdict, "messages": count} for verdict, count in sorted(got["verdicts"].items())]
    emit(False, None, table({"verdict": "VERDICT", "messages": "MESSAGES"}, rows, "no message in that span"))
    out.print(
        "conserved: the books agree"
        if got["conserved"]
        else "NOT conserved: the books differ, which is a bug of the tracker's"
    )
    spots = got["blind_spots"]
    columns = {"hop": "BLIND AT", "stage": "STAGE", "source": "SOURCE", "start": "FROM", "end": "TO", "cause": "CAUSE"}
    if spots:
        emit(False, None, table(columns, spots, ""))


def findings(
    flow: Annotated[str | None, typer.Option()] = None,
    hop: Annotated[str | None, typer.Option()] = None,
    kind: Annotated[str | None, typer.Option(help="lost, unacknowledged, ...")] = None,
    status: Annotated[str | None, typer.Option(help="open, recovered, withdrawn, parked, abandoned")] = None,
    incident: Annotated[str | None, typer.Option()] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """What needs somebody, newest first."""
    asked = {"flow": flow, "hop": hop, "kind": kind, "status": status, "incident": incident}
    rows = list(api().pages("/v1/findings", limit, **asked))
    columns = {"opened_at": "OPENED", "flow": "FLOW", "message_id": "MESSAGE", "kind": "KIND", "hop": "HOP",
               "status": "STATUS", "why": "WHY"}  # fmt: skip
    emit(as_json, rows, table(columns, rows, "no finding matches"))


@incidents.command("list")
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


@incidents.command("show")
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


@incidents.command()
def ack(
    incident: str, owner: Annotated[str | None, typer.Option(help="who has it now")] = None, as_json: Json = False
) -> None:
    """Say that somebody is on it."""
    change = {"acknowledge": True} | ({"owner": owner} if owner is not None else {})
    got = api().send("PATCH", f"/v1/incidents/{segment(incident)}", change)
    emit(as_json, got, f"{got['id']}: {got['status']}, owner {got['owner'] or 'nobody'}")


@incidents.command()
def note(incident: str, text: str, as_json: Json = False) -> None:
    """Leave a note."""
    got = api().send("PATCH", f"/v1/incidents/{segment(incident)}", {"note": text})
    emit(as_json, got, f"{got['id']}: noted")


def slo(limit: Limit = 1000, as_json: Json = False) -> None:
    """How the delivery objectives stand."""
    rows = list(api().pages("/v1/slos", limit))
    shown = ("flow", "objective", "window", "target", "ratio", "met", "good", "bad", "blind")
    columns = {name: name.upper() for name in shown}
    emit(as_json, rows, table(columns, rows, "no flow has a delivery objective"))
