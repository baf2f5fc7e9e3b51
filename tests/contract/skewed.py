"""`collectors` on a host whose clock is wrong: `python -m tests.contract.skewed SECONDS run CONFIG.yaml`."""

from __future__ import annotations

import sys
import time

RIGHT = time.time_ns


def main(seconds: float) -> None:
    """The wall clock is that far ahead, for everything in this process that asks for it."""
    time.time_ns = lambda: RIGHT() + int(seconds * 1e9)
    from collectors.main import app  # what is imported before may have asked

    app()


if __name__ == "__main__":
    main(float(sys.argv.pop(1)))
