"""What can go wrong with what people hand us. Split by what the caller does about it.

TrackerError
├── Invalid      the input is wrong: say where and what to do; never retried
│   └── SpecError    a flow spec, with the line
└── Unavailable  a place we need does not answer: may be tried again
"""

from __future__ import annotations


class TrackerError(Exception):
    """The base of every error that we raise on purpose; its text is written for a person."""


class Invalid(TrackerError):
    """The input cannot be used as it is."""


class SpecError(Invalid):
    """A flow spec that cannot be used. `line` counts from 1; None when the text as a whole is at fault."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line


class Unavailable(TrackerError):
    """A store, database or broker does not answer now; the same call may work later."""
