"""Holes that no manifest tells of yet, in a file beside the collector's spool: one that was told survives a SIGKILL."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from collectors.archive.manifest import Hole
from collectors.errors import ConfigInvalid, Unavailable

Lost = tuple[str, str, Hole]
"""Flow, hop, and what is missing there."""


class Untold:
    """The file in `folder`. One thread. Raises `ConfigInvalid` when it cannot be read, `Unavailable` when it cannot be
    written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "archive-holes.json"
        try:
            self.holes = msgspec.json.decode(self._path.read_bytes(), type=list[Lost]) if self._path.exists() else []
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigInvalid(
                f"{self._path}: {type(error).__name__}: it cannot be read; look at it, then remove it"
            ) from None

    def add(self, lost: list[Lost]) -> None:
        """Durable when this returns; with an error nothing was added."""
        self._write([*self.holes, *lost])

    def told(self, count: int) -> None:
        """The first `count` stand in a manifest now."""
        if count:
            self._write(self.holes[count:])

    def _write(self, holes: list[Lost]) -> None:
        temporary = self._path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(holes))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise Unavailable(f"archive: {self._path}: {error.strerror}") from error
        self.holes = holes
