"""What an archive holds, hop by hop and collector by collector, and what it does not. From names, and from manifests
where there is a key. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from operator import attrgetter

import msgspec

from collectors.archive.manifest import Book, Manifest, Run
from collectors.archive.names import Segment

Whose = tuple[str, str, str]
"""Flow, hop, collector."""


class Gap(msgspec.Struct, frozen=True, order=True):
    """From `since` until `until` (epoch µs) something is missing; `source`: of this one only, empty: of any."""

    since: int
    until: int
    cause: str
    source: str = ""


class Held(msgspec.Struct, frozen=True):
    """What one collector's archive holds of one hop. `first`, `last`: observed times (epoch µs), None without a
    segment. `watched`: spans that its manifest vouches for. `trouble`: why that manifest could not be read."""

    flow: str
    hop: str
    collector: str
    segments: int
    records: int
    first: int | None
    last: int | None
    gaps: list[Gap]
    watched: list[Run]
    trouble: str = ""


def held(
    segments: Sequence[Segment], manifests: Mapping[tuple[str, str], Manifest], troubles: Mapping[tuple[str, str], str]
) -> list[Held]:
    """By flow, hop and collector. `manifests` and `troubles` by flow and collector."""
    by_whose = sorted(segments, key=attrgetter("flow", "hop", "collector", "sequence"))
    found: dict[Whose, list[Segment]] = {
        whose: list(group) for whose, group in groupby(by_whose, attrgetter("flow", "hop", "collector"))
    }
    for (flow, collector), manifest in manifests.items():
        for hop in manifest.hops:
            found.setdefault((flow, hop, collector), [])
    answers = []
    for whose, some in sorted(found.items()):
        flow, hop, collector = whose
        manifest_of = manifests.get((flow, collector))
        book = manifest_of.hops.get(hop, Book()) if manifest_of else Book()
        answers.append(
            Held(
                *whose, len(some), sum(s.rows for s in some), min((s.first for s in some), default=None),
                max((s.last for s in some), default=None), sorted([*missing(some, book), *given_up(book)]), book.runs,
                troubles.get((flow, collector), ""),
            )
        )  # fmt: skip
    return answers


def given_up(book: Book) -> list[Gap]:
    """What could not be kept, as the manifest tells."""
    return [Gap(h.since, h.until, f"{h.records} records given up: {h.cause}") for h in book.holes]


def missing(segments: Sequence[Segment], book: Book) -> list[Gap]:
    """Numbers that are not there between the oldest segment that is and the newest that was written: what came before
    has been deleted for its age. Where those around it stand says about when."""
    known = {hole.sequence for hole in book.holes}
    gaps = []
    for before, after in pairwise(segments):
        lacking = [n for n in range(before.sequence + 1, after.sequence) if n not in known]
        if lacking:
            times = sorted((before.last, after.first))
            gaps.append(Gap(times[0], times[1], f"segments missing: {_numbers(lacking)}"))
    if segments:
        newest = segments[-1]
        lacking = [n for n in range(newest.sequence + 1, book.sequence + 1) if n not in known]
        if lacking:
            until = max([newest.last, *(run.until for run in book.runs)])
            gaps.append(Gap(newest.last, until, f"segments missing: {_numbers(lacking)}"))
    return gaps


def incomplete(held_of_hop: Sequence[Held], until: int) -> list[Gap]:
    """Up to `until`, the spans of one hop for which it cannot be said that all is there: of several collectors of one
    source one suffices; a gap of any of them is told."""
    gaps = [gap for each in held_of_hop for gap in each.gaps if gap.since <= until]
    gaps += [Gap(0, until, f"{each.collector}: {each.trouble}") for each in held_of_hop if each.trouble]
    oldest = min((each.first for each in held_of_hop if each.first is not None), default=None)
    spans: dict[str, list[tuple[int, int]]] = {}
    for run in (run for each in held_of_hop for run in each.watched):
        spans.setdefault(run.source, []).append((run.since, run.until))
    for source, some in spans.items():
        gaps += _uncovered(source, sorted(some), oldest, until)
    if not spans and oldest is not None and oldest <= until:
        gaps.append(Gap(oldest, until, "nobody vouches for it"))
    return sorted(gaps)


def _uncovered(source: str, spans: Sequence[tuple[int, int]], oldest: int | None, until: int) -> Iterable[Gap]:
    """The parts before `until` that no span of a source covers."""
    reached = spans[0][0]
    if oldest is not None and oldest < reached and oldest <= until:
        yield Gap(oldest, min(reached, until), "read from before it was watched", source)
    for since, end in spans:
        if since > reached and reached < until:
            yield Gap(reached, min(since, until), "not watched", source)
        reached = max(reached, end)
    if reached < until:
        yield Gap(reached, until, "not watched", source)


def _numbers(some: Sequence[int]) -> str:
    shown = ", ".join(map(str, some[:5]))
    return f"{shown} and {len(some) - 5} more" if len(some) > 5 else shown
