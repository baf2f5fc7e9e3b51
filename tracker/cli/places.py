"""`tracker hops`: what collectors vouch for, hop by hop; and that a hop is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api

app = typer.Typer(invoke_without_command=True, help="What collectors vouch for, newest first; or declare a hop gone.")
Limit = Annotated[int, typer.Option(min=1, help="at most this many")]


@app.callback()
def hops(
    context: typer.Context,
    flow: Annotated[str | None, typer.Option()] = None,
    hop: Annotated[str | None, typer.Option()] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """What collectors vouch for, newest first; or, with a command, declare a hop gone."""
    if context.invoked_subcommand is not None:
        return
    rows = list(api().pages("/v1/coverage", limit, flow=flow, hop=hop))
    columns = {"flow": "FLOW", "hop": "HOP", "stage": "STAGE", "source": "SOURCE", "evidence": "EVIDENCE",
               "collector": "COLLECTOR", "start": "FROM", "end": "TO", "closed": "SIGNED OFF"}  # fmt: skip
    emit(as_json, rows, table(columns, rows, "no collector has reported yet"))


@app.command()
def abandon(
    hop: str,
    flow: Annotated[str, typer.Option(help="of which flow's messages")],
    since: Annotated[str, typer.Option(help="what it took from then on is gone: RFC 3339, epoch, or -1h")],
    until: Annotated[str, typer.Option(help="what it took later it still has: RFC 3339, epoch, or now")] = "now",
    unseen: Annotated[
        bool, typer.Option("--unseen", help="also what was handed to it then and not seen there")
    ] = False,
    reason: Annotated[str, typer.Option(help="why; kept in the audit log and with each message")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count; nothing is written")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask, where somebody sits at the terminal")] = False,
    as_json: Json = False,
) -> None:
    """Declare that what a hop holds is gone for good: a disk, a region. It cannot be taken back.

    Each message whose last copy that was becomes `lost`, at once and by name.
    """
    service = api()
    wanted = {"flow": flow, "hop": hop, "since": since, "until": until, "unseen": unseen, "reason": reason}
    got = service.send("POST", "/v1/hops/abandon", wanted | {"dry_run": True})
    if not dry_run and got["copies"]:
        if sys.stdin.isatty() and not yes:
            typer.confirm(f"{_said(got)}. Write them off for good?", abort=True, err=True)
        # The span is now fixed: `now` and `-1h` must mean the same in every part.
        wanted |= {"since": got["since"], "until": got["until"]}
        got = _all(lambda after: service.send("POST", "/v1/hops/abandon", wanted | {"after": after}))
    emit(as_json, got, _said(got))


def _all(ask: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The tracker writes off a bounded number at a time; ask until nothing is left, and give the sums."""
    got = ask("")
    while got["next"]:
        part = ask(got["next"])
        got = part | {name: got[name] + part[name] for name in ("messages", "copies")}
    return got


def _said(got: dict[str, Any]) -> str:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(got["verdicts"].items()))
    what = "would be written off" if got["dry_run"] else "are written off: each is judged anew within seconds"
    return (
        f"{got['hop']}, {got['since']} to {got['until']}: {got['copies']} copies of {got['messages']} messages "
        f"of {got['flow']}{f' ({verdicts})' if verdicts else ''} {what}"
    )
