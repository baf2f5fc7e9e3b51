"""`collectors run` as a process, with an archive, that may be killed; and what is in that archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from collectors.archive.config import Place
from collectors.archive.shown import Archives
from collectors.archive.source import ArchiveSource, source
from tests.contract.http_tracker import HttpTracker
from tests.e2e.service import environment
from tests.servers.process import Process
from tests.unit.collectors.archiving import key_file, place

COLLECTORS = str(Path(sys.executable).with_name("collectors"))


class Archived:
    """One collector, its tracker, its archive of flow `orders` in `folder`."""

    def __init__(self, folder: Path, tracker: HttpTracker, collector: Mapping[str, Any]) -> None:
        self.folder, self.tracker = folder, tracker
        kept = {"url": f"file://{folder}/archive", "key": key_file(folder), "flows": ["orders"], "every": "200ms"}
        self.config = folder / "collectors.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "tracker": {"url": tracker.url},
                    "spool": str(folder / "spool"),
                    "collectors": [{**collector, "archive": kept}],
                }
            )
        )
        self.process = Process("collectors", [COLLECTORS, "run", str(self.config)], folder, environment())

    def start(self) -> None:
        """Run, or run again."""
        self.process.start(lambda: None)

    def source(self, hop: str) -> ArchiveSource:
        """Its copies."""
        return source(place(self.folder, hop=hop))

    def archives(self) -> Archives:
        """For looking after."""
        return Archives(Place(**place(self.folder)))


@contextmanager
def archived(folder: Path, collector: Mapping[str, Any]) -> Iterator[Archived]:
    """Running; ended with the block."""
    with HttpTracker() as tracker:
        made = Archived(folder, tracker, collector)
        made.start()
        try:
            yield made
        finally:
            made.process.stop()
