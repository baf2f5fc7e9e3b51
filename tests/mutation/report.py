"""What became of the mutants, held against what is explained."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXPLAINED = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True)
class Result:
    """One mutant: its name, what it changed from and to (spaces squeezed), and whether a test failed."""

    file: str
    name: str
    before: str
    after: str
    killed: bool

    @property
    def line(self) -> str:
        """For somebody who watches."""
        return f"{'killed  ' if self.killed else 'SURVIVED'} {self.name}"


@dataclass(frozen=True)
class Explanation:
    """Why no test can fail for a mutant."""

    file: str
    before: str
    after: str
    why: str


def explanations(path: Path = EXPLAINED) -> list[Explanation]:
    """From the file: one `[[equivalent]]` per reason, with the file, the line, and every `after` it stands for."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return [Explanation(one["file"], one["before"], after, one["why"]) for one in entries for after in one["after"]]


@dataclass(frozen=True)
class Verdict:
    """A target's results; `stale`: explanations of what is no survivor (any more)."""

    target: str
    results: Sequence[Result]
    unexplained: Sequence[Result]
    stale: Sequence[Explanation]

    @property
    def json(self) -> str:
        """One line: how many, how many killed, and who survived, with the reason where there is one."""
        survivors = [r for r in self.results if not r.killed]
        known = {(e.file, e.before, e.after): e.why for e in explanations()}
        killed = len(self.results) - len(survivors)
        return json.dumps({
            "target": self.target,
            "mutants": len(self.results),
            "killed": killed,
            "score": round(killed / max(len(self.results), 1), 4),
            "survivors": [
                {"file": file, "before": before, "after": after, "why": known.get((file, before, after), "")}
                for file, before, after in ((r.file, r.before, r.after) for r in survivors)
            ],
            "unexplained": len(self.unexplained),
            "stale": [{"file": e.file, "before": e.before, "after": e.after} for e in self.stale],
        })  # fmt: skip


def verdict(target: str, files: Sequence[str], results: Sequence[Result], whole: bool) -> Verdict:
    """`whole`: every mutant of these files was tried, so that an explanation without a survivor is stale."""
    survivors = {(r.file, r.before, r.after) for r in results if not r.killed}
    known = [e for e in explanations() if e.file in files]
    explained = {(e.file, e.before, e.after) for e in known}
    unexplained = [r for r in results if not r.killed and (r.file, r.before, r.after) not in explained]
    stale = [e for e in known if (e.file, e.before, e.after) not in survivors] if whole else []
    return Verdict(target, results, unexplained, stale)
