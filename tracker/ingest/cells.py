"""Cells: what a walk over a body notes of a value. They become text columns without a copy of any text.

A cell is an int64: where the value begins (31 bits), how many bytes it has (24), what it is (4); 0 is nothing. Compiled
code of other files holds these numbers, and is kept by the hash of its own file: change those files with this one.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tracker.ingest.compiled import compiled

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]

TEXT = 1
"""What a cell of a text is."""
LONGEST = (1 << 24) - 1
"""Bytes of a value that a cell can tell of."""


@compiled
def views(buf, cells, out):
    """A BinaryView (Arrow's) for each cell; `out` is zeroed, 16 bytes a cell."""
    for row in range(len(cells)):
        cell = cells[row]
        first, size = cell & np.int64(0x7FFFFFFF), (cell >> np.int64(31)) & np.int64(LONGEST)
        for i in range(4):
            out[row, i] = (size >> (8 * i)) & 255
        for i in range(size if size <= 12 else 4):
            out[row, 4 + i] = buf[first + i]
        if size > 12:
            for i in range(4):
                out[row, 12 + i] = (first >> (8 * i)) & 255


def texts(buf: Bytes, cells: Int64s) -> pl.Series:
    """The cells as text, null where there is none. They are UTF-8: whoever made the cells has seen to it."""
    out = np.zeros((len(cells), 16), np.uint8)
    views(buf, cells, out)
    bits = None if cells.all() else pa.py_buffer(np.packbits(cells != 0, bitorder="little"))
    made = pa.Array.from_buffers(pa.string_view(), len(cells), [bits, pa.py_buffer(out), pa.py_buffer(buf)])
    return pl.Series(made)
