"""Faults in Python functions, by mutmut: each in a fork that runs the tests which reach the function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.mutation.report import Result
from tests.mutation.tree import copied

CONFIG = """
[tool.mutmut]
source_paths = ["tracker"]
only_mutate = {files}
also_copy = ["collectors"]
pytest_add_cli_args = ["-p", "tests.mutation.quick", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist",
    "-m", "not brokers and not slow and not long"]
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 4.0
timeout_constant = 5.0
use_git_change_detection = false
"""
SURVIVED, NOT_REACHED = 0, 33
"""What mutmut keeps of a run: pytest's exit code, or that no test reaches the function."""


def run(files: Sequence[str], tests: Sequence[str], only: Sequence[str], told: Callable[[str], None]) -> list[Result]:
    """Every mutant of these files whose name contains one of `only`; all of them, if there are none."""
    with copied() as root:
        with (root / "pyproject.toml").open("a", encoding="utf-8") as config:
            config.write(CONFIG.format(files=json.dumps(list(files)), tests=json.dumps(list(tests))))
        command = [
            sys.executable,
            "-m",
            "mutmut",
            "run",
            "--max-children",
            os.environ.get("TRACKER_TEST_MUTANTS", str(os.cpu_count() or 1)),
        ]
        chosen = [f"*{text}*" for text in only]
        done = subprocess.run(command + chosen, cwd=root, capture_output=True, text=True, check=False)
        results = [one for file in files for one in _results(root, file)]
        if not results:
            raise RuntimeError(f"mutmut gave no results: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        for one in results:
            told(one.line)
        return results


def _results(root: Path, file: str) -> list[Result]:
    meta = root / "mutants" / f"{file}.meta"
    if not meta.exists():
        return []
    codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    return [_result(root, file, name, code) for name, code in codes.items() if code is not None]


def _result(root: Path, file: str, name: str, code: int) -> Result:
    killed = code not in (SURVIVED, NOT_REACHED)
    if killed:
        return Result(file, name, "", "", True)
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    before, after = (" ".join(" ".join(x[1:] for x in lines if x[0] == sign).split()) for sign in "-+")
    return Result(file, f"{name}: {before}  ->  {after}", before, after, False)
