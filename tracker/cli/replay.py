"""`tracker replay`: look first, ask, approve, watch."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api, segment
from tracker.cli.errors import CommandError


class StartsByDefault(TyperGroup):
    """`tracker replay orders` is `tracker replay start orders`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command that `args` name; `start` where the first is none."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["start", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=StartsByDefault, no_args_is_help=True, help="Send missing messages again. Without --yes nothing is sent."
)
Why = Annotated[str, typer.Option(help="kept in the audit log")]
Limit = Annotated[int, typer.Option(min=1)]


@app.command("start")
def start(
    flow: str,
    hop: Annotated[str | None, typer.Option(help="only findings at this hop")] = None,
    kind: Annotated[str | None, typer.Option(help="only findings of this kind")] = None,
    incident: Annotated[str | None, typer.Option(help="only findings of this incident")] = None,
    message: Annotated[list[str] | None, typer.Option(help="only this message; may be repeated")] = None,
    ids: Annotated[
        typer.FileText | None, typer.Option(help="only the messages named in this file, one id a line; - for stdin")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="origin not before: RFC 3339, epoch, or -1h")] = None,
    until: Annotated[str | None, typer.Option("--until", help="origin before this")] = None,
    key: Annotated[str | None, typer.Option(help="only messages with this key")] = None,
    dropped_as: Annotated[
        str | None, typer.Option(help="only messages dropped or dead-lettered for this reason")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that some event carries; may be repeated")
    ] = None,
    source: Annotated[str, typer.Option(help="KIND:HOP instead of the flow's sources, as log:kafka-eu")] = "",
    to: Annotated[str, typer.Option(help="the hop to send to, instead of the one that follows from the source")] = "",
    rate: Annotated[float | None, typer.Option(help="messages per second, at most the flow's own")] = None,
    reason: Annotated[str, typer.Option(help="why; kept in the audit log")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="ask for it in earnest; without it only the plan is shown")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what would be sent again; with --yes, ask for it. Somebody else approves where the policy says so."""
    named = [*(message or []), *(line.strip() for line in ids or () if line.strip())]
    if ids is not None and not named:
        raise CommandError(f"{ids.name} names no message: one id a line")
    wanted = {"flow": flow, "hop": hop, "kind": kind, "incident": incident, "message_ids": named or None,
              "since": since, "until": until, "key": key, "dropped_as": dropped_as,
              "attributes": _pairs(attribute or []), "source": source, "to": to, "rate": rate, "reason": reason,
              "dry_run": not yes}  # fmt: skip
    got = api().send("POST", "/v1/replays", wanted)
    if as_json:
        emit(True, got, "")
        return
    plan = got["plan"]
    emit(False, None, _facts(plan))
    if not yes:
        emit(False, None, "nothing was sent; with --yes this is asked for")
    elif got["status"] == "awaiting_approval":
        emit(False, None, f"{got['id']} waits: somebody else approves it with: tracker replay approve {got['id']}")
    else:
        emit(False, None, f"{got['id']}: {got['status']}; watch it with: tracker replay status {got['id']}")


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option()] = None,
    flow: Annotated[str | None, typer.Option()] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Replays, newest first."""
    rows = list(api().pages("/v1/replays", limit, status=status, flow=flow))
    columns = {
        "id": "REPLAY",
        "flow": "FLOW",
        "status": "STATUS",
        "requested_by": "BY",
        "created_at": "CREATED",
        "reason": "REASON",
    }
    emit(as_json, rows, table(columns, rows, "no replay yet"))


@app.command("status")
def status(replay: str, as_json: Json = False) -> None:
    """How far a replay came."""
    got = api().get(f"/v1/replays/{segment(replay)}")
    messages = ", ".join(f"{count} {state}" for state, count in (got["messages"] or {}).items() if count)
    emit(as_json, got, f"{got['id']}: {got['status']} {got['detail']}\n{messages or 'no messages'}")
    if got["status"] == "awaiting_approval" and not as_json:  # who approves it sees what
        emit(False, None, f"{got['requested_by']} asked for it: {got['reason'] or 'no reason given'}")
        emit(False, None, _facts(got["plan"]))


@app.command()
def approve(replay: str, why: Why = "", as_json: Json = False) -> None:
    """Say yes to what somebody else asked for."""
    _decide(replay, "approve", why, as_json)


@app.command()
def pause(replay: str, why: Why = "", as_json: Json = False) -> None:
    """Send nothing more for now."""
    _decide(replay, "pause", why, as_json)


@app.command()
def resume(replay: str, why: Why = "", as_json: Json = False) -> None:
    """Go on after a pause."""
    _decide(replay, "resume", why, as_json)


@app.command()
def cancel(replay: str, why: Why = "", as_json: Json = False) -> None:
    """Send nothing more, for good."""
    _decide(replay, "cancel", why, as_json)


def _decide(replay: str, what: str, why: str, as_json: bool) -> None:
    got = api().send("POST", f"/v1/replays/{segment(replay)}/{what}", {"why": why})
    emit(as_json, got, f"{got['id']}: {got['status']}")


def _pairs(said: list[str]) -> dict[str, str]:
    """NAME=VALUE, each. Raises CommandError."""
    pairs = {name: value for name, equals, value in (one.partition("=") for one in said) if name and equals}
    if len(pairs) < len(said):
        raise CommandError(f"--attribute {' '.join(said)}: write NAME=VALUE, each name once")
    return pairs


def _facts(plan: dict[str, Any]) -> Any:
    said = {name: value for name, value in plan.items() if value not in (None, "", {}, []) and name != "refused"}
    rows = [{"what": name.replace("_", " "), "value": value} for name, value in said.items()]
    for why, some in plan.get("refused", {}).items():
        rows.append({"what": f"refused: {why.replace('_', ' ')}", "value": f"{some['messages']}; {some['detail']}"})
    return table({"what": "PLAN", "value": ""}, rows, "")
