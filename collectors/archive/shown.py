"""An archive for those who look after it: what it holds, whether all of it can be read, and what is deleted or
restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collectors.archive.config import ArchiveConfig, Place, place_of
from collectors.archive.holdings import Held, held
from collectors.archive.index import of_table
from collectors.archive.manifest import Manifest
from collectors.archive.names import Segment, timed
from collectors.archive.restore import Restored, restore
from collectors.archive.retention import prune
from collectors.archive.rows import checked
from collectors.archive.shelves import Shelves
from collectors.errors import ConfigInvalid, Unreadable
from collectors.part import settings

__all__ = ["Archives", "archives"]


class Verified(msgspec.Struct):
    """How much was read and found whole, and what was not: the files, and why."""

    segments: int = 0
    records: int = 0
    wrong: list[str] = []


def archives(config: Mapping[str, Any], what: str) -> Archives:
    """An archive by `{url, key, unencrypted, options}`, or by the `archive` of a collector; `what` names it in errors.
    Raises `ConfigInvalid`, `MissingExtra`."""
    if "flows" in config:
        whole = settings(ArchiveConfig, config, what)
        return Archives(place_of(whole), whole.keep, whole.flows)
    return Archives(settings(Place, config, what))


class Archives:
    """Every call raises `Unavailable`. `keep` (µs) and `flows` as a collector's configuration has them."""

    def __init__(self, place: Place, keep: int | None = None, flows: tuple[str, ...] = ()) -> None:
        self.place, self.keep, self.flows = place, keep, flows
        self._shelves = Shelves(place)

    def held(self, flow: str = "") -> list[Held]:
        """What it holds. Without a key of a flow: what names tell."""
        segments, named = self._shelves.listed(flow)
        manifests: dict[tuple[str, str], Manifest] = {}
        troubles: dict[tuple[str, str], str] = {}
        for whose in named:
            try:
                manifests[whose] = self._shelves.manifest(*whose)
            except (Unreadable, ConfigInvalid) as error:
                troubles[whose] = str(error)
        for lone in {(s.flow, s.collector) for s in segments} - manifests.keys() - troubles.keys():
            troubles[lone] = "its manifest is not there"
        return held(segments, manifests, troubles)

    def verify(self, flow: str = "", each: Callable[[Segment], None] = lambda _: None) -> Verified:
        """Open every file, and compare every payload with its digest. `each` is told of each segment before."""
        done = Verified(wrong=[])
        segments, named = self._shelves.listed(flow)
        for segment in segments:
            each(segment)
            try:
                done.records += self._verified(segment)
                done.segments += 1
            except Unreadable as error:
                done.wrong.append(str(error))
        for whose in named:
            try:
                self._shelves.manifest(*whose)
            except Unreadable as error:
                done.wrong.append(str(error))
        return done

    def prune(self, before: int, flow: str, hop: str, collector: str, dry: bool) -> list[Segment]:
        """Delete what was observed before a moment (epoch µs); empty is any. `dry`: only say what."""
        flows = [flow] if flow else sorted({s.flow for s in self._shelves.segments()})
        return [segment for each in flows for segment in prune(self._shelves.store, each, before, hop, collector, dry)]

    def restore(self, flow: str, until: int, to: Path) -> Restored:
        """See `collectors.archive.restore`."""
        return restore(self._shelves, self.held(flow), flow, until, to)

    def close(self) -> None:
        """Let go of connections."""
        self._shelves.close()

    def _verified(self, segment: Segment) -> int:
        table = checked(segment.path, self._shelves.table(segment))
        times = table.column("observed_at").cast("int64").to_numpy()
        if (timed(int(times.min())), timed(int(times.max()))) != (segment.first, segment.last):
            raise Unreadable(segment.path, "its records are of other times than its name says")
        index, made = self._shelves.stored_index(segment), of_table(table)
        if any((a != b).any() for a, b in zip((index.hashes, index.times), (made.hashes, made.times), strict=True)):
            raise Unreadable(segment.index_path, "it is not the index of its segment")
        return segment.rows
