"""The private key that signs statements: a file that only its owner reads, made when it is first needed.

It is read when something is signed and kept nowhere else: not in the database, not in a log, in no answer.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tracker.control.errors import Broken, Invalid, Unavailable
from tracker.model.errors import Invalid as NoKey
from tracker.model.seal import Key

SETTING = "TRACKER_STATEMENT_KEY"


class Signer:
    """The key in the file `path`; None where there is no place for one by itself, as beside a PostgreSQL database."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def key(self) -> Key:
        """The key, made now if there is none. Raises `Invalid` (no place), `Unavailable` (the file cannot be read or
        written) or `Broken` (it holds no key, or others can read it)."""
        if self._path is None:
            raise Invalid(
                f"statements need a key file: set {SETTING} to a path that all trackers of this installation read"
            )
        try:
            if not self._path.exists():
                _make(self._path)
            mode = self._path.stat().st_mode
            text = self._path.read_bytes()
        except OSError as error:
            raise Unavailable(
                f"the statement key {self._path} cannot be used: {error.strerror}; check {SETTING}, the folder and "
                "its owner"
            ) from None
        if mode & 0o007:
            raise Broken(f"everybody on this machine can use the statement key {self._path}: chmod 600 it, and if "
                         "others may have read it, move it away: the next statement makes a new one")  # fmt: skip
        try:
            return Key.read(text)
        except NoKey as error:
            raise Broken(f"the statement key {self._path} is unusable: {error}; restore it from a backup, or move it "
                         "away: the next statement makes a new one") from None  # fmt: skip


def _make(path: Path) -> None:
    """Written whole, then given its name: of two trackers that make one at once, both use the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Key.new().pem())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
