"""What `tracker alerts` is about: both files, made for flows that come from files or from a tracker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tracker.alerting import routing, rules
from tracker.alerting.alert import GRAFANA, TRACKER, Places, Whom
from tracker.alerting.receivers import Receivers, ReceiversError, parsed
from tracker.cli.client import Api
from tracker.cli.errors import CommandError
from tracker.cli.files import read
from tracker.cli.settings import client_settings
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec

HEAD = "# Made by `tracker alerts render`: change the flow specs and receivers, not this file.\n"
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
    specs: Sequence[Path], flows_from: str, console: str, grafana: str, receivers: Path | None, apart: Sequence[str]
) -> Made:
    """Of these spec files, or of the flows of the tracker at `flows_from`. Owners without a receiver are told of on
    stderr. Raises CommandError."""
    if specs and flows_from:
        raise CommandError("give spec files or --flows-from, not both")
    flows = list(_served(flows_from) if flows_from else map(_spec, specs))
    names = [spec.flow for spec in flows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CommandError(f"flow {twice[0]} is in two files: which one is in force?")
    told = _receivers(receivers)
    whom = Whom.of(flows)
    for owner in routing.untold(whom.owners.values(), told):
        typer.echo(f"tracker: {receivers} has no {owner}: operations gets its alerts", err=True)
    places = Places((console or flows_from or TRACKER).rstrip("/"), (grafana or GRAFANA).rstrip("/"))
    try:
        routes = routing.rendered(list(whom.owners.values()), told, apart, HEAD)
    except ReceiversError as error:
        raise CommandError(f"{receivers}: {error}") from None
    return Made(rules.rendered(places, whom, HEAD), routes, len(flows))


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
