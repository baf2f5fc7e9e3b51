"""`tracker canary` and `tracker drill`: messages of our own through the real path of a flow, all the time, and with a
fault. What is heavy is imported by the commands when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.answers import Json, emit
from tracker.cli.replay import StartsByDefault

canary = typer.Typer(
    cls=StartsByDefault,
    no_args_is_help=True,
    help="Messages that only prove the path, flowing through it all the time.",
)

Consume = Annotated[list[str] | None, typer.Option(help="be the consumer of this hop; may be repeated")]
To = Annotated[str, typer.Option(help="the hop to send to, where the flow begins at several")]
Hops = Annotated[Path | None, typer.Option(help="how to reach the hops, instead of the file that TRACKER_HOPS names")]
Spool = Annotated[Path | None, typer.Option(help="folder of what was observed and not delivered yet")]
Rate = Annotated[str, typer.Option(help="canaries a second, 50/s at most")]


@canary.command("start")
def start(
    flow: str,
    rate: Rate = "1/s",
    lasting: Annotated[str, typer.Option("--for", help="how long, as 1h; without it until stopped")] = "",
    consume: Consume = None,
    to: To = "",
    hops: Hops = None,
    spool: Spool = None,
    every: Annotated[str, typer.Option(help="how often to say how it goes")] = "10s",
    as_json: Json = False,
) -> None:
    """Send canaries into a flow that is marked for them, until stopped, and show what becomes of them.

    Ends with 1 when one was not sent, or is missing or not known in the end.
    """
    from tracker.cli.gameday.canaries import run

    run(flow, rate, lasting, consume or [], to, hops, spool, every, as_json)


@canary.command("draft")
def draft(flow: str, as_json: Json = False) -> None:
    """Print the spec of a flow of canaries beside this one, to be read, corrected and put."""
    from tracker.cli.client import api, segment
    from tracker.gameday.lane import draft as drafted
    from tracker.model.spec import load_spec

    text = drafted(load_spec(api().get(f"/v1/flows/{segment(flow)}")["text"]))
    emit(as_json, {"flow": load_spec(text).flow, "text": text}, text.rstrip())


def drill(
    flow: str,
    fault: Annotated[str, typer.Option(help="skip, withhold, drop, duplicate, corrupt, blind; manual: you make it")],
    messages: Annotated[int, typer.Option(min=3, max=3000, help="a third before, a third hit, a third after")] = 30,
    rate: Rate = "10/s",
    consume: Consume = None,
    at: Annotated[str, typer.Option(help="the hop of the fault, where there is a choice")] = "",
    to: To = "",
    within: Annotated[str, typer.Option(help="each is to be found so soon after it could be known")] = "10s",
    longest: Annotated[str, typer.Option(help="stop a drill that takes longer")] = "15m",
    hops: Hops = None,
    spool: Spool = None,
    report: Annotated[Path | None, typer.Option(help="write the report here, Markdown, and beside it as JSON")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would be done, and what is expected")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask first")] = False,
    as_json: Json = False,
) -> None:
    """Make a fault among canaries, and hold what the tracker finds, and when, against what was expected.

    Only in a flow that is marked for canaries. Ends with 1 when an expectation does not hold.
    """
    from tracker.cli.gameday.drills import run

    run(flow, fault, messages, rate, consume or [], at, to, within, longest, hops, spool, report, dry_run, yes, as_json)
