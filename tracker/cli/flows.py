"""`tracker flows`: put, get, list, validate, discover, delete."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.answers import Json, console, emit, table
from tracker.cli.client import api, segment
from tracker.cli.errors import CommandError
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import say

app = typer.Typer(no_args_is_help=True, help="Flow specs: which checkpoints messages pass, in which order, how fast.")
File = Annotated[str, typer.Argument(help="YAML or JSON file; - reads stdin")]
LIMIT = 100_000


@app.command()
def put(file: File, as_json: Json = False) -> None:
    """Put a spec; it is in force for messages created from now on, a first version for all."""
    text, spec = _read(file)
    got = api().send(
        "PUT", f"/v1/flows/{segment(spec.flow)}", content=text.encode(), headers={"Content-Type": "application/yaml"}
    )
    emit(as_json, got, f"flow {got['flow']}: version {got['version']} in force")


@app.command()
def get(flow: str, as_json: Json = False) -> None:
    """Show a spec as it was put."""
    got = api().get(f"/v1/flows/{segment(flow)}")
    emit(as_json, got, got["text"].rstrip())


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every flow."""
    rows = list(api().pages("/v1/flows", LIMIT))
    for row in rows:
        row["checkpoints"] = [f"{'|'.join(c['hop'])}:{c['stage']}" for c in row["spec"]["checkpoints"]]
    columns = {"flow": "FLOW", "version": "VERSION", "owner": "OWNER", "checkpoints": "CHECKPOINTS"}
    emit(as_json, rows, table(columns, rows, "no flow yet: tracker flows put FLOW.yaml"))


@app.command()
def validate(file: File, as_json: Json = False) -> None:
    """Read a spec and say what is wrong with it, or what it asks; needs no service."""
    _, spec = _read(file)
    points = [
        {"checkpoint": c.name, "after": list(c.after), "within": "" if c.within is None else say(c.within)}
        for c in spec.checkpoints
    ]
    asked = [{"events": f"{hop}:{stage}", "bring": need.told()} for (hop, stage), need in spec.needs.items()]
    if as_json:
        emit(True, {"flow": spec.flow, "valid": True, "checkpoints": points, "schema": asked}, "")
        return
    console().print(f"{spec.flow}: valid", markup=False)
    emit(False, points, table({"checkpoint": "CHECKPOINT", "after": "AFTER", "within": "WITHIN"}, points, ""))
    if asked:
        console().print()
        emit(False, asked, table({"events": "EVENTS AT", "bring": "HAVE TO BRING"}, asked, ""))


@app.command()
def delete(flow: str, as_json: Json = False) -> None:
    """Judge this flow's messages no more; what was stored stays."""
    api().send("DELETE", f"/v1/flows/{segment(flow)}")
    emit(as_json, {"flow": flow, "deleted": True}, f"flow {flow}: deleted")


@app.command()
def discover(
    out: Annotated[Path | None, typer.Option(help="folder to write the drafts to, one file a flow")] = None,
    as_json: Json = False,
) -> None:
    """What OTLP spans tell of messages that no flow takes, and drafts of specs for it."""
    found = api().get("/v1/flows/discovered")
    written = _write(out, found["drafts"]) if out else []
    if as_json:
        emit(True, {**found, "written": written}, "")
        return
    columns = {"service": "SERVICE", "system": "SYSTEM", "destination": "DESTINATION", "operation": "OPERATION",
               "count": "SPANS", "reason": "WHY", "flow": "FLOW", "last_seen": "LAST SEEN"}  # fmt: skip
    emit(False, found["items"], table(columns, found["items"], "no span about messages was left over"))
    if out:
        console().print("\n".join([*written, "read them, correct them, then: tracker flows put FILE"]), markup=False)
    elif found["drafts"]:
        console().print("\n" + "---\n".join(found["drafts"]).rstrip(), markup=False)


def _write(folder: Path, drafts: list[str]) -> list[str]:
    """Never over a file that is there, for somebody may have corrected it: the next free name is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for draft in drafts:
            name = load_spec(draft).flow
            names = (f"{name}{f'-{n}' if n else ''}.yaml" for n in count())
            file = next(folder / name for name in names if not (folder / name).exists())
            file.write_text(draft, "utf-8")
            written.append(str(file))
        return written
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}") from None


def _read(file: str) -> tuple[str, FlowSpec]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        return text, load_spec(text)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: not UTF-8") from None
    except SpecError as error:
        raise CommandError(f"{file}{f':{error.line}' if error.line else ''}: {error.reason}") from None
