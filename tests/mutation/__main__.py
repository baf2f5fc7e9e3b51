"""`python -m tests.mutation`: one JSON line per target at the end; exit 1 for a survivor that nobody has explained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.mutation import functions, questions
from tests.mutation.report import Verdict, verdict

JUDGE = ["tracker/model/judge.py", "tracker/model/ranges.py"]
PLAIN = ["tracker/reconcile/plain.py", "tracker/reconcile/folded.py"]
TESTS = {
    "judge": ["tests/unit/model", "tests/properties/test_judge.py"],
    "plain": ["tests/unit/reconcile", "tests/properties/test_plain.py"],
}
TARGETS = ("judge", "sql", "plain")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when each target's survivors are explained, and no explanation is stale."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append", help="which part; all, if none is named")
    parser.add_argument(
        "--only", default=[], metavar="TEXT", action="append", help="only mutants whose name contains this"
    )
    parser.add_argument("--json", action="store_true", help="nothing but the JSON lines")
    asked = parser.parse_args(arguments)
    told = (lambda _: None) if asked.json else (lambda line: print(line, flush=True))
    verdicts = [_run(target, asked.only, told) for target in asked.target or TARGETS]
    for one in verdicts:
        print(one.json, flush=True)
    for one in verdicts:
        for survivor in one.unexplained:
            print(f"{one.target}: nobody has explained {survivor.line}", file=sys.stderr)
        for old in one.stale:
            print(f"{one.target}: explained, and no survivor: {old.file}: {old.before} -> {old.after}", file=sys.stderr)
    return 1 if any(one.unexplained or one.stale for one in verdicts) else 0


def _run(target: str, only: str, told: questions.Told) -> Verdict:
    if target == "sql":
        return verdict(target, questions.FILES, questions.run(only, told), not only)
    files = JUDGE if target == "judge" else PLAIN
    return verdict(target, files, functions.run(files, TESTS[target], only, told), not only)


if __name__ == "__main__":
    sys.exit(main())
