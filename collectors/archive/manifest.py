"""What a collector's archive vouches for: over these spans I have kept all that I saw. And where it could not. Pure.

A span goes on over a restart, as coverage does: what was not kept was not committed, so it comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.errors import Unreadable
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage

KEPT = frozenset({Stage.produce, Stage.persist, Stage.replicate, Stage.dead_letter})
"""The stages of which an archive keeps the message: those at which a hop takes it."""
MOST = 10_000
"""Runs, or holes, of one hop; the oldest are forgotten, and then nobody vouches for their time."""


class Run(msgspec.Struct):
    """A source was watched without a gap from `since` until `until`, epoch µs; `open`: it may go on."""

    stage: str
    source: str
    since: int
    until: int
    open: bool = True


class Hole(msgspec.Struct):
    """`records` observed from `since` until `until` (epoch µs) could not be kept; `sequence`: their segment's."""

    since: int
    until: int
    records: int
    sequence: int
    cause: str


class Book(msgspec.Struct):
    """Of one hop. `sequence`: of the newest segment."""

    sequence: int = 0
    runs: list[Run] = []
    holes: list[Hole] = []


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """Of one collector and flow, by hop."""

    collector: str
    flow: str
    hops: dict[str, Book] = {}
    version: int = 1


def packed(manifest: Manifest) -> bytes:
    """As bytes."""
    return msgspec.json.encode(manifest)


def unpacked(name: str, data: bytes) -> Manifest:
    """What was packed. Raises `Unreadable`."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable(name, "its content is no manifest") from None


class Books:
    """The manifests of one collector, one a flow. Of what was vouched for before they were loaded only this counts: a
    source that was left out once is not the one that the process before vouched for."""

    def __init__(self, collector: str, flows: Iterable[str]) -> None:
        self._manifests = {flow: Manifest(collector, flow) for flow in flows}
        self._always: set[tuple[str, str, str, str]] | None = None
        self.loaded = False

    def load(self, manifests: Mapping[str, Manifest | None], sequences: Mapping[tuple[str, str], int]) -> None:
        """Go on where the process before ended. `sequences`: the newest segment that is there, by flow and hop."""
        for flow, manifest in manifests.items():
            if manifest is not None:
                self._manifests[flow] = manifest
        for (flow, hop), sequence in sequences.items():
            book = self._book(flow, hop)
            book.sequence = max(book.sequence, sequence)
        if self._always is not None:
            self._close_others(self._always)
        self.loaded = True

    def vouch(self, sources: Sequence[SourceRef], reached: int | None) -> None:
        """Exactly these are watched; `reached`: all of them without a gap until then, None where that is not known."""
        known = {(s.flow, s.hop, s.stage, s.source) for s in sources if s.flow in self._manifests and s.stage in KEPT}
        if not self.loaded:
            self._always = known if self._always is None else self._always & known
            return
        going = self._close_others(known)
        if reached is None:
            return
        for flow, hop, stage, source in known:
            run = going.get((flow, hop, stage, source))
            if run is None:
                runs = self._book(flow, hop).runs
                runs.append(Run(stage, source, reached, reached))
                del runs[:-MOST]
            else:
                run.until = max(run.until, reached)

    def next(self, flow: str, hop: str) -> int:
        """The number of the next segment."""
        book = self._book(flow, hop)
        book.sequence += 1
        return book.sequence

    def missed(self, flow: str, hop: str, hole: Hole) -> None:
        """Something could not be kept."""
        holes = self._book(flow, hop).holes
        if hole not in holes[-MOST:]:  # one is told again after a restart
            holes.append(hole)
            del holes[:-MOST]

    def told(self) -> list[tuple[str, bytes]]:
        """Flow and manifest, packed: as they are now."""
        return [(flow, packed(manifest)) for flow, manifest in self._manifests.items()]

    def _book(self, flow: str, hop: str) -> Book:
        return self._manifests[flow].hops.setdefault(hop, Book(0, [], []))

    def _close_others(self, known: set[tuple[str, str, str, str]]) -> dict[tuple[str, str, str, str], Run]:
        """End the runs of what is not watched now; the others, by what they are of."""
        going: dict[tuple[str, str, str, str], Run] = {}
        for flow, manifest in self._manifests.items():
            for hop, book in manifest.hops.items():
                for run in book.runs:
                    place = (flow, hop, run.stage, run.source)
                    run.open = run.open and place in known
                    if run.open:
                        going[place] = run
        return going
