"""Faults in the SQL that makes verdicts: one process with one engine tries them all, and is begun again when one hangs.

A fault is put into the text that the process has read, never into a file.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from tests.mutation.report import Result
from tests.mutation.tokens import mutants
from tests.mutation.tree import copied

Told = Callable[[str], None]
QUERIES = ("fold_new", "range_spans", "fold_ranges", "keep_positions", "merging", "folded", "delivered", "due",
           "known", "any_known", "waiting", "blind", "unclear", "strays", "rest")  # fmt: skip
FILES = [
    *(f"tracker/store/queries/{name}.sql" for name in QUERIES),
    "tracker/store/delivered.py",
    "tracker/store/shape.py",
    "tracker/store/handful.py",
]
TIMEOUT_S = 300
"""A mutant that takes longer is killed by that."""


def run(only: Sequence[str], told: Told) -> list[Result]:
    """Every fault whose name contains one of `only`; all of them, if there are none."""
    results: list[Result] = []
    with copied() as root:
        wanted = [m for file in FILES for m in mutants(root, file) if not only or any(text in m.name for text in only)]
        while len(results) < len(wanted):
            for killed, by in _tried([m.name for m in wanted[len(results) :]], str(root)):
                mutant = wanted[len(results)]
                results.append(Result(mutant.file, mutant.name, mutant.before, mutant.after, killed))
                told(f"{len(results)}/{len(wanted)} {results[-1].line}{f'  by {by}' if by else ''}")
    return results


def _tried(names: list[str], root: str) -> Iterator[tuple[bool, str]]:
    """(killed, by what) for each, as far as one process comes: it ends after one that hangs, or takes it down."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.mutation.worker"], cwd=root, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": root, "PYTHONHASHSEED": "0"},
    ) as worker:  # fmt: skip
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(names))
        worker.stdin.close()
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(worker, lines), daemon=True).start()
        for n in range(len(names)):
            try:
                line = lines.get(timeout=TIMEOUT_S)
            except queue.Empty:
                line = ""
            if not line:
                worker.kill()
                if n == 0 and worker.wait() not in (0, -9):
                    raise RuntimeError("the process that tries mutants does not start: python -m tests.mutation.worker")
                yield True, "its end"
                return
            if line == "begun\n":
                line = lines.get(timeout=TIMEOUT_S)
            said = json.loads(line)
            yield said["killed"], said["by"]


def _read(worker: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        lines.put(line)
    lines.put("")
