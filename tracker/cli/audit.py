"""`tracker audit`: who did what to what, and why; taken away, and verified without the tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tracker.cli.answers import Json, emit, table
from tracker.cli.client import api
from tracker.cli.errors import FINDINGS, CommandError
from tracker.cli.files import lines_of, write_lines
from tracker.cli.verify import sealing, trusted
from tracker.model import audited
from tracker.model.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="Who did what to what, and why. Needs a token with scope audit.")
EXPORT = "/v1/audit/export"


@app.command("list")
def list_entries(
    subject: Annotated[str | None, typer.Option(help="as replay/r-17, incident/inc-9, flow/orders")] = None,
    who: Annotated[str | None, typer.Option(help="the name of a token, or of a tracker")] = None,
    start: Annotated[str | None, typer.Option("--from", help="RFC 3339, epoch, or -1h")] = None,
    end: Annotated[str | None, typer.Option("--to", help="RFC 3339, epoch, or now")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most this many")] = 100,
    as_json: Json = False,
) -> None:
    """Entries, oldest first."""
    rows = list(api().pages("/v1/audit", limit, subject=subject, who=who, **{"from": start, "to": end}))
    columns = {"number": "NUMBER", "at": "AT", "who": "WHO", "what": "WHAT", "subject": "SUBJECT", "why": "WHY",
               "detail": "DETAIL"}  # fmt: skip
    emit(as_json, rows, table(columns, rows, "no entry matches"))


@app.command()
def export(file: Path, as_json: Json = False) -> None:
    """Write all of it to a file, NDJSON, with a signed head: to be verified by whoever gets it."""
    with api().lines(EXPORT) as lines:
        count = write_lines(file, lines) - 1
    said = f"{count} entries written to {file}; check it with: tracker audit verify {file}"
    emit(as_json, {"file": str(file), "entries": count}, said)


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="an export; without it the tracker is asked for one")] = None,
    key: Annotated[list[Path] | None, typer.Option(help="PEM file of a public key to trust")] = None,
    since: Annotated[Path | None, typer.Option(help="an earlier export: its end must still be there")] = None,
    as_json: Json = False,
) -> None:
    """Check the chain and the signature. Ends with 1, and names the first broken entry, when anything is off. What a
    chain cannot show by itself is an end that was cut off before the export: keep exports, and give one as --since."""
    kept = None if since is None else _head(since)
    known = trusted(key or [])
    if file is None:
        with api().lines(EXPORT) as lines:
            found = _checked(lines, kept)
    else:
        found = _checked(lines_of(file), kept)
    if known and found.head is not None and found.head.key not in known:
        said = f"it is signed with the key {found.head.key}, which is none of those given with --key"
        found = msgspec.structs.replace(found, problems=[*found.problems, said])
    name = str(file or "the audit log")
    good = f"good {name}: {found.entries} entries, signed with the key {found.head.key if found.head else '-'}"
    bad = "\n".join(f"BAD  {name}: {problem}" for problem in found.problems)
    emit(as_json, {"good": not found.problems, **msgspec.to_builtins(found)}, bad or good)
    if found.problems:
        raise typer.Exit(FINDINGS)


def _checked(lines: Iterable[str], kept: audited.Head | None) -> audited.Checked:
    seal = sealing()
    return audited.check(lines, seal.signed, seal.key_id, kept)


def _head(file: Path) -> audited.Head:
    last = ""
    for text in _filled(lines_of(file)):
        last = text
    try:
        return audited.head_of(last)
    except Invalid as error:
        raise CommandError(f"--since {file}: {error}") from None


def _filled(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())
