"""`tracker dashboards`: Grafana's dashboards, as files or into a Grafana. What is heavy is imported when it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from tracker.assets import folder as asset
from tracker.cli.answers import Json, emit, table
from tracker.cli.errors import FINDINGS, UNAVAILABLE, CommandError

if TYPE_CHECKING:
    from tracker.dashboards.push import Sought

app = typer.Typer(no_args_is_help=True, help="Grafana's dashboards: as files, or pushed into a Grafana.")
Folder = Annotated[Path | None, typer.Argument(help="where the JSON lies; without it that of this installation")]
TOKEN, READ_TOKEN = "GRAFANA_TOKEN", "GRAFANA_TRACKER_TOKEN"


@app.command()
def render(folder: Folder = None, as_json: Json = False) -> None:
    """Write the dashboards' JSON, where it is not there as it should be."""
    from tracker.dashboards.generate import write

    try:
        written = [str(path) for path in write(folder or asset("dashboards"))]
    except OSError as error:
        raise CommandError(f"cannot write there: {error}") from None
    emit(as_json, {"written": written}, "\n".join(written) or "nothing to write: all are as they should be")


@app.command()
def check(folder: Folder = None, as_json: Json = False) -> None:
    """Say which files are not as the code makes them; ends with 1 when there are some."""
    from tracker.dashboards.generate import stale

    found = [str(path) for path in stale(folder or asset("dashboards"))]
    emit(as_json, {"stale": found}, "\n".join(f"{path}: run `tracker dashboards render`" for path in found) or "fine")
    if found:
        raise typer.Exit(FINDINGS)


@app.command()
def push(
    grafana: Annotated[str, typer.Option(help="its address, as https://grafana.example")],
    prometheus: Annotated[
        str, typer.Option(help="how Grafana reaches Prometheus; without it that data source is not made")
    ] = "",
    tracker: Annotated[
        str, typer.Option(help="how Grafana reaches the tracker; without it that data source is not made")
    ] = "",
    console: Annotated[
        str, typer.Option(help="the tracker's address as people reach it, where links lead; they can change it")
    ] = "http://127.0.0.1:8000",
    token_file: Annotated[
        Path | None, typer.Option(help=f"file with the token of a service account of Grafana, instead of {TOKEN}")
    ] = None,
    read_token_file: Annotated[
        Path | None, typer.Option(help=f"file with a token of the tracker, scope read, instead of {READ_TOKEN}")
    ] = None,
    again: Annotated[bool, typer.Option("--token-again", help="send the read token even where one is kept")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it only say what would be done")] = False,
    as_json: Json = False,
) -> None:
    """Put folder, data sources and dashboards into a Grafana; a dry run unless `--yes`."""
    token = _secret(token_file, TOKEN)
    if not token:
        raise CommandError(f"no token for Grafana: set {TOKEN}, or --token-file, to one of a service account")
    sought = _sought(prometheus, tracker, _secret(read_token_file, READ_TOKEN), _http(console, "--console"))
    steps = _pushed(_http(grafana, "--grafana"), token, sought, yes, again)
    done = "DONE" if yes else "WOULD DO"
    columns = {"does": done, "kind": "WHAT", "name": "NAME"}
    emit(as_json, {"dry_run": not yes, "steps": steps}, table(columns, steps, ""))
    if not (yes or as_json):
        typer.echo("nothing was changed: a dry run; --yes does it")


def _pushed(address: str, token: str, sought: Sought, yes: bool, again: bool) -> list[dict[str, Any]]:
    try:
        from grafana_client.api import GrafanaApi
        from grafana_client.client import GrafanaException
        from niquests.exceptions import RequestException
    except ModuleNotFoundError as error:
        raise CommandError(
            f"this needs {error.name}, which is not installed: pip install 'message-tracker[grafana]'"
        ) from None
    from tracker.dashboards.push import push as steps

    def absent(look: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return look()
        except GrafanaException as error:
            if error.status_code == 404:
                return None
            raise

    try:
        # Behind a path it wants a slash at the end, which it does not add itself.
        api = GrafanaApi.from_url(f"{address}/" if urlsplit(address).path else address, credential=token, timeout=30.0)
        return [
            {"does": step.does, "kind": step.kind, "name": step.name} for step in steps(api, sought, absent, yes, again)
        ]
    except GrafanaException as error:
        raise _refused(address, error.status_code, str(error)) from None
    except (RequestException, OSError) as error:
        raise CommandError(f"nobody answers at {address}: {error}", UNAVAILABLE) from None


def _refused(address: str, status: int | None, said: str) -> CommandError:
    if status == 401:
        return CommandError(f"{address} does not know this token")
    if status == 403:
        return CommandError(
            f"{address}: this token may not do that; a service account with the role Admin may (data sources need it)"
        )
    if not status or status >= 500:
        return CommandError(f"{address} does not answer as it should: {said}", UNAVAILABLE)
    return CommandError(f"{address} refuses: {said}")


def _sought(prometheus: str, tracker: str, read: str, console: str) -> Sought:
    from tracker.dashboards.push import Sought

    prometheus = _http(prometheus, "--prometheus") if prometheus else ""
    if not tracker:
        return Sought(prometheus, console=console)
    parts = urlsplit(_http(tracker, "--tracker"))
    tls = parts.scheme == "https"
    path = f"{parts.path.strip('/')}/clickhouse".lstrip("/")
    port = parts.port or (443 if tls else 80)
    return Sought(prometheus, parts.hostname or "", port, path, tls, read, console)


def _http(address: str, option: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{option} {address!r}: write http://host:port or https://host:port")
    if parts.username or parts.password or parts.query:
        raise CommandError(f"{option}: only the address, without user, password or query")
    return address.rstrip("/")


def _secret(file: Path | None, variable: str) -> str:
    if file is None:
        return os.environ.get(variable, "").strip()
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {error}") from None
