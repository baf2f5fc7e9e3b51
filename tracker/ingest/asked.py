"""What the schemas of flows ask of events (`schema` in a flow spec), on columns, whatever the format they came in.

A row is asked by its flow, hop and stage. Which rows are asked what is found once, by the few different words of these
three; where no flow asks for anything, nothing is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tracker.ingest.decoded import Words, text
from tracker.model.schema import Needs, Place
from tracker.model.spec import FlowSpec

DIGEST, SIZE = "digest_asked", "size_asked"
"""Columns that `Asked.marked` adds where some row is asked: true where a digest is, the largest size where one is."""
_KIND = "asked"
_NO_LIMIT = 2**63 - 1
_DENSE = 1 << 16
"""Below so many keys a table of all of them is quicker than a search."""
_WHERE = ("flow", "hop", "stage")
PROBLEM = {"line": pl.UInt32, "field": pl.String, "reason": pl.String, "flow": pl.String}
"""What is told of a bad line."""


@dataclass(frozen=True, slots=True)
class KnownFlow:
    """What the way in knows of a flow. `plain`: its keys may be kept readable; `needs`: what its events bring; `hops`:
    those that it has, none where that is not known."""

    plain: bool = False
    needs: Mapping[Place, Needs] = field(default_factory=dict)
    hops: frozenset[str] = frozenset()

    @classmethod
    def of(cls, spec: FlowSpec) -> KnownFlow:
        """As the spec says."""
        return cls(spec.key == "plain", spec.needs, frozenset(spec.hops))


class Asked:
    """What is asked of the rows of a frame. `frame` is `check.typed`; `marked` is the same with columns that say it."""

    def __init__(self, frame: pl.DataFrame, words: Words, flows: Mapping[str, KnownFlow]) -> None:
        places = _places(frame, words, flows)
        self.kinds = list(dict.fromkeys(places.values()))
        kind = _kinds(frame, words, places, self.kinds) if places else np.zeros(0, np.int32)
        if kind.any() and frame["is_range"].any():
            kind = np.where(frame["is_range"].to_numpy(), np.int32(0), kind)
        self.marked = self._mark(frame, kind) if kind.any() else frame

    def _mark(self, frame: pl.DataFrame, kind: NDArray[np.int32]) -> pl.DataFrame:
        columns = [pl.Series(_KIND, kind)]
        if any(need.digest for need in self.kinds):
            columns.append(pl.Series(DIGEST, np.array([False, *(need.digest for need in self.kinds)])[kind]))
        if any(need.max_size is not None for need in self.kinds):
            limits = [_NO_LIMIT, *(_NO_LIMIT if need.max_size is None else need.max_size for need in self.kinds)]
            columns.append(pl.Series(SIZE, np.array(limits)[kind]))
        return frame.with_columns(columns)

    def lacking(self, events: pl.DataFrame, words: Words, attributes: pa.MapArray | None) -> pl.DataFrame:
        """`line`, `field`, `reason` and `flow` of the `events`, rows out of `marked`, that lack an attribute or have an
        empty one. `attributes` are theirs, row by row; None where no row has any."""
        names = list(dict.fromkeys(name for need in self.kinds for name in need.attributes))
        if not names or _KIND not in events.columns:
            return pl.DataFrame(schema=PROBLEM)
        kind = events[_KIND].to_numpy()
        asked = (np.array([False, *(name in need.attributes for need in self.kinds)])[kind] for name in names)
        flags = pl.DataFrame(
            [pl.Series(str(i), rows & ~_has(attributes, names[i], len(kind))) for i, rows in enumerate(asked)]
        )
        bad = flags.select(pl.any_horizontal(pl.all())).to_series()
        if not bad.any():
            return pl.DataFrame(schema=PROBLEM)
        said = [pl.when(flags.filter(bad)[str(i)]).then(pl.lit(name)) for i, name in enumerate(names)]
        missing = pl.concat_str(said, separator=", ", ignore_nulls=True)
        told = text(events.select("line", *_WHERE).filter(bad), words)
        reason = asked_by(pl.format("{} must be there and not be empty", missing))
        return told.select("line", pl.lit("attributes").alias("field"), reason.alias("reason"), "flow")


def asked_by(what: pl.Expr) -> pl.Expr:
    """What is wrong with a row, who asks, and what to do about it."""
    return pl.format(
        "{}: the schema of flow {} asks that at {}:{}. Mend the sender; or change the spec, put it, and take these "
        "events by: tracker events resubmit --flow {}",
        what, *(pl.col(name) for name in (*_WHERE, "flow")),
    )  # fmt: skip


def _places(frame: pl.DataFrame, words: Words, flows: Mapping[str, KnownFlow]) -> Mapping[tuple[str, ...], Needs]:
    """What the flows of these rows ask, by flow, hop and stage."""
    if not all(name in frame.columns for name in _WHERE) or not any(flow.needs for flow in flows.values()):
        return {}
    there = words["flow"] if "flow" in words else frame["flow"].unique()
    known = {name: flows[name].needs for name in there.to_list() if name in flows}
    return {(flow, *place): need for flow, needs in known.items() for place, need in needs.items()}


def _kinds(
    frame: pl.DataFrame, words: Words, places: Mapping[tuple[str, ...], Needs], kinds: Sequence[Needs]
) -> NDArray[np.int32]:
    """By row which kind is asked of it, from 1; 0 none. The numbers of a row's three words make one key."""
    keys, wanted, last = np.zeros(1, np.int64), np.zeros(len(places), np.int64), 0
    for i, name in enumerate(_WHERE):
        numbers = {word: number for number, word in enumerate(dict.fromkeys(place[i] for place in places), 1)}
        keys = keys * (len(numbers) + 1) + _numbered(frame[name], words.get(name), numbers)
        wanted = wanted * (len(numbers) + 1) + np.array([numbers[place[i]] for place in places])
        last = last * (len(numbers) + 1) + len(numbers)
    counted = {need: number for number, need in enumerate(kinds, 1)}
    kind = np.array([counted[need] for need in places.values()], np.int32)
    return np.broadcast_to(_looked_up(keys, wanted, kind, last), frame.height)


def _looked_up(
    keys: NDArray[np.int64], wanted: NDArray[np.int64], kind: NDArray[np.int32], last: int
) -> NDArray[np.int32]:
    """By key the kind that is beside it in `wanted`, 0 where it is not there; `last` is the largest key."""
    if last < _DENSE:
        table = np.zeros(last + 1, np.int32)
        table[wanted] = kind
        return table.take(keys)
    order = np.argsort(wanted)
    wanted, kind = wanted[order], kind[order]
    found = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return np.where(wanted[found] == keys, kind[found], np.int32(0))


def _numbered(column: pl.Series, words: pl.Series | None, numbers: Mapping[str, int]) -> NDArray[np.int32]:
    """By row the number of its text, 0 where it has none; one number where it is the same for all."""
    if words is None:
        return column.replace_strict(numbers, default=0, return_dtype=pl.Int32).fill_null(0).to_numpy()
    of = np.array([*(numbers.get(word, 0) for word in words.to_list()), 0], np.int32)
    if column.null_count():
        column = column.fill_null(len(words))
    elif len(set(of[:-1].tolist())) == 1:
        return of[:1]
    return of.take(column.to_numpy())


def _has(attributes: pa.MapArray | None, name: str, rows: int) -> NDArray[np.bool_]:
    """By row whether one of its pairs has this key, and a value that is not empty."""
    if attributes is None:
        return np.zeros(rows, np.bool_)
    fits = pc.and_(pc.equal(attributes.keys, name), pc.not_equal(attributes.items, ""))
    before = np.concatenate(([0], np.cumsum(fits.fill_null(False).to_numpy(zero_copy_only=False))))
    ends = attributes.offsets.to_numpy()
    found: NDArray[np.bool_] = before[ends[1:]] > before[ends[:-1]]
    return found
