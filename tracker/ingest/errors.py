"""What can go wrong with a request as a whole; a bad line is no error, it goes to quarantine.

tracker.model.errors.Invalid
└── Refused             the request cannot be taken as it is; nothing of it was stored
    ├── Unreadable      not what its headers say: broken compression, broken JSON array
    ├── Unsupported     a content type or encoding that we do not read
    └── TooLarge        beyond a limit; send smaller batches
tracker.model.errors.Unavailable
└── Busy                memory for waiting batches is used up; the same request may work in a moment
"""

from __future__ import annotations

from tracker.model.errors import Invalid, Unavailable


class Refused(Invalid):
    """The request as a whole cannot be taken; nothing of it was stored."""


class Unreadable(Refused):
    """The bytes are not what the headers promise."""


class Unsupported(Refused):
    """The content type or encoding is none that we read."""


class TooLarge(Refused):
    """The body is larger than allowed, as sent or inflated."""


class Busy(Unavailable):
    """Too much waits to be stored already. `cause`: in a word, for whoever counts: memory, spool, closing, starting,
    spans."""

    def __init__(self, detail: str, cause: str = "memory") -> None:
        super().__init__(detail)
        self.cause = cause
