"""What goes wrong here, split by what the caller does.

CollectorError
├── Unavailable
│   └── StoreUnavailable   give the message back, try later: the store did not answer, the effect was not begun
├── BusyElsewhere          give the message back: another worker is doing it now
├── Late                   look: the lease ran out and somebody else has the message; an effect may have been done twice
├── NotInTransaction       mend the code: a mark on a connection that has no transaction open
└── NoMessageId            set the message aside: it has no id that can be remembered

InDoubt(Exception)         raised by an effect that cannot know whether it happened
"""

from __future__ import annotations

from collectors.errors import CollectorError, Unavailable


class StoreUnavailable(Unavailable):
    """The store did not answer in time or refused for now. Raised by `begin`: nothing was executed. Raised by `done`:
    the effect was done and is not marked; the next one is told `Unknown`."""


class BusyElsewhere(CollectorError):
    """Another worker is doing this message now. `left`: seconds until its lease runs out; 0 where that is not known."""

    def __init__(self, what: object, left: float) -> None:
        super().__init__(f"{what}: another worker is doing it, for {left:.1f} s at most; give it back and try later")
        self.left = left


class Late(CollectorError):
    """This claim does not count any more: its lease ran out, and another worker has taken the message since."""

    def __init__(self, what: object, token: int) -> None:
        super().__init__(
            f"{what}: claim {token} ran out and another worker has the message; what was done here may be done twice"
        )
        self.token = token


class NotInTransaction(CollectorError):
    """The connection commits every statement by itself: the mark and the effect would not be one."""


class NoMessageId(CollectorError):
    """There is no id, or it is none that a store can keep."""


class InDoubt(Exception):
    """Raise it in an effect that may or may not have happened (a request that timed out). The claim is given up, and
    the next worker is told `Unknown` at once."""
