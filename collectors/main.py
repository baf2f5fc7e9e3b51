"""`collectors run CONFIG.yaml`: any number of collectors in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from collectors.config import Config, Located, read_config
from collectors.emitter import Emitter
from collectors.errors import CollectorError, ConfigInvalid
from collectors.logs import logger
from collectors.registry import KINDS, factory
from collectors.runner import Runner
from collectors.sender import Pace

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
    committed, the rest comes again at the next start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        runners = _built(read_config(config), config, dry=check)
        if not check:
            _run(runners)
    except CollectorError as error:
        typer.echo(f"collectors: {error}", err=True)
        raise typer.Exit(USAGE) from None
    if any(runner.health.state == "failed" for runner in runners):
        raise typer.Exit(UNAVAILABLE)


def _built(located: Located, path: Path, dry: bool) -> list[Runner]:
    config = located.config
    token = config.tracker.secret()
    runners = []
    for wanted in config.collectors:
        try:
            made = factory(wanted.kind)(wanted.name, wanted.settings)
        except ConfigInvalid as error:
            raise ConfigInvalid(f"{path}:{located.lines[wanted.name]}: {error}") from error
        if dry:
            made.close()
            continue
        folder = config.spool / wanted.name
        emitter = _emitter(config, wanted.name, token, KINDS[wanted.kind].own_clock)
        runners.append(Runner(wanted.name, made, emitter, folder / "undecodable.ndjson"))
    return runners


def _emitter(config: Config, name: str, token: str, own_clock: bool) -> Emitter:
    return Emitter(
        config.tracker.url,
        token,
        collector=name,
        spool=config.spool / name,
        reader=True,
        own_clock=own_clock,
        limit=config.spool_mb * 2**20,
        timeout=config.tracker.timeout,
        pace=Pace(heartbeat=config.heartbeat),
    )


def _run(runners: Sequence[Runner]) -> None:
    """One thread each; the main thread waits for signals. A collector that fails for good does not end the others."""
    log = logger("collectors.main")

    def stop(number: int, _: object) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        for runner in runners:
            runner.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threads = [threading.Thread(target=_body, args=(runner,), name=runner.health.name) for runner in runners]
    for thread in threads:
        thread.start()
    log.info("running", collectors=[runner.health.name for runner in runners])
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)  # in slices: a signal is only handled between two bytecodes of the main thread


def _body(runner: Runner) -> None:
    try:
        runner.run()
    except Exception:  # noqa: BLE001 - the top of a collector's thread; the error is logged, the exit code tells
        logger("collectors.main").exception("collector ended", collector=runner.health.name)


def main() -> None:
    """Entry point of the `collectors` command."""
    app()


if __name__ == "__main__":
    main()
