"""Where what cannot be used is kept for a person to look at: nothing is thrown away in silence."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from collectors.base import Raw
from collectors.logs import logger

LIMIT = 16 * 2**20
"""Bytes of one file; what comes after that is only counted."""
_VALUE = 64 * 1024


class Rejects:
    """A file of NDJSON, appended to by one thread, at most `limit` bytes."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path, self._limit = path, limit

    def keep(self, raw: Raw, reason: str) -> bool:
        """Write one record with its reason; the value in base64, its first 64 KiB. False when the file is full."""
        line = msgspec.json.encode(
            {
                "reason": reason,
                "position": str(raw.position),
                "observed_at": raw.observed_at,
                "key": _encoded(raw.key or b""),
                "headers": {name: _encoded(value) for name, value in raw.headers.items()},
                "value": _encoded(raw.value[:_VALUE]),
                "size": len(raw.value),
            }
        )
        return self.keep_lines(line + b"\n")

    def keep_lines(self, lines: bytes) -> bool:
        """Write lines as they are. False when there is no room, in the file or on the disk."""
        try:
            with self._path.open("ab") as file:
                if file.tell() + len(lines) > self._limit:
                    return False
                file.write(lines)
        except OSError as error:
            logger("collectors.rejects").warning("cannot be set aside", file=str(self._path), error=str(error))
            return False
        return True


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
