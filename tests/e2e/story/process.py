"""One process of the story: an application or the collectors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.e2e.service import environment
from tests.e2e.story.settings import Settings
from tests.e2e.story.truth import Told
from tests.servers.process import Process

ROOT = Path(__file__).parents[3]
COLLECTORS = str(Path(sys.executable).with_name("collectors"))
PATIENCE = 120.0
"""Seconds that a process may take to end once it can."""


class Running(Process):
    """A process that is told from outside, if at all, when to end."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, **variables: str) -> None:
        super().__init__(name, command, folder, environment(PYTHONPATH=str(ROOT), **variables))

    def begin(self) -> None:
        """Start it, without waiting for anything."""
        self.start(lambda: None)

    def ended(self) -> int:
        """Wait until it ends by itself; its exit status, negative for a signal."""
        assert self._child is not None
        return self._child.wait(PATIENCE)

    def end(self) -> int:
        """SIGTERM, and its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()


class App(Running):
    """`python -m tests.e2e.story.MODULE SETTINGS`."""

    def __init__(self, module: str, settings: Settings) -> None:
        folder = Path(settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self._module = settings, module
        super().__init__(settings.name, [sys.executable, "-m", f"tests.e2e.story.{module}", "settings.json"], folder)

    def begin(self) -> None:
        """Start it with its settings as they are."""
        (self.folder / "settings.json").write_bytes(msgspec.json.encode(self.settings))
        super().begin()

    def again(self, **changes: bool | int) -> None:
        """Start it once more, changed, on the same folder."""
        self.kill()  # what is left of a process that has ended: its guard
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.begin()

    def told(self) -> Told:
        """What it wrote down."""
        return Told(self.folder / "truth")


def collectors(config: Path, token: str) -> Running:
    """`collectors run CONFIG.yaml`."""
    return Running("collectors", [COLLECTORS, "run", str(config)], config.parent, TOKEN=token)
