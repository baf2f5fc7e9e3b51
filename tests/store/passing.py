"""Runs passes on a prepared ledger, for tests that kill it: `python -m tests.store.passing FOLDER NOW`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from tests.world.installation import Installation


def main() -> None:
    """Passes at NOW (µs) until nothing is left to do; says `pass` before each, and `done` at the end."""
    folder, now = Path(sys.argv[1]), int(sys.argv[2])
    with closing(Installation(folder)) as world:
        world.now = now
        print("pass", flush=True)
        while world.run_pass().number:
            print("pass", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
