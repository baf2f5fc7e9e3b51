"""`tracker serve` and `tracker migrate`: the commands that open the ledger themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.api.loopback import loopback
from tracker.cli.answers import Json, emit
from tracker.cli.errors import CommandError, server_side
from tracker.cli.settings import service_settings


def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8000,
    insecure: Annotated[bool, typer.Option("--insecure", help="ask nobody for a token; loopback only")] = False,
) -> None:
    """Start the service. TRACKER_STORE says where the ledger is; docs/configuration.md has every setting."""
    settings = service_settings()
    if insecure and not loopback(host):
        raise CommandError(f"--insecure with --host {host} would let everybody in: use 127.0.0.1, or tokens")
    with server_side():
        from tracker.cli.service import run

        run(settings, host, port, insecure)


def migrate(
    adopt: Annotated[bool, typer.Option("--adopt", help="the ledger's own control database is lost for good")] = False,
    as_json: Json = False,
) -> None:
    """Bring store and control database to this version's schema. `serve` does so by itself when it starts."""
    with server_side():
        from tracker.cli.compose import opened

        with opened(service_settings(), adopt) as (store, _, done):
            where = store.engine.where
    emit(as_json, {"store": where, "applied": done}, f"{where}: {', '.join(done) or 'up to date'}")
