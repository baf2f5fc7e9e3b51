"""The error tree, split by what the caller does.

CollectorError
├── Unavailable       try again later: the system or the tracker cannot be reached; the runner backs off
├── ConfigInvalid     stop: the configuration names something that is not there or not allowed
├── MissingExtra      stop: a library is not installed; the text says which extra brings it
├── SpoolHeld         stop: another process writes into this spool folder
├── Unreadable        this file of an archive cannot be used: damaged, swapped, or its key is not known
└── Forked            stop: an emitter was carried into a child process; build one there

Undecodable(ValueError)   set this one record aside and go on
"""

from __future__ import annotations


class CollectorError(Exception):
    """Base of everything that a collector raises on purpose."""


class Unavailable(CollectorError):
    """The system cannot be reached or refused for now. Trying again may help; the runner does that."""


class ConfigInvalid(CollectorError):
    """The configuration is wrong; trying again does not help. The text names the file, the line and the key."""


class MissingExtra(CollectorError):
    """A library is not installed. `what` needs it."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(f"{what} needs {module!r}, which is not installed: pip install message-tracker[{extra}]")


class SpoolHeld(CollectorError):
    """Another process holds the spool folder. One process per folder: give each its own."""


class Unreadable(CollectorError):
    """A file of an archive cannot be used. The text names the file and says why, never what is in it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why = name, why


class Forked(CollectorError):
    """The emitter was made before a fork. Its spool belongs to the parent: make an emitter in the child."""


class Undecodable(ValueError):
    """The bytes are no message that this collector can name; the runner counts and keeps them."""
