"""Segments that are old enough are deleted, whole. Their names tell, so no key and no manifest is needed."""

from __future__ import annotations

from collectors.archive.names import INDEX, SEGMENT, Segment, parsed, segments
from collectors.archive.store import Store


def prune(store: Store, flow: str, before: int, hop: str = "", collector: str = "", dry: bool = False) -> list[Segment]:
    """Delete the segments of a flow, or only those of one hop or of one collector, of which all was observed before
    `before` (epoch µs); which. `dry`: only say which. Raises `Unavailable`; what was deleted by then is gone."""
    paths = store.paths(f"{flow}/{hop}" if hop else flow)

    def meant(segment: Segment) -> bool:
        return segment.last < before and (not collector or segment.collector == collector)

    old = [segment for segment in segments(paths) if meant(segment)]
    if not dry:
        there = set(paths)
        for segment in old:
            store.delete(segment.path)
            store.delete(segment.index_path)
        for path in there:  # of a segment that was never finished
            alone = parsed(path.removesuffix(INDEX) + SEGMENT) if path.endswith(INDEX) else None
            if alone and alone.path not in there and meant(alone):
                store.delete(path)
    return old
