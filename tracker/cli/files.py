"""Files that commands read and write for people."""

from __future__ import annotations

from pathlib import Path

from tracker.cli.errors import CommandError


def write(path: Path, text: str) -> None:
    """Put the text there. Raises CommandError that names the file."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None


def read(path: Path) -> str:
    """The file's text. Raises CommandError that names the file."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: not UTF-8") from None
