"""`tracker`, with Python's names of its threads told to the system too, so that a profile can tell them apart;
`python -m tests.benchmarks.named collectors ...` is `collectors` in the same way."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from collectors.main import app
from tracker.cli.main import main


def _name(name: str) -> None:
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:15])


def _tell_names() -> None:
    started: Any = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def bootstrap(thread: threading.Thread) -> None:
        _name(thread.name.replace("AnyIO worker thread", "anyio"))
        started(thread)

    threading.Thread._bootstrap_inner = bootstrap  # type: ignore[attr-defined]


if __name__ == "__main__":
    collecting = sys.argv[1:2] == ["collectors"]
    _name("main" if collecting else "event loop")
    _tell_names()
    if collecting:
        app(sys.argv[2:])
    main()
