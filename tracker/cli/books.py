"""`tracker reconcile`: the books of a flow held against each other; as a signed statement; and a statement checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tracker.cli.answers import Json, console, emit, table
from tracker.cli.client import api, segment
from tracker.cli.errors import FINDINGS, CommandError
from tracker.cli.files import write
from tracker.cli.verify import Checked, verify

WRONG = ("divergent", "lost", "unacknowledged", "under_replicated", "dead_lettered", "blind")
"""Verdicts for which `reconcile` ends with 1."""


def reconcile(
    names: Annotated[list[str] | None, typer.Argument(metavar="FLOW", help="the flow; with --verify: files")] = None,
    flow: Annotated[str | None, typer.Option(help="the same as an option, as with other commands")] = None,
    start: Annotated[str, typer.Option("--from", help="RFC 3339, epoch, or -1h")] = "-1h",
    end: Annotated[str, typer.Option("--to", help="RFC 3339, epoch, or now")] = "now",
    step: Annotated[str | None, typer.Option(help="width of a window, as 10s or 1m")] = None,
    statement: Annotated[
        bool, typer.Option("--statement", help="have it signed, as the flow's next statement")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="with --statement: the file to write it to")] = None,
    check: Annotated[bool, typer.Option("--verify", help="check statements in files; needs no service")] = False,
    key: Annotated[list[Path] | None, typer.Option(help="with --verify: PEM file of a public key to trust")] = None,
    exceptions: Annotated[Path | None, typer.Option(help="NDJSON of all exceptions: written, or checked")] = None,
    as_json: Json = False,
) -> None:
    """Hold the books of a flow against each other. Ends with 1 when messages are missing, wrong or not known, or when
    the books do not agree; 0 otherwise. With --verify: 1 when anything about a statement is off."""
    if check:
        _verify(names or [], key or [], exceptions, as_json)
        return
    chosen = {given for given in (*(names or []), flow) if given}
    if len(chosen) != 1:
        raise CommandError("name one flow: tracker reconcile FLOW")
    path, span = f"/v1/flows/{segment(chosen.pop())}", {"from": start, "to": end}
    if statement:
        got = _stated(path, span, out, exceptions, as_json)
    else:
        got = api().get(f"{path}/reconciliation", **span, step=step)
        emit(as_json, got, "") if as_json else _books(got)
    if sum(got["verdicts"].get(verdict, 0) for verdict in WRONG) or not got["conserved"]:
        raise typer.Exit(FINDINGS)


def _books(got: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"{got['flow']}: {got['produced']} produced, {got['orphans']} orphans, as of {got['as_of'] or 'no pass yet'}",
        markup=False,
    )
    rows = [{"verdict": verdict, "messages": count} for verdict, count in sorted(got["verdicts"].items())]
    emit(False, None, table({"verdict": "VERDICT", "messages": "MESSAGES"}, rows, "no message in that span"))
    out.print(
        "conserved: the books agree"
        if got["conserved"]
        else "NOT conserved: the books differ, which is a bug of the tracker's"
    )
    spots = got["blind_spots"]
    columns = {"hop": "BLIND AT", "stage": "STAGE", "source": "SOURCE", "start": "FROM", "end": "TO", "cause": "CAUSE"}
    if spots:
        emit(False, None, table(columns, spots, ""))
    if left := got.get("spots_left"):
        out.print(f"and {left} more blind spots: ask for a shorter span")


# --- statements ---------------------------------------------------------------------------------------------------


def _stated(
    path: str, span: dict[str, str], out: Path | None, exceptions: Path | None, as_json: bool
) -> dict[str, Any]:
    """Have a statement made; give what it says."""
    service = api()
    document = service.send("POST", f"{path}/statements", span)
    said: dict[str, Any] = document["statement"]
    text = json.dumps(document, indent=2, ensure_ascii=True) + "\n"
    if out is not None:
        write(out, text)
    if exceptions is not None:
        fixed = {"from": said["from"], "to": said["to"]}
        rows = service.pages(f"{path}/exceptions", said["exceptions"]["total"] + 1, **fixed)
        write(exceptions, "".join(json.dumps(row) + "\n" for row in rows))
    if out is None or as_json:
        typer.echo(text, nl=False)
    else:
        typer.echo(_summary(said) + f"\nwritten to {out}; check it with: tracker reconcile --verify {out}")
    return said


def _summary(said: dict[str, Any]) -> str:
    orphans = f" and {said['orphans']} orphans" if said["orphans"] else ""
    lines = [
        f"{said['flow']} #{said['number']}, {said['from']} to {said['to']}: of {said['produced']} produced{orphans}, "
        f"{said['delivered']} delivered, {said['exceptions']['messages']} with exceptions, "
        f"{said['blind_spots']['total']} blind spots"
    ]
    if not said["settled"]:
        waiting = said["verdicts"].get("in_flight", 0)
        late = "" if said["to"] <= said["as_of"] else f"the last pass saw only what was there at {said['as_of']}"
        why = [f"{waiting} messages are in flight"] * bool(waiting) + [late] * bool(late)
        lines.append(f"     not settled: {', and '.join(why)}; a later statement may say more")
    return "\n".join(lines)


def _verify(files: list[str], keys: list[Path], exceptions: Path | None, as_json: bool) -> None:
    checked, broken = verify([Path(file) for file in files], keys, exceptions)
    good = not broken and not any(one.problems for one in checked)
    if as_json:
        shown = [{name: value for name, value in msgspec.to_builtins(one).items() if name != "said"} for one in checked]
        emit(True, {"good": good, "statements": shown, "problems": broken}, "")
    else:
        typer.echo("\n".join([line for one in checked for line in _lines(one)] + [f"BAD  {line}" for line in broken]))
    if not good:
        raise typer.Exit(FINDINGS)


def _lines(one: Checked) -> list[str]:
    if one.problems:
        return [f"BAD  {one.file}: {problem}" for problem in one.problems]
    lines = [f"good {one.file}: {_summary(one.said)}"]
    if one.trusted is None:
        lines.append(f"     signed with the key {one.key}, which nobody vouches for here: --key PUBLIC.pem says "
                     "whom to trust (GET /v1/statements/key, got on another way)")  # fmt: skip
    return lines
