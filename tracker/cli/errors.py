"""Exit codes, and errors that end a command with one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracker.model.errors import TrackerError, Unavailable

FINE, FINDINGS, USAGE, UNAVAILABLE = 0, 1, 2, 3


class CommandError(Exception):
    """Ends the command with `code`; the text is for whoever typed it."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def server_side() -> Iterator[None]:
    """For commands that open the store or the control database themselves: what these raise, as a CommandError.

    What a base installation lacks is named with the extra that brings it.
    """
    try:
        from tracker.control import errors as control
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    try:
        yield
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    except (Unavailable, control.Unavailable) as error:
        raise CommandError(str(error), UNAVAILABLE) from None
    except (TrackerError, control.ControlError) as error:
        raise CommandError(str(error)) from None


def _lacking(error: ModuleNotFoundError) -> CommandError:
    extra = "embedded" if (error.name or "").startswith("chdb") else "server"
    return CommandError(f"this needs {error.name}, which is not installed: pip install 'message-tracker[{extra}]'")
