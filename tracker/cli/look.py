"""Commands that look: messages, findings, slo."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from tracker.cli.answers import COLOURS, Json, console, emit, table
from tracker.cli.client import api, segment

messages = typer.Typer(no_args_is_help=True, help="One message, or those with a verdict.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]


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
    for one in got["overtaken"]:
        out.print(f"Overtaken at {one['hop']} ({one['stage']}) by {one['passed_by']}.", markup=False)
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
        row["clock"] = f"{row['clock_offset_ms']:+.1f} ms" if row["clock_offset_ms"] else ""
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
    if any(row["clock"] for row in got["timeline"]):
        columns["clock"] = "CLOCK CORRECTED BY"
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


def findings(
    flow: Annotated[str | None, typer.Option()] = None,
    hop: Annotated[str | None, typer.Option()] = None,
    kind: Annotated[str | None, typer.Option(help="lost, unacknowledged, ...")] = None,
    status: Annotated[
        str | None, typer.Option(help="open, recovered, withdrawn, superseded, parked, abandoned")
    ] = None,
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
