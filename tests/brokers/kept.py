"""An emitter that keeps what it is given, and tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from collectors.base import Lag
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage


class Kept:
    """What an observer emitted, in order; `broken` makes it fail as a full disk would."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False
        self.missed = 0

    def emit_line(self, line: bytes) -> int:
        """Keep."""
        if self.broken:
            raise OSError("no space left on device")
        self.events.append(msgspec.json.decode(line, type=Event))
        return 0

    def lost(self, count: int = 1) -> None:
        """Count."""
        self.missed += count

    def vouch(self, sources: Sequence[SourceRef], lag: Lag | None = None, at: int | None = None) -> None:
        """Nothing to do."""

    def sign_off(self, sources: Sequence[SourceRef]) -> None:
        """Nothing to do."""

    def of(self, stage: Stage) -> list[str]:
        """The message ids seen at `stage`, in order."""
        return [e.message_id for e in self.events if e.stage is stage]

    def told(self) -> list[tuple[str, str]]:
        """(message id, stage) in order."""
        return [(event.message_id, event.stage.value) for event in self.events]


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, on an event loop of its own; at most a minute."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run
