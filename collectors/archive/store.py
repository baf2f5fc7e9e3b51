"""Where the files of an archive lie: a folder, or whatever fsspec has a file system for. The only module that knows
fsspec.

A file is there whole or not at all. Locally: written beside, fsynced, renamed, its folder fsynced. Elsewhere: one PUT.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from collectors.archive.names import TEMPORARY
from collectors.errors import ConfigInvalid, MissingExtra, Unavailable
from collectors.logins import without_logins


class Store:
    """Files by their path below `url`. `options` go to the file system. Raises `ConfigInvalid` for a URL that nobody
    knows, `MissingExtra` when the package for it is not installed; every call raises `Unavailable`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.shown = without_logins(url)
        try:
            # An instance of our own: a cached one may remember listings that others have changed since.
            made = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
        except ImportError as error:
            raise MissingExtra(f"archive {self.shown}", "archive", error.name or str(error)) from None
        except (ValueError, TypeError) as error:
            raise ConfigInvalid(f"archive: url {self.shown}: {type(error).__name__}: {_said(error)}") from None
        self._fs, self._root = made[0], made[1].rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def put(self, path: str, data: bytes) -> None:
        """Durable when this returns."""
        with self._translated(f"write {path}"):
            if self._local:
                _put_locally(Path(self._at(path)), data)
            else:
                self._fs.pipe_file(self._at(path), data)

    def get(self, path: str) -> bytes | None:
        """The whole file; None when there is none."""
        with self._translated(f"read {path}"):
            try:
                found: bytes = self._fs.cat_file(self._at(path))
            except FileNotFoundError:
                return None
            return found

    def paths(self, below: str = "") -> list[str]:
        """All files below a folder, from the archive's own on."""
        top = self._at(below).rstrip("/")
        with self._translated("list"):
            self._fs.invalidate_cache(top)
            try:
                found = self._fs.find(top)
            except FileNotFoundError:
                return []
        return sorted(path[len(self._root) + 1 :] for path in found)

    def delete(self, path: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with self._translated(f"delete {path}"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(path))

    def close(self) -> None:
        """Nothing to let go of: fsspec's file systems end with the process."""

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise Unavailable(f"archive {self.shown}: cannot {what}: {_said(error)}") from error


def _said(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return words or f"{type(error).__name__}: {without_logins(str(error))[:200]}"


def _put_locally(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        file = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640)
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):  # the second: the first may be new
        _sync(folder)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
