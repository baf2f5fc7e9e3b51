"""Merged states with their verdicts filled in: rows of the states table, and the timers that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tracker.model.counted import DUPLICATED, counted
from tracker.model.verdict import Flag
from tracker.reconcile.plain import FLAGS, UNDER_REPLICATED, VERDICTS, Plain

_FLAG_LISTS = [[flag.value for n, flag in enumerate(FLAGS) if bits >> n & 1] for bits in range(1 << len(FLAGS))]
"""The list of flags for every combination of bits."""
_COUNTED = np.array([0, *(counted(0, verdict) for verdict in VERDICTS[1:])], dtype=np.uint8)
"""What a message counts as, by code of its verdict."""
_DUPLICATED = 1 << FLAGS.index(Flag.duplicated)


def of_plain(states: pa.Table, plain: Plain, now: int) -> pa.Table:
    """The rows that the columns alone have judged."""
    mask = plain.codes > 0
    kept = states.filter(pa.array(mask))
    look = plain.look_again[mask]
    timer = np.asarray(kept["timer_at"].to_numpy())
    earlier = (look > 0) & ((timer <= now) | (look < timer))
    combinations = pa.array(_FLAG_LISTS, pa.list_(pa.string()))
    twice = (plain.flags[mask] & _DUPLICATED) != 0
    count = _COUNTED[plain.codes[mask]] | np.where(twice, np.uint8(DUPLICATED), np.uint8(0))
    return _filled(
        kept,
        {
            "verdict": pa.array(VERDICTS[plain.codes[mask]], pa.string()),
            "flags": combinations.take(pa.array(plain.flags[mask])),
            "found": pa.array(plain.codes[mask] >= UNDER_REPLICATED),
            "look_again": pa.array(look),
            "timer_at": pa.array(np.where(earlier, look, timer)),
            "counted": pa.array(_before(kept) | count),
        },
    )


def of_judged(states: pa.Table, judged: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows that the reference has judged, in the same order."""
    kinds = {
        "origin_at": pa.int64(),
        "verdict": pa.string(),
        "flags": pa.list_(pa.string()),
        "found": pa.bool_(),
        "look_again": pa.int64(),
        "timer_at": pa.int64(),
    }
    columns = {name: pa.array([row[name] for row in judged], kind) for name, kind in kinds.items()}
    before = _before(states).tolist()
    count = [counted(was, row["verdict"], row["flags"]) for was, row in zip(before, judged, strict=True)]
    return _filled(states, columns | {"counted": pa.array(count, pa.uint8())})


def _before(states: pa.Table) -> npt.NDArray[np.uint8]:
    """What the messages were counted as before this pass."""
    return np.asarray(states["counted_was"].to_numpy(), dtype=np.uint8)


def _filled(states: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """In the same order whoever judged, so that rows of both can be stored as one."""
    return pa.table({name: states[name] for name in states.column_names} | dict(columns))


def timers(states: pa.Table, now: int) -> pa.Table:
    """Timers of the states whose next look is their timer: it is new, or the one before it has fired."""
    due = pc.and_(pc.greater(states["timer_at"], now), pc.equal(states["timer_at"], states["look_again"]))
    kept = states.filter(due)
    return kept.select(["tenant", "flow", "message_id", "pass"]).append_column("due_at", kept["timer_at"])
