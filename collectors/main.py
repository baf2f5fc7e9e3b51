"""`collectors run CONFIG.yaml`: any number of collectors in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from collectors.config import read_config
from collectors.errors import CollectorError
from collectors.service import Service, blocked_signals, checked

USAGE, UNAVAILABLE = 2, 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


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
        with blocked_signals():
            fine = Service(config).run(located)
    except CollectorError as error:
        typer.echo(f"collectors: {error}", err=True)
        raise typer.Exit(USAGE) from None
    if not fine:
        raise typer.Exit(UNAVAILABLE)


def main() -> None:
    """Entry point of the `collectors` command."""
    app()


if __name__ == "__main__":
    main()
