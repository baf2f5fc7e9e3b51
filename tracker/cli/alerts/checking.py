"""`tracker alerts check`: what is there against what would be made, and against the tools of who reads it."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from tracker.alerting import routing, rules
from tracker.cli.alerts.making import Made
from tracker.cli.answers import emit
from tracker.cli.errors import FINDINGS, CommandError
from tracker.cli.files import read

TOOLS: dict[str, Sequence[str]] = {
    rules.NAME: ("promtool", "check", "rules"),
    routing.NAME: ("amtool", "check-config"),
}
PATIENCE_S = 60


def compared(made: Made, folder: Path, as_json: bool) -> None:
    """Shows what differs and what the tools say of the files that are there. Raises typer.Exit(1) where anything is
    wrong."""
    differs = {name: difference(folder / name, text) for name, text in made.files.items()}
    there = [name for name in made.files if (folder / name).is_file()]
    refused = {name: told for name in there if (told := tool(name, folder / name))}
    skipped = sorted({TOOLS[name][0] for name in there if not shutil.which(TOOLS[name][0])})
    wrong = any(differs.values()) or bool(refused)
    lines = [*filter(None, differs.values()), *(f"{folder / name}: {told}" for name, told in refused.items())]
    if any(differs.values()):
        lines.append("write them again with the same options: tracker alerts render --to " + str(folder))
    lines += [f"{name} is not installed, so its file was not checked by it" for name in skipped]
    if not wrong:
        lines.append(f"{folder}: as it would be made for {made.flows} flows")
    answer = {"same": not any(differs.values()), "differences": differs, "refused": refused, "skipped": skipped}
    shown(as_json, answer, lines)
    if wrong:
        raise typer.Exit(FINDINGS)


def shown(as_json: bool, answer: Any, lines: Iterable[str]) -> None:
    """The answer as JSON, or the lines as they are: those of a difference are not to be broken."""
    if as_json:
        emit(True, answer, "")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)


def difference(path: Path, text: str) -> str:
    """From what is at `path` to `text`, as `diff -u` shows it; empty when they are the same. Raises CommandError."""
    before = read(path) if path.exists() else ""
    names = (str(path) if path.exists() else "/dev/null", "made now")
    return "".join(difflib.unified_diff(before.splitlines(True), text.splitlines(True), *names)).rstrip()


def tool(name: str, path: Path) -> str:
    """What the tool for this kind of file complains of; empty when it accepts it, or is not installed."""
    command = TOOLS[name]
    if not (binary := shutil.which(command[0])):
        return ""
    try:
        ran = subprocess.run(
            [binary, *command[1:], str(path)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{command[0]}: {error}") from None
    return f"{command[0]} refuses it: {(ran.stdout + ran.stderr).strip()}" if ran.returncode else ""
