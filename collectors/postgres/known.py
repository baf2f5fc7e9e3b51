"""What a collector of an outbox knows of its slot and its publication, for its next start: a small file in its folder.

Both live on the server, and have no identity there that outlives them: one that was taken away and made again while
nobody read looks like the one before, and what was committed in between is in neither.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from collectors.errors import ConfigInvalid, Unavailable
from collectors.postgres.pgoutput import LSN

NAME = "outbox.json"


class Known(msgspec.Struct, frozen=True):
    """The slot was confirmed up to `confirmed` by us, never further (-1: not known), and read by a publication with
    these `signs`, by table."""

    confirmed: LSN = -1
    signs: dict[str, str] = {}

    def passed(self, confirmed: LSN) -> bool:
        """Whether a slot that is confirmed up to here was so by somebody else, or made anew: it begins where the log
        ended then, which is behind all that we had confirmed."""
        return 0 <= self.confirmed < confirmed

    def another(self, signs: Mapping[str, str]) -> bool:
        """Whether these are of a publication that was made anew. What was written while there was none cannot be
        decoded, by whatever publication of its name: the slot would fail for ever."""
        made = {sign.partition("/")[0] for sign in signs.values()}
        return bool(self.signs) and not made <= {sign.partition("/")[0] for sign in self.signs.values()}


class Memory:
    """Remembers in `folder`; None: as long as this process lives. Raises `ConfigInvalid` for a file that cannot be
    read, `Unavailable` for one that cannot be written."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / NAME if folder else None
        self._known: Known | None = None

    @property
    def known(self) -> Known:
        """What was remembered last."""
        if self._known is None:
            self._known = self._read()
        return self._known

    def remember(self, known: Known) -> None:
        """From now on it is this. A SIGKILL leaves one or the other; where the host itself went down, what is left may
        be older than the server's: that is a hole, too."""
        if known == self.known:
            return
        if self._path:
            new = self._path.with_suffix(".new")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                new.write_bytes(msgspec.json.encode(known))
                os.replace(new, self._path)
            except OSError as error:
                raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        self._known = known

    def _read(self) -> Known:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Known) if self._path else Known()
        except FileNotFoundError:
            return Known()
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigInvalid(
                f"{self._path} cannot be read ({error}); without the file the collector begins as at its first start"
            ) from None
