"""What can go wrong with the control database, split by what the caller does about it.

    ControlError
    ├── Unavailable            try again: unreachable, busy, deadlocked, closed
    └── Permanent              trying again changes nothing
        ├── NotFound           no such flow, incident, replay, token
        ├── Conflict           the state does not allow it (409)
        │   └── LeaseLost      somebody else holds the lease now: stop working under it
        ├── Denied
        │   ├── Unauthenticated    no such token, or expired, or revoked (401)
        │   └── Forbidden          a good token without this scope (403)
        ├── Exhausted          a fixed limit is reached: 64 bits per flow
        ├── Invalid            a value that cannot be stored, a cursor that we did not give (422)
        └── Broken             not a control database, or one of a newer version

No exception of SQLAlchemy or a driver leaves `tracker.control`.
"""

from __future__ import annotations


class ControlError(Exception):
    """Base of all errors of `tracker.control`. The text is for the person on call: what it is, what to do."""


class Unavailable(ControlError):
    """The database did not answer in time or at all. The same call may be tried again."""


class Permanent(ControlError):
    """The same call will fail again."""


class NotFound(Permanent):
    """The thing named does not exist."""


class Conflict(Permanent):
    """The present state does not allow what was asked."""


class LeaseLost(Conflict):
    """The lease has expired or another owner has it. What was begun under it must stop."""


class Denied(Permanent):
    """The caller may not do this."""


class Unauthenticated(Denied):
    """The token is unknown, malformed, expired or revoked; the text never says which token it was."""


class Forbidden(Denied):
    """The token is good but lacks the scope."""


class Exhausted(Permanent):
    """A fixed limit is reached."""


class Invalid(Permanent):
    """A value cannot be stored or understood."""


class Broken(Permanent):
    """The database is not one that this version can work with."""
