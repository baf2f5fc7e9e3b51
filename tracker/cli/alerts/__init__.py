"""`tracker alerts`: rules for Prometheus and a configuration for Alertmanager, made, compared and put in force. What
makes them is imported by the commands when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.answers import Json

app = typer.Typer(no_args_is_help=True, help="Alerts: rules for Prometheus, routes by owner for Alertmanager.")

Specs = Annotated[list[Path] | None, typer.Argument(help="flow specs whose owners get the alerts")]
From = Annotated[str, typer.Option("--flows-from", help="a tracker's address, instead of files; with TRACKER_TOKEN")]
Console = Annotated[str, typer.Option(help="the tracker's address as people reach it, for links; else --flows-from")]
Grafana = Annotated[str, typer.Option(help="Grafana's address as people reach it, for links")]
Told = Annotated[Path | None, typer.Option("--receivers", help="YAML file that says how each owner is told")]
Empty = Annotated[bool, typer.Option("--allow-empty", help="there may be no flows, and then no owner has a route")]
Apart = Annotated[list[str] | None, typer.Option(help="external label that tells installations apart; may be repeated")]


@app.command()
def render(
    specs: Specs = None,
    flows_from: From = "",
    console_url: Console = "",
    grafana_url: Grafana = "",
    receivers: Told = None,
    apart_by: Apart = None,
    allow_empty: Empty = False,
    to: Annotated[Path | None, typer.Option(help="folder to write both files to; else they are printed")] = None,
    as_json: Json = False,
) -> None:
    """Make the rules, and Alertmanager's configuration for these flows, and write or print them."""
    from tracker.cli.alerts.making import made
    from tracker.cli.alerts.showing import written

    wanted = (specs or [], flows_from, console_url, grafana_url, receivers, apart_by or [], allow_empty)
    written(made(*wanted), to, as_json)


@app.command()
def check(
    folder: Annotated[Path, typer.Option("--in", help="folder that holds what `render --to` wrote")],
    specs: Specs = None,
    flows_from: From = "",
    console_url: Console = "",
    grafana_url: Grafana = "",
    receivers: Told = None,
    apart_by: Apart = None,
    allow_empty: Empty = False,
    as_json: Json = False,
) -> None:
    """Compare what is there with what would be made now, and ask promtool and amtool about it where they are installed.

    Ends with 1 when anything differs or is refused.
    """
    from tracker.cli.alerts.checking import compared
    from tracker.cli.alerts.making import made

    wanted = (specs or [], flows_from, console_url, grafana_url, receivers, apart_by or [], allow_empty)
    compared(made(*wanted), folder, as_json)


@app.command("apply")
def apply_(
    prometheus_rules: Annotated[Path, typer.Option(help="the rule file that Prometheus reads, as seen from here")],
    reload: Annotated[str, typer.Option(help="Prometheus' address, as http://prometheus:9090")],
    console_url: Annotated[str, typer.Option(help="the tracker's address as people reach it, for links")] = "",
    grafana_url: Grafana = "",
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it only the difference is shown")] = False,
    as_json: Json = False,
) -> None:
    """Show how the rules would change; with --yes, put them in force in Prometheus, and see that they are. They are the
    same for all flows.

    When Prometheus refuses them, what was there before is put back.
    """
    from tracker.cli.alerts.applying import applied
    from tracker.cli.alerts.making import made_rules

    applied(made_rules(console_url, grafana_url), prometheus_rules, reload, yes, as_json)
