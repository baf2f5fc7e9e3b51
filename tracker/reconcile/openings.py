"""The findings that verdicts on columns open: rows of the findings table, no loop over messages.

Messages that stopped in one way share their words: what is said is made once per way, and then taken for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracker.model.why import stopped
from tracker.reconcile.folded import Bools, Ints
from tracker.reconcile.plain import NOBODY, UNDER_REPLICATED, VERDICTS, Court, Plain
from tracker.store.findings import OPEN

IncidentFor = Callable[[str, str, str], str]
"""(hop, stage, kind) -> id of the incident that a new finding belongs to."""


def openings(court: Court, plain: Plain, incident_for: IncidentFor) -> pa.Table | None:
    """A row for every overdue checkpoint of the messages judged on columns; None when there is none. The store makes
    their ids."""
    bad = np.flatnonzero(plain.codes >= UNDER_REPLICATED)
    if not len(bad):
        return None
    words, held = _words(court, plain, bad), _held(court, plain, bad)
    where = np.full(len(plain.codes), -1, dtype=np.int64)
    where[bad] = np.arange(len(bad))
    parts = []
    for i, code, cause, rows in _alike(plain):
        point = court.shape.spec.checkpoints[i]
        root = i if cause == NOBODY else cause
        at = court.shape.spec.checkpoints[root]
        kind = VERDICTS[plain.kinds[root][rows[0]]]
        taken = pa.array(where[rows])
        parts.append(
            _rows(court, plain, i, rows)
            | _alone(len(rows), hop="|".join(point.hop), stage=point.stage.value, kind=VERDICTS[code],
                     cause="" if cause == NOBODY else at.name,
                     incident=incident_for("|".join(at.hop), at.stage.value, kind))
            | {"why": words.take(taken), "held_by": held.take(taken)}
        )  # fmt: skip
    return pa.concat_tables([pa.table(part) for part in parts])


def _alike(plain: Plain) -> Iterator[tuple[int, int, int, Ints]]:
    """(checkpoint, kind, cause, the rows that have these), the cause being of one kind in all of them."""
    judged = plain.codes > 0
    for i, kinds in plain.kinds.items():
        rows = np.flatnonzero(judged & (kinds > 0))
        causes = plain.causes[i][rows]
        of_cause = np.zeros(len(rows), dtype=np.int64)
        for cause in np.unique(causes[causes != NOBODY]):
            of_cause = np.where(causes == cause, plain.kinds[int(cause)][rows], of_cause)
        ways, which = np.unique(np.stack([kinds[rows], causes, of_cause], axis=1), axis=0, return_inverse=True)
        for n, (code, cause, _) in enumerate(ways.tolist()):
            yield i, code, cause, rows[which.reshape(-1) == n]


def _rows(court: Court, plain: Plain, i: int, rows: Ints) -> dict[str, Any]:
    states, count = plain.facts.states, len(rows)
    deadline = plain.facts.deadline[i][rows]
    return {
        "message_id": states["message_id"].combine_chunks().take(pa.array(rows)),
        "deadline": pa.array(deadline),
        "known_at": pa.array(np.minimum(deadline, court.now)),
        "opened_at": pa.array(np.full(count, court.now)),
        "resolved_at": pa.array(np.zeros(count, dtype=np.int64)),
        "origin_at": pa.array(np.asarray(states["origin_at"].to_numpy(), dtype=np.int64)[rows]),
    } | _alone(count, tenant="", flow=court.shape.spec.flow, status=OPEN, by="")


def _alone(count: int, **values: str) -> dict[str, Any]:
    """Columns with one value each."""
    return {name: pa.repeat(pa.scalar(value), count) for name, value in values.items()}


def _holding(plain: Plain, rows: Ints) -> npt.NDArray[np.uint64]:
    states = plain.facts.states
    kept, gone = (np.asarray(states[name].to_numpy(), dtype=np.uint64)[rows] for name in ("kept", "gone"))
    return kept & ~gone


def _hops(court: Court, mask: int) -> list[str]:
    return [hop for hop in court.shape.spec.hops if mask >> court.shape.hop_bits[hop] & 1]


def _held(court: Court, plain: Plain, bad: Ints) -> pa.Array:
    """For each of these messages the hops that hold a copy."""
    masks, which = np.unique(_holding(plain, bad), return_inverse=True)
    return pa.array([_hops(court, int(m)) for m in masks], pa.list_(pa.string())).take(pa.array(which.reshape(-1)))


def _words(court: Court, plain: Plain, bad: Ints) -> pa.Array:
    """For each of these messages where and when it stopped."""
    facts, paths = plain.facts, plain.facts.paths
    first = np.zeros(len(bad), dtype=np.int64)
    last = np.full(len(bad), -1, dtype=np.int64)
    past = np.zeros(len(bad), dtype=np.int64)
    short = np.zeros(len(bad), dtype=np.int64)
    unset: Bools = np.ones(len(bad), dtype=bool)
    for i, kinds in plain.kinds.items():
        here = unset & (kinds[bad] == plain.codes[bad])
        unset &= ~here
        first[here], short[here] = i, facts.short[i][bad][here]
        past[here] = np.maximum(court.now - facts.deadline[i][bad][here], 0)
        for a in paths.order:
            if a in paths.ancestors[i]:
                last = np.where(here & facts.seen[a][bad], a, last)
    masks = _holding(plain, bad).view(np.int64)
    ways, which = np.unique(np.stack([first, last, past, short, masks], axis=1), axis=0, return_inverse=True)
    names = [c.name for c in court.shape.spec.checkpoints]
    said = [
        stopped(names[f], "" if p < 0 else names[p], _hops(court, m), late, bool(few))
        for f, p, late, few, m in ways.tolist()
    ]
    return pa.array(said, pa.string()).take(pa.array(which.reshape(-1)))
