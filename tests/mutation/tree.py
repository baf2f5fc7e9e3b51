"""A copy of the tree in a temporary folder: nothing is ever mutated in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tracker", "collectors", "tests", "pyproject.toml")
UNWANTED = shutil.ignore_patterns("__pycache__", ".*", "node_modules")


@contextmanager
def copied() -> Iterator[Path]:
    """The folder with the copy, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, Path(folder) / part, ignore=UNWANTED)
            else:
                shutil.copy(ROOT / part, folder)
        yield Path(folder)
