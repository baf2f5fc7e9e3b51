"""Zones without coverage, on columns, against `Coverage.hole`."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracker.model.coverage import Coverage, SourceCover, join
from tracker.reconcile.zones import zones

PLACE = ("billing", "ack")
NOW = 40
moments = st.integers(0, 30)


@st.composite
def covers(draw: st.DrawFn) -> SourceCover:
    """Vouched for in spans of a few microseconds, so that edges meet; closed by its word, by its end, or open."""
    spans = draw(st.lists(st.tuples(moments, moments).map(sorted), min_size=1, max_size=3))
    intervals = join([(low, high) for low, high in spans])
    last = intervals[-1][1]
    closed = draw(st.sampled_from([None, last, last + 1, last + 3]))
    evidence = draw(st.sampled_from(["message", "message", "range"]))
    return SourceCover(draw(st.sampled_from(["a", "b", "c"])), intervals, closed, evidence)


@settings(max_examples=300, deadline=None)
@given(
    sources=st.lists(covers(), max_size=3),
    heard=st.none() | moments,
    unannounced=st.none() | moments,
    lost=st.lists(st.tuples(moments, st.integers(1, 9)).map(lambda at: (at[0], at[0] + at[1])), max_size=3),
    spans=st.lists(st.tuples(moments, moments).map(sorted), min_size=1, max_size=8),
)
@example(
    sources=[SourceCover("a", ((3, 5),), 8)],
    heard=None,
    unannounced=None,
    lost=[],
    spans=[[8, 8], [8, 9], [9, 9], [5, 5], [5, 8]],
)
def test_a_span_has_a_hole_where_coverage_says_so(
    sources: list[SourceCover],
    heard: int | None,
    unannounced: int | None,
    lost: list[tuple[int, int]],
    spans: list[list[int]],
) -> None:
    """Also for a single moment, at both ends of each interval, with sources that end, vanish and follow each other, and
    with spans of which lines were refused."""
    known = {} if heard is None else {PLACE: heard}
    before = {} if unannounced is None else {PLACE: unannounced - 10}
    refused, unreadable = {PLACE: lost[:1], ("billing", ""): lost[1:2]}, {("", ""): lost[2:]}
    coverage = Coverage({PLACE: sources} if sources else {}, known, frozenset(), 20, 2, before, refused, unreadable)
    start, end = (np.array([span[n] for span in spans]) for n in (0, 1))
    holes = [coverage.hole(*PLACE, low, high, NOW) is not None for low, high in spans]
    assert zones(coverage, *PLACE, NOW).touch(start, end).tolist() == holes
