"""The files of one collector in its archive: written, sealed, and found again at the next start. Keeps no state of what
is under way. Everything raises `Unavailable`, for keys `ConfigInvalid`, and `Unreadable`."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.archive import index, rows
from collectors.archive.config import ArchiveConfig
from collectors.archive.keys import Keys
from collectors.archive.manifest import Manifest, unpacked
from collectors.archive.names import TEMPORARY, Segment, manifest, segments, timed
from collectors.archive.retention import prune
from collectors.archive.sealed import seal, unseal
from collectors.archive.store import Store


class Shelf:
    """Of collector `name`. Raises `ConfigInvalid` for a URL or a key that is wrong."""

    def __init__(self, name: str, config: ArchiveConfig) -> None:
        self._name, self._config = name, config
        self._store, self._keys = Store(config.url, config.options), Keys(config)
        for flow in config.flows:
            self._keys.of(flow)

    def found(self) -> tuple[dict[str, Manifest | None], dict[tuple[str, str], int]]:
        """What the process before left: its manifests by flow, its newest segment by flow and hop. What it left half
        written is deleted."""
        manifests: dict[str, Manifest | None] = {}
        newest: dict[tuple[str, str], int] = {}
        for flow in self._config.flows:
            paths = self._store.paths(flow)
            for path in paths:
                if path.endswith(TEMPORARY) and self._mine(path.removesuffix(TEMPORARY)):
                    self._store.delete(path)
            for segment in segments(paths):
                if segment.collector == self._name:
                    place = segment.flow, segment.hop
                    newest[place] = max(newest.get(place, 0), segment.sequence)
            at = manifest(flow, self._name)
            data = self._store.get(at)
            manifests[flow] = unpacked(at, unseal(flow, at, data, self._keys)) if data is not None else None
        return manifests, newest

    def write(self, flow: str, hop: str, sequence: int, kept: Sequence[rows.Row]) -> int:
        """Make a segment of these, with its index; its size in bytes. Durable when this returns."""
        times = [row.observed_at for row in kept]
        segment = Segment(timed(min(times)), timed(max(times)), flow, hop, sequence, len(kept), self._name)
        keys = self._keys.of(flow)
        ids = index.packed(index.built((row.message_id for row in kept), times))
        self._store.put(
            segment.index_path, seal(flow, segment.index_path, ids, keys)
        )  # first: a segment always has one
        data = seal(flow, segment.path, rows.packed(rows.table_of(kept)), keys)
        self._store.put(segment.path, data)
        return len(data)

    def tell(self, flow: str, packed: bytes) -> None:
        """Put the manifest of a flow."""
        at = manifest(flow, self._name)
        self._store.put(at, seal(flow, at, packed, self._keys.of(flow)))

    def prune(self, now: int) -> int:
        """Delete what this collector wrote that is older than `keep`; how many segments."""
        before = now - (self._config.keep or now)
        flows = self._config.flows
        return sum(len(prune(self._store, flow, before, collector=self._name)) for flow in flows)

    def _mine(self, path: str) -> bool:
        stem = path.rpartition(".")[0]
        return stem.endswith((f"-{self._name}", f"/{self._name}"))
