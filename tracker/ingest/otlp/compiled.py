"""How functions are compiled: to machine code by numba, without the GIL, kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

Code = Callable[..., Any]


def part(function: Code) -> Code:
    """`function`, to be called by compiled functions."""
    made: Code = numba.njit(nogil=True)(function)
    return made


def compiled(function: Code) -> Code:
    """`function`, compiled when it is first called. Its code is kept beside the source, or in the user's cache folder
    (or NUMBA_CACHE_DIR); where no folder can be written, every process compiles anew."""
    made: Code
    try:
        made = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "no locator available": no folder to keep it in
        made = numba.njit(nogil=True)(function)
    return made
