"""What a drill comes to: two files of ids, and what differs between them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """`truth`: the ids that the brokers do not have where they belong. `found`: those with an open finding.
    `detect_s`: by finding, how long after it could be known; `blind`: ids of which the tracker said that it does not
    know."""

    drill: str
    truth: Collection[str]
    found: Collection[str]
    detect_s: Collection[float] = ()
    blind: Collection[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def false(self) -> list[str]:
        """Ids with a finding that were not lost."""
        return sorted(set(self.found) - set(self.truth))

    @property
    def missed(self) -> list[str]:
        """Ids that were lost and neither named nor told as unknown."""
        return sorted(set(self.truth) - set(self.found) - set(self.blind))

    @property
    def good(self) -> bool:
        """Found is the truth, by id, but for what is said to be unknown."""
        return not self.false and not self.missed

    def said(self, folder: Path) -> dict[str, Any]:
        """The line; the ids go to files in `folder`."""
        files = {name: folder / f"{self.drill}.{name}.txt" for name in ("truth", "found")}
        for name, path in files.items():
            path.write_text("".join(f"{one}\n" for one in sorted(getattr(self, name))))
        times = sorted(self.detect_s)
        return {
            "drill": self.drill,
            "lost_truth": len(set(self.truth)),
            "lost_found": len(set(self.found) & set(self.truth)),
            "false_findings": len(self.false),
            "blind": len(set(self.blind)),
            "missed": len(self.missed),
            "detect_p99_s": round(times[int(len(times) * 0.99)], 3) if times else None,
            "truth_file": str(files["truth"]),
            "found_file": str(files["found"]),
            **self.more,
        }


def main(drill: Callable[..., Result], about: str | None, **numbers: int) -> int:
    """Run a drill from the command line: 0 when found is the truth. `numbers`: what else it takes, with defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files go; default a temporary folder that stays")
    parser.add_argument("--kill", action="store_true", help="kill the collectors in mid-drill, and start them again")
    parser.add_argument("--json", action="store_true", help="one line")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="drill-"))
    folder.mkdir(parents=True, exist_ok=True)
    result = drill(folder, options.kill, **{name: getattr(options, name) for name in numbers})
    print(json.dumps(result.said(folder), indent=None if options.json else 2))
    return 0 if result.good else 1


def end(code: int) -> None:
    """End the process with the code."""
    sys.exit(code)
