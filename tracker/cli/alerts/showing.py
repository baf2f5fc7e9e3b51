"""`tracker alerts render`: both files, written or printed."""

from __future__ import annotations

import sys
from pathlib import Path

from tracker.cli.alerts.making import Made
from tracker.cli.answers import emit
from tracker.cli.errors import CommandError
from tracker.cli.files import replace


def written(made: Made, folder: Path | None, as_json: bool) -> None:
    """Into `folder`, which is made where it is missing; else to stdout, as two documents. Raises CommandError."""
    if folder is None:
        if as_json:
            emit(True, made.files, "")
        else:
            sys.stdout.write("---\n".join(made.files.values()))
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}") from None
    files = [folder / name for name in made.files]
    for path, text in zip(files, made.files.values(), strict=True):
        replace(path, text)
    said = f"{made.flows} flows: {' and '.join(map(str, files))}"
    emit(as_json, {"flows": made.flows, "files": list(map(str, files))}, said)
