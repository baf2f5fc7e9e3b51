"""The `tracker` command. A client of the API, but for `serve`, `migrate` and `token`, which work on the ledger itself.

Exit codes: 0 fine, 1 findings, 2 usage, 3 unavailable.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import tracker
from tracker.cli import (
    alerts,
    anomalies,
    audit,
    books,
    dashboards,
    demo,
    events,
    flows,
    gameday,
    incidents,
    look,
    places,
    replay,
    serve,
    simulate,
    slo,
    token,
)
from tracker.cli.errors import CommandError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Every message accounted for, by name, at every hop. TRACKER_URL says where the service is.",
)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(serve.migrate)
app.add_typer(flows.app, name="flows")
app.add_typer(events.app, name="events")
app.add_typer(look.messages, name="messages")
app.add_typer(places.app, name="hops")
app.command()(books.reconcile)
app.command()(look.findings)
app.command()(anomalies.anomalies)
app.add_typer(incidents.app, name="incidents")
app.add_typer(replay.app, name="replay")
app.add_typer(slo.app, name="slo")
app.add_typer(alerts.app, name="alerts")
app.add_typer(audit.app, name="audit")
app.add_typer(gameday.canary, name="canary")
app.command()(gameday.drill)
app.command()(simulate.simulate)
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(token.app, name="token")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tracker {tracker.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say which it is")
    ] = False,
) -> None:
    """Every message accounted for, by name, at every hop."""


def main() -> None:
    """Entry point."""
    try:
        app()
    except CommandError as error:
        typer.echo(f"tracker: {error}", err=True)
        sys.exit(error.code)
