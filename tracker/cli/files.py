"""Files that commands read and write for people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from tracker.cli.errors import CommandError


def write(path: Path, text: str) -> None:
    """Put the text there. Raises CommandError that names the file."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None


def replace(path: Path, text: str) -> None:
    """Put the text there, whole or not at all: who reads the file meanwhile sees the old text or the new one. A link is
    followed; the file keeps its mode. Raises CommandError that names the file."""
    path = path.resolve()
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(mode)
                temporary.replace(path)
            except OSError:
                temporary.unlink()
                raise
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


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Put the lines there, one after another; how many they were. Raises CommandError that names the file."""
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    return count


def lines_of(path: Path) -> Iterator[str]:
    """The file's lines, read as they are needed. Raises CommandError that names the file."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: not UTF-8") from None
