"""An archive as its readers see it: listed by names, opened with keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from collectors.archive import index, rows
from collectors.archive.config import Place
from collectors.archive.index import Index
from collectors.archive.keys import Keys
from collectors.archive.manifest import Manifest, unpacked
from collectors.archive.names import Segment, manifest, manifests, segments
from collectors.archive.sealed import unseal
from collectors.archive.store import Store
from collectors.errors import Unreadable


class Shelves:
    """Reads only. Every call raises `Unavailable`; those that open a file `Unreadable`, and `ConfigInvalid` for a key
    that is not there."""

    def __init__(self, place: Place) -> None:
        self.store, self._keys = Store(place.url, place.options), Keys(place)

    def segments(self, flow: str = "", hop: str = "") -> list[Segment]:
        """Those of a flow, or of one hop of it, by time."""
        return segments(self._paths(flow, hop))

    def listed(self, flow: str = "") -> tuple[list[Segment], list[tuple[str, str]]]:
        """All segments, and flow and collector of all manifests."""
        paths = self._paths(flow, "")
        return segments(paths), manifests(paths)

    def table(self, segment: Segment) -> Any:
        """What a segment holds, its rows as many as its name says."""
        name = segment.path
        found = rows.unpacked(name, self._opened(segment.flow, name))
        if found.num_rows != segment.rows:
            raise Unreadable(name, f"it holds {found.num_rows} rows, not {segment.rows}")
        return found

    def index(self, segment: Segment) -> Index:
        """Its index; made of the segment itself where the file is gone or damaged."""
        try:
            return self.stored_index(segment)
        except Unreadable:
            return index.of_table(self.table(segment))

    def stored_index(self, segment: Segment) -> Index:
        """Its index as it was written."""
        name = segment.index_path
        found = index.unpacked(name, self._opened(segment.flow, name))
        if len(found.rows) != segment.rows or (segment.rows and int(found.rows.max()) >= segment.rows):
            raise Unreadable(name, "it is not the index of its segment")
        return found

    def manifest(self, flow: str, collector: str) -> Manifest:
        """What a collector vouches for."""
        name = manifest(flow, collector)
        return unpacked(name, self._opened(flow, name))

    def close(self) -> None:
        """Let go of connections."""
        self.store.close()

    def _opened(self, flow: str, name: str) -> bytes:
        data = self.store.get(name)
        if data is None:
            raise Unreadable(name, "it is not there")
        return unseal(flow, name, data, self._keys)

    def _paths(self, flow: str, hop: str) -> Iterable[str]:
        return self.store.paths("/".join(part for part in (flow, hop) if part))
