"""An OTLP body -> columns of events, and an account of every span that did not become one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tracker.ingest.cells import Bytes, Int64s
from tracker.ingest.decoded import MAX_LINES, Decoded
from tracker.ingest.errors import TooLarge, Unreadable
from tracker.ingest.otlp import walk
from tracker.ingest.otlp.account import FAILED, NO_FLOW, NO_ID, NO_STAGE, Account, Seen
from tracker.ingest.otlp.columns import Found, events
from tracker.ingest.otlp.gather import MAX_KINDS, kinds, texts
from tracker.ingest.otlp.names import SLOT, Table, table
from tracker.ingest.otlp.places import Place, Places, Sort
from tracker.model.spec import FlowSpec

_MAX_BODY = (1 << 31) - 1
"""Bytes of a body that cells can tell of."""
_TELLING = ("service", "system", "destination", "operation", "name", "disposition", "group", "own_flow", "own_hop",
            "own_stage")  # fmt: skip


class Told(NamedTuple):
    """The sorts of a body: of each row, the first row of each, and what they are."""

    of: Int64s
    firsts: Int64s
    sorts: Sequence[Sort]
    places: Sequence[Place | None]


class Reader:
    """Reads bodies by the flow specs given. Immutable: a change of specs makes a new one. Thread-safe."""

    def __init__(self, specs: Sequence[FlowSpec] = ()) -> None:
        self.places = Places(specs)
        self.table: Table = table(self.places.identities, self.places.attributes)
        asked = (self.table.extra[name] for name in sorted(self.places.attributes))
        self._columns = walk.HEAD + np.array([*(SLOT[name] for name in _TELLING), *asked], np.int64)
        self._flat = np.array([walk.KIND, walk.FAILED], np.int64)
        self._seed = np.int64(secrets.randbits(62) | 1)  # nobody can make a body whose sorts all fall together

    def read(self, body: bytes) -> tuple[Decoded, Account]:
        """The events, and what became none. Raises Unreadable for bytes that are no ExportTraceServiceRequest, TooLarge
        for more than `MAX_LINES` spans about messaging."""
        buf, rows, spans = self._walked(body)
        told = self._told(buf, rows)
        placed = np.array([place is not None for place in told.places] or [False])[told.of] & (told.of >= 0)
        ids = self._ids(rows, told)
        link, of = rows[:, walk.OF] >= 0, np.maximum(rows[:, walk.OF], 0)
        named = placed & (ids != 0)
        kept = named & ~(link & named[of]) if len(rows) else named
        links = np.bincount(of[kept & link], minlength=len(rows))
        decoded = events(buf, self._found(rows, told, ids, np.flatnonzero(kept)))
        left = ~link & ~kept & (links == 0)
        account = Account(spans, spans - int((~link).sum()), list(_seen(buf, rows, told, left)))
        return decoded, account

    def _walked(self, body: bytes) -> tuple[Bytes, Int64s, int]:
        if len(body) > _MAX_BODY:
            raise TooLarge(f"the body has {len(body)} bytes; at most {_MAX_BODY} are read: send smaller batches")
        buf = np.frombuffer(body, np.uint8) if body else np.frombuffer(b"\0", np.uint8)[:0]
        rows = np.empty((min(MAX_LINES, len(buf) // 8 + 1), walk.HEAD + self.table.slots), np.int64)
        status, count, spans = walk.walk(self.table.lines, self.table.letters, buf, self.table.naming, rows)
        if status == walk.FULL:
            raise TooLarge(f"the body has more than {MAX_LINES} spans about messages; send smaller batches")
        if status == walk.DAMAGED:
            raise Unreadable(f"the body is no ExportTraceServiceRequest, or damaged, near its span {max(spans, 1)}")
        return buf, rows[:count], spans

    def _told(self, buf: Bytes, rows: Int64s) -> Told:
        of, firsts = kinds(buf, rows, self._columns, self._flat, self._seed, MAX_KINDS)
        if len(of) and of.min() < 0:
            raise TooLarge(
                f"the body has more than {MAX_KINDS} combinations of service, destination and whatever else flows are "
                "told apart by; send smaller batches, and match by nothing that is new with every message"
            )
        cells = rows[firsts][:, self._columns]  # read all at once: a call costs more than a thousand cells
        flat = [word or "" for word in texts(buf, cells.ravel())[0].to_list()]
        asked = sorted(self.places.attributes)
        sorts = []
        for n, row in enumerate(firsts):
            said = flat[n * len(self._columns) : (n + 1) * len(self._columns)]
            told: dict[str, Any] = dict(zip(_TELLING, said, strict=False))
            attributes = dict(zip(asked, said[len(_TELLING) :], strict=True))
            kind, failed = int(rows[row, walk.KIND]), bool(rows[row, walk.FAILED])
            sorts.append(Sort(**told, kind=kind, failed=failed, attributes=attributes))
        return Told(of, firsts, sorts, [self.places.of(sort) for sort in sorts])

    def _ids(self, rows: Int64s, told: Told) -> Int64s:
        """The cell that names each row's message: the application's own word, else the attribute that the flow says,
        else that of the conventions."""
        slots = [self.table.extra.get(p.identity, SLOT["message_id"]) if p else 0 for p in told.places] or [0]
        own = rows[:, walk.HEAD + SLOT["own_id"]]
        other = rows[np.arange(len(rows)), walk.HEAD + np.array(slots)[told.of]]
        return np.where(own != 0, own, other)

    def _found(self, rows: Int64s, told: Told, ids: Int64s, kept: Int64s) -> Found:
        chosen = slice(None) if len(kept) == len(rows) else kept  # no copy of what is wanted whole
        return Found(rows[chosen], ids[chosen], told.of[chosen], told.sorts, told.places)


def _seen(buf: Bytes, rows: Int64s, told: Told, left: np.ndarray) -> Iterator[Seen]:
    if not left.any():
        return
    at = np.flatnonzero(left)
    found = np.unique(told.of[at], return_index=True, return_counts=True)
    samples = _samples(buf, rows[at[found[1]]])
    for n, count, sample in zip(found[0].tolist(), found[2].tolist(), samples, strict=True):
        sort, place = told.sorts[n], told.places[n]
        yield Seen(sort, _reason(sort, place), place.flow if place else "", count, sample)


def _reason(sort: Sort, place: Place | None) -> str:
    if place:
        return NO_ID
    return NO_FLOW if sort.stage else FAILED if replace(sort, failed=False).stage else NO_STAGE


def _samples(buf: Bytes, rows: Int64s) -> list[str]:
    own, other = rows[:, walk.HEAD + SLOT["own_id"]], rows[:, walk.HEAD + SLOT["message_id"]]
    return texts(buf, np.where(own != 0, own, other))[0].fill_null("").to_list()
