"""`collectors run CONFIG.yaml`: any number of collectors in one process, until SIGTERM or SIGINT. And
`collectors discover URL`: a configuration to begin with, and `collectors archive`: what they keep of messages."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Annotated

import typer

from collectors.config import read_config
from collectors.discovery import drafted, looked_at, told, write
from collectors.errors import CollectorError, Unavailable
from collectors.logins import without_logins
from collectors.service import Service, blocked_signals, checked
from collectors.snapshots import app as snapshots

USAGE, UNAVAILABLE = 2, 3
GARBAGE = (50_000, 20, 50)
"""Thresholds of the cyclic garbage collection. A read makes thousands of containers, and their counts free nearly all
of them; with Python's own thresholds an eighth of a Kafka tail's time went into looking for cycles among them."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


app.add_typer(snapshots, name="archive")


@app.callback()
def collectors() -> None:
    """What runs beside a hop and tells the tracker what happens there."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="CONFIG.yaml, see docs/collectors/index.md")],
    check: Annotated[bool, typer.Option("--check", help="read the configuration, say what is wrong, and end")] = False,
) -> None:
    """Run the collectors that CONFIG.yaml names. SIGTERM and SIGINT finish gracefully: what was read is delivered and
    committed, the rest comes again at the next start. SIGHUP reads CONFIG.yaml again and exchanges what has changed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        located = read_config(config)
        if check:
            checked(located, config)
            return
        gc.freeze()  # modules and configuration stay
        gc.set_threshold(*GARBAGE)
        with blocked_signals():
            fine = Service(config).run(located)
    except CollectorError as error:
        typer.echo(f"collectors: {without_logins(str(error))}", err=True)
        raise typer.Exit(USAGE) from None
    if not fine:
        raise typer.Exit(UNAVAILABLE)


@app.command()
def discover(
    url: Annotated[
        str, typer.Argument(help="kafka://, amqp:// or postgresql://; ${NAME} is taken from the environment")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder to write the drafts to: one configuration, one file a flow")
    ] = None,
    identity_header: Annotated[str, typer.Option(help="Kafka: the header with the application's id")] = "",
    client: Annotated[
        list[str] | None, typer.Option(help="Kafka: setting of librdkafka, KEY=VALUE; may be repeated")
    ] = None,
    management: Annotated[str, typer.Option(help="RabbitMQ: management API, http://host:15672 by default")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """What a live system holds, looked at without changing it, and drafts of a configuration and of flow specs."""
    try:
        found = looked_at(url, client or [], identity_header, management)
        drafts = drafted(found)
        written = write(out, drafts) if out else []
    except CollectorError as error:
        typer.echo(f"collectors: {without_logins(str(error))}", err=True)
        raise typer.Exit(UNAVAILABLE if isinstance(error, Unavailable) else USAGE) from None
    typer.echo(told(found, drafts, written, as_json), nl=False)


def main() -> None:
    """Entry point of the `collectors` command."""
    app()


if __name__ == "__main__":
    main()
