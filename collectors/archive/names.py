"""Names of the files of an archive: they tell enough to list, find and delete without opening any.

    FLOW/HOP/FIRST-LAST-SEQUENCE-ROWS-COLLECTOR.segment    the messages
    FLOW/HOP/FIRST-LAST-SEQUENCE-ROWS-COLLECTOR.index      which ids it holds
    FLOW/COLLECTOR.manifest                                what the collector vouches for, and holes

FIRST and LAST: observed times, epoch µs. SEQUENCE counts the segments of one collector at one hop from 1, over
restarts: a number that is not there is a segment that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tracker.model.spec import NAME

SEGMENT, INDEX, MANIFEST, TEMPORARY = ".segment", ".index", ".manifest", ".tmp"
_NAMED = re.compile(r"(\d{16})-(\d{16})-(\d{10})-(\d{1,10})-([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.segment", re.ASCII)
_LATEST = 10**16 - 1


class Segment(NamedTuple):
    """One segment. Sorts by time."""

    first: int
    last: int
    flow: str
    hop: str
    sequence: int
    rows: int
    collector: str

    @property
    def path(self) -> str:
        """Of the segment, below the archive's URL."""
        times = f"{self.first:016d}-{self.last:016d}"
        return f"{self.flow}/{self.hop}/{times}-{self.sequence:010d}-{self.rows}-{self.collector}{SEGMENT}"

    @property
    def index_path(self) -> str:
        """The path of its index."""
        return self.path.removesuffix(SEGMENT) + INDEX


def timed(moment: int) -> int:
    """An observed time as a name can tell it."""
    return min(max(moment, 0), _LATEST)


def safe(name: str) -> bool:
    """Whether a flow or hop can be part of a path: the names that a tracker takes can."""
    return NAME.fullmatch(name) is not None


def manifest(flow: str, collector: str) -> str:
    """The path of a collector's manifest."""
    return f"{flow}/{collector}{MANIFEST}"


def parsed(path: str) -> Segment | None:
    """The segment at a path; None where there is another file."""
    parts = path.split("/")
    found = _NAMED.fullmatch(parts[-1])
    if len(parts) != 3 or found is None or not safe(parts[0]) or not safe(parts[1]):
        return None
    first, last, sequence, rows = (int(number) for number in found.groups()[:4])
    return Segment(first, last, parts[0], parts[1], sequence, rows, found[5])


def segments(paths: Iterable[str]) -> list[Segment]:
    """Those of the paths that are segments, by time."""
    return sorted(segment for path in paths if path.endswith(SEGMENT) and (segment := parsed(path)))


def manifests(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Flow and collector of each manifest."""
    found = [path.removesuffix(MANIFEST).split("/") for path in paths if path.endswith(MANIFEST)]
    return sorted((parts[0], parts[1]) for parts in found if len(parts) == 2)
