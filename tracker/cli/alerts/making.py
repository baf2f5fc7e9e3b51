"""What `tracker alerts` is about: both files, made for flows that come from files or from a tracker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tracker.alerting import routing, rules
from tracker.alerting.alert import GRAFANA, TRACKER, Places
from tracker.alerting.receivers import Receivers, ReceiversError, parsed
from tracker.cli.client import Api
from tracker.cli.errors import CommandError
from tracker.cli.files import read
from tracker.cli.settings import client_settings
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec

HEAD = "# Made by `tracker alerts`: change its options, the flow specs or receivers, not this file.\n"
LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Made:
    """The texts of both files. `flows`: of how many flows."""

    rules: str
    routes: str
    flows: int

    @property
    def files(self) -> Mapping[str, str]:
        """By name."""
        return {rules.NAME: self.rules, routing.NAME: self.routes}


def made(
    specs: Sequence[Path],
    flows_from: str,
    console: str,
    grafana: str,
    receivers: Path | None,
    apart: Sequence[str],
    empty: bool,
) -> Made:
    """Of these spec files, or of the flows of the tracker at `flows_from`. Owners without a receiver are told of on
    stderr. Raises CommandError: also where nobody says who there is to tell, unless it may be `empty`."""
    if specs and flows_from:
        raise CommandError("give spec files or --flows-from, not both")
    flows = list(_served(flows_from) if flows_from else map(_spec, specs))
    if not flows and receivers is None and not empty:
        who = f"{flows_from} has no flows" if flows_from else "no flows are given: name spec files, or --flows-from"
        raise CommandError(f"{who}; then no owner has a route, and all goes to operations. If so: --allow-empty")
    names = [spec.flow for spec in flows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CommandError(f"flow {twice[0]} is in two files: which one is in force?")
    told = _receivers(receivers)
    owners = [spec.owner for spec in flows if spec.owner]
    for owner in routing.untold(owners, told):
        typer.echo(f"tracker: {receivers} has no {owner}: operations gets its alerts", err=True)
    if receivers and not told.watchdog:
        typer.echo(
            f"tracker: {receivers} has no `watchdog`: nobody hears of it when alerts get through no more", err=True
        )
    try:
        routes = routing.rendered(owners, told, apart, HEAD)
    except ReceiversError as error:
        raise CommandError(f"{receivers}: {error}") from None
    return Made(made_rules(console or flows_from, grafana), routes, len(flows))


def made_rules(console: str, grafana: str) -> str:
    """The rules alone, with links to these addresses; they are the same for all flows."""
    return rules.rendered(Places((console or TRACKER).rstrip("/"), (grafana or GRAFANA).rstrip("/")), HEAD)


def _spec(path: Path) -> FlowSpec:
    try:
        return load_spec(read(path))
    except SpecError as error:
        raise CommandError(f"{path}{f':{error.line}' if error.line else ''}: {error.reason}") from None


def _served(url: str) -> Iterator[FlowSpec]:
    settings = client_settings()
    tracker = Api(url.rstrip("/"), settings.token.get_secret_value(), settings.timeout_s)
    for row in tracker.pages("/v1/flows", LIMIT):
        yield load_spec(row["text"])


def _receivers(path: Path | None) -> Receivers:
    if path is None:
        return Receivers()
    try:
        return parsed(read(path))
    except ReceiversError as error:
        raise CommandError(f"{path}: {error}") from None
