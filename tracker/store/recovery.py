"""How findings ended, and how long finding and bringing back took."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tracker.store.engine import Engine
from tracker.store.sql import ask

NEVER = 1 << 62
"""A time, µs, that nothing takes."""
Pair = tuple[int | None, int | None]


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """Findings opened in a span of time, by how they ended, and how long that took: (p50, p90) in µs, None where there
    is none. `back` is over all of them, also what is open, with its age so far, and what was given up, as None.
    `counted`: those that were right and count as this kind. `lost`: as in `Facts`."""

    flow: str = ""
    kind: str = ""
    slice: int = 0
    findings: int
    open: int
    by_replay: int
    by_itself: int
    withdrawn: int
    superseded: int
    parked: int
    abandoned: int
    lost: int
    counted: int
    detect: Pair
    recover: Pair
    replay: Pair
    itself: Pair
    back: Pair


class Recovery:
    """Questions about how soon what was missing was found, and was back."""

    _engine: Engine
    _db: str

    def recovery(
        self, by: Literal["flow, kind", "flow", "slice"], start: int, end: int, now: int, step: int = NEVER,
        flow: str = "", kind: str = "",
    ) -> list[Recovered]:  # fmt: skip
        """How findings opened in [start, end) ended, one row for each flow and kind, each flow, or each slice of `step`
        µs (counted from `start`). Times in µs."""
        asked = {"start": start, "end": end, "now": now, "step": step, "flow": flow, "kind": kind, "never": NEVER}
        rows = self._engine.rows(ask("recovery", self._db, keys=by), asked)
        return [_recovered(row) for row in rows]


def _recovered(row: dict[str, Any]) -> Recovered:
    of = {"detect": row["counted"], "back": row["counted"], "recover": row["by_replay"] + row["by_itself"],
          "replay": row["by_replay"], "itself": row["by_itself"]}  # fmt: skip
    spans = {name: [round(v) if some and v < NEVER else None for v in row[name]] for name, some in of.items()}
    return msgspec.convert(row | spans, Recovered)
