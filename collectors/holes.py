"""Where something was missed: what is left out of the sources, until that was told and reading is past it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Set
from typing import Generic, TypeVar

NAME = TypeVar("NAME", bound=Hashable)


class Holes(Generic[NAME]):
    """By name, whatever names a source, or several."""

    def __init__(self) -> None:
        self._found: dict[NAME, int] = {}  # the tick when it was told first; 0: not yet

    def add(self, *names: NAME) -> None:
        """Something of these was missed just now."""
        self._found |= dict.fromkeys(names, 0)

    def told(self, done: int, now: int) -> Set[NAME]:
        """What to leave out, for somebody who tells it at tick `now`; `done`: up to which tick all was read."""
        self._found = {name: at or now for name, at in self._found.items() if not at or at > done}
        return self._found.keys()
