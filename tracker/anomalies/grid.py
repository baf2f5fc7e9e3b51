"""Rows of the store as arrays of series by steps. Loops over series, never over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracker.anomalies.baseline import Floats
from tracker.anomalies.watched import Place


class Grid:
    """Named columns of two tables (`Store.series`) as arrays: one row per place, one column per step."""

    def __init__(self, places: Sequence[Place], steps: int, *tables: pa.Table) -> None:
        self.places, self._steps = list(places), steps
        self._row: Mapping[str, int] = {"\0".join(place): n for n, place in enumerate(places)}
        self._of: dict[str, Floats] = {}
        for table in tables:
            self._fill(table)

    def __getitem__(self, name: str) -> Floats:
        """0 where there is no row; `took` is nan there."""
        if name not in self._of:
            self._of[name] = np.full((len(self.places), self._steps), np.nan if name == "took" else 0.0)
        return self._of[name]

    def _fill(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        joined = pc.binary_join_element_wise(
            *(table[name].cast(pa.string()) for name in ("flow", "hop", "stage")), "\0"
        )
        coded = joined.combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.chunk(0)
        rows = np.array([self._row.get(key, -1) for key in coded.dictionary.to_pylist()])[coded.indices.to_numpy()]
        slots = table["slot"].to_numpy().astype(np.int64)
        good = (rows >= 0) & (slots < self._steps)
        for name in table.column_names:
            if name not in ("flow", "hop", "stage", "slot"):
                self[name][rows[good], slots[good]] = table[name].to_numpy()[good]
