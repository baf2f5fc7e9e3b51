"""`collectors archive list|verify|prune|restore`: what collectors keep of messages, looked at and looked after.

An archive is named by a configuration (`CONFIG.yaml`, whose collectors have `archive`) or by `--url` and `--key`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from collectors.config import read_config
from collectors.discovery import expanded
from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.logins import without_logins
from collectors.registry import archives
from tracker.model.units import duration, instant, rfc3339

FINDINGS, USAGE, UNAVAILABLE = 1, 2, 3

app = typer.Typer(no_args_is_help=True, help="What collectors keep of messages: list, verify, prune, restore.")

ConfigAt = Annotated[Path | None, typer.Argument(help="CONFIG.yaml whose collectors have `archive`")]
Url = Annotated[
    str, typer.Option(help="instead of CONFIG: where the archive lies; ${NAME} is taken from the environment")
]
Key = Annotated[str, typer.Option(help="with --url: key provider, env:NAME or file:PATH")]
Flow = Annotated[str, typer.Option(help="only this flow")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON")]


@app.command("list")
def list_(config: ConfigAt = None, url: Url = "", key: Key = "", flow: Flow = "", as_json: AsJson = False) -> None:
    """Every hop with its segments, records, span and gaps. Ends with 1 when something is missing."""
    with _told() as say:
        held = [each for archive in _named(config, url, key) for each in archive.held(flow)]
        say(held, as_json, _held)
        if any(each.gaps or each.trouble for each in held):
            raise typer.Exit(FINDINGS)


@app.command()
def verify(config: ConfigAt = None, url: Url = "", key: Key = "", flow: Flow = "", as_json: AsJson = False) -> None:
    """Decrypt every file and compare every payload with its digest. Ends with 1 when a file cannot be used."""
    with _told() as say:
        done = [archive.verify(flow) for archive in _named(config, url, key)]
        wrong = [line for each in done for line in each.wrong]
        whole = {"segments": sum(d.segments for d in done), "records": sum(d.records for d in done), "wrong": wrong}
        say(whole, as_json, _verified)
        if wrong:
            raise typer.Exit(FINDINGS)


@app.command()
def prune(
    config: ConfigAt = None,
    url: Url = "",
    key: Key = "",
    flow: Flow = "",
    hop: Annotated[str, typer.Option(help="only this hop of --flow")] = "",
    before: Annotated[str, typer.Option(help="what was observed before this time; else `keep` of CONFIG")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it, only say what would be")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete segments of which everything is older. It cannot be taken back."""
    with _told() as say:
        if hop and not flow:
            raise ConfigInvalid("--hop: name its --flow, too")
        deleted = dict[str, None]()
        for archive, collector in _each(config, url, key):
            moment = _moment("--before", before) if before else _kept_since(archive, collector)
            whose = "" if before else collector  # `keep` is of one collector, a time of all
            for each in [flow] if flow else archive.flows or [""]:
                deleted |= dict.fromkeys(s.path for s in archive.prune(moment, each, hop, whose, not yes))
        say({"deleted": yes, "segments": list(deleted)}, as_json, _pruned)


@app.command()
def restore(
    flow: Annotated[str, typer.Option(help="the flow")],
    to: Annotated[Path, typer.Option(help="folder to write to: new, or empty. What is in it then is not encrypted")],
    config: ConfigAt = None,
    url: Url = "",
    key: Key = "",
    until: Annotated[str, typer.Option(help="what was observed up to this time")] = "now",
    as_json: AsJson = False,
) -> None:
    """Write what a flow's hops held at a point in time. Ends with 1 when a span of it is not complete."""
    with _told() as say:
        found = _named(config, url, key, flow)
        if len(found) != 1:
            raise ConfigInvalid(f"{len(found)} archives of flow {flow!r} are configured: name one by --url and --key")
        restored = found[0].restore(flow, _moment("--until", until), to)
        say(restored, as_json, lambda done: _restored(done, to))
        if not restored.complete:
            raise typer.Exit(FINDINGS)


def _named(path: Path | None, url: str, key: str, flow: str = "") -> Sequence[Any]:
    """The archives that are meant, each once; those of a flow, where one is given."""
    known: dict[bytes, Any] = {}
    for archive, _ in _each(path, url, key):
        if not flow or not archive.flows or flow in archive.flows:
            known.setdefault(msgspec.json.encode(archive.place.model_dump()), archive)
    return list(known.values())


def _each(path: Path | None, url: str, key: str) -> list[tuple[Any, str]]:
    """The archives that are meant, each with the collector that fills it."""
    if (path is None) == (not url):
        raise ConfigInvalid("name an archive: CONFIG.yaml, or --url and --key")
    if path is None:
        return [(archives()({"url": expanded(url), "key": key, "unencrypted": not key}, "archive"), "")]
    found = [
        (archives()(each.archive, f"collector {each.name}: archive"), each.name)
        for each in read_config(path).config.collectors
        if each.archive is not None
    ]
    if not found:
        raise ConfigInvalid(f"{path}: no collector has `archive`")
    return found


def _moment(option: str, text: str) -> int:
    now = time.time_ns() // 1000
    try:
        if text == "now":
            return now
        return now - duration(text[1:]) if text.startswith("-") else instant(text)
    except ValueError as error:
        raise ConfigInvalid(f"{option}: {error}, or a span before now: -1h") from None


def _kept_since(archive: Any, collector: str) -> int:
    if archive.keep is None:
        raise ConfigInvalid(f"say --before TIME: {f'collector {collector} has' if collector else 'there is'} no `keep`")
    return time.time_ns() // 1000 - int(archive.keep)


@contextmanager
def _told() -> Iterator[Callable[[Any, bool, Callable[[Any], None]], None]]:
    """What answers: as JSON, or by what shows it. Errors of ours become one line and an exit code."""
    try:
        yield _say
    except CollectorError as error:
        typer.echo(f"collectors: {without_logins(str(error))}", err=True)
        raise typer.Exit(UNAVAILABLE if isinstance(error, Unavailable) else USAGE) from None


def _say(answer: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(answer), indent=1).decode())
    else:
        show(answer)


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def _span(first: int | None, last: int | None) -> str:
    return "" if first is None or last is None else f"{rfc3339(first)} to {rfc3339(last)}"


def _held(every: Sequence[Any]) -> None:
    table = Table("flow", "hop", "collector", "segments", "records", "observed", "complete", box=None)
    for each in every:
        told = "no: see below" if each.gaps or each.trouble else "yes"
        table.add_row(
            each.flow,
            each.hop,
            each.collector,
            str(each.segments),
            str(each.records),
            _span(each.first, each.last),
            told,
        )
    console = _console()
    console.print(table if every else "nothing")
    for each in every:
        place = f"{each.flow} {each.hop} {each.collector}"
        for gap in each.gaps:
            console.print(f"{place}: {_span(gap.since, gap.until)}: {gap.cause}")
        if each.trouble:
            console.print(f"{place}: {each.trouble}")


def _verified(done: Any) -> None:
    console = _console()
    for line in done["wrong"]:
        console.print(line)
    console.print(
        f"{done['segments']} segments with {done['records']} records are whole, {len(done['wrong'])} files are not"
    )


def _pruned(done: Any) -> None:
    console = _console()
    for path in done["segments"]:
        console.print(path)
    count = len(done["segments"])
    console.print(f"{count} segments deleted" if done["deleted"] else f"{count} segments would be deleted; say --yes")


def _restored(done: Any, to: Path) -> None:
    console = _console()
    for hop in done.hops:
        console.print(f"{hop.hop}: {hop.records} records, {hop.twice} copies left out")
        for gap in hop.incomplete:
            of = f" of {gap.source}" if gap.source else ""
            console.print(f"{hop.hop}: not complete{of}: {_span(gap.since, gap.until)}: {gap.cause}")
    console.print(f"in {to}, what was observed up to {rfc3339(done.until)}")
