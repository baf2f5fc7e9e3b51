"""Of which life of the broker all was read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class Life:
    """Its name; empty: of none. Kept in `folder` for the next process; None: not kept."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "life" if folder else None
        self.last = self._path.read_text(errors="replace") if self._path and self._path.exists() else ""

    def keep(self, life: str) -> None:
        """From now on, once it is said that what was before it is not known. Where the disk is full the next process
        has to say that again."""
        if life != self.last:
            self.last = life
            if self._path:
                with suppress(OSError):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._path.write_text(life)
