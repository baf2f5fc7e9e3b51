"""Rows, indices and names: what goes in comes out, and a search finds what a loop would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.archive import index, rows
from collectors.archive.names import Segment, parsed, segments
from collectors.errors import Unreadable

TIMES = st.integers(-(2**62), 2**62)
OPTIONAL = st.none() | st.binary(max_size=20)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.builds(
    rows.Row, TEXT, TEXT, TEXT, TEXT, st.none() | st.integers(0, 2**63 - 1), OPTIONAL, OPTIONAL,
    st.lists(st.tuples(TEXT, OPTIONAL), max_size=3), TIMES, st.none() | TIMES, TEXT,
    OPTIONAL,
)  # fmt: skip
IDS = st.lists(st.sampled_from([f"m-{n}" for n in range(12)]), max_size=15)


@given(kept=st.lists(ROWS, max_size=20))
def test_rows_come_out_as_they_went_in(kept):
    """Any bytes, any text, headers of one name twice, what is absent."""
    table = rows.unpacked("x", rows.packed(rows.table_of(kept)))
    columns = [
        table.column(n).cast("int64") if n in ("observed_at", "origin_at") else table.column(n)
        for n in table.column_names
    ]
    assert [rows.Row(*cells) for cells in zip(*(c.to_pylist() for c in columns), strict=True)] == kept


@given(kept=st.lists(ROWS, max_size=5))
def test_rows_of_an_earlier_version(kept):
    """Written before `native` was kept: read as they are, without it."""
    told = rows.table_of(kept)
    read = rows.unpacked("x", rows.packed(told.drop_columns("native")))
    assert read.drop_columns("native") == told.drop_columns("native")
    assert read.column("native").to_pylist() == [None] * len(kept)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_table(data):
    """An error of ours."""
    with pytest.raises(Unreadable):
        rows.unpacked("x", data)


@given(held=st.lists(st.tuples(IDS, st.integers(0, 50)), max_size=6), wanted=IDS)
def test_a_search_finds_the_newest_copy(held, wanted):
    """As a loop over all of them does, whatever stands in the indices twice, in whatever order they are looked at."""
    search, newest = index.Search(wanted), dict[str, list[tuple[int, int, int]]]()
    for number, (ids, since) in enumerate(held):
        times = [(since * 7 + at * 13) % 50 for at in range(len(ids))]
        packed = index.packed(index.built(ids, times))
        search.look(number, index.unpacked("x", packed))
        for row, (name, at) in enumerate(zip(ids, times, strict=True)):
            if name in wanted:
                newest.setdefault(name, []).append((at, number, row))
    found = {name: (number, row) for name, number, row in search.found()}
    assert found.keys() == newest.keys()
    for name, (number, row) in found.items():
        best = max(at for at, _, _ in newest[name])
        assert (best, number, row) in newest[name]
    assert len(search.found()) == len(found)


def test_a_search_knows_when_it_may_stop():
    """Once each was found, and nothing that is left can be newer."""
    search = index.Search(["a", "b"])
    search.look(0, index.built(["a"], [100]))
    assert not search.settled(50)
    search.look(1, index.built(["b"], [60]))
    assert search.settled(60)
    assert not search.settled(61)
    assert index.Search([]).settled(0)


@given(data=st.binary(max_size=100))
def test_an_index_is_whole_or_refused(data):
    """By its length."""
    if len(data) % index.BYTES:
        with pytest.raises(Unreadable):
            index.unpacked("x", data)
    else:
        assert len(index.unpacked("x", data).hashes) == len(data) // index.BYTES


def test_a_table_has_the_index_that_was_written():
    """The one is made from the other where it is gone."""
    kept = [rows.Row(f"m-{n % 3}", "log", "persist", "", n, None, b"", [], n, None, "") for n in range(10)]
    made = index.built((row.message_id for row in kept), [row.observed_at for row in kept])
    other = index.of_table(rows.table_of(kept))
    assert np.array_equal(made.hashes, other.hashes)
    assert np.array_equal(made.times, other.times)
    assert np.array_equal(made.rows, other.rows)


@given(
    st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1), st.sampled_from(["orders", "a.b-c_d"]),
    st.integers(0, 10**10 - 1), st.integers(0, 10**6), st.sampled_from(["one", "a-1-2", "x.y"]),
)  # fmt: skip
def test_names_tell_what_they_were_made_of(first, last, place, sequence, count, collector):
    """And they sort by time."""
    segment = Segment(first, last, place, place, sequence, count, collector)
    assert parsed(segment.path) == segment
    assert segments([segment.path, segment.index_path, "orders/one.manifest", "orders/log/x.tmp"]) == [segment]


@pytest.mark.parametrize("path", ["", "../../etc/passwd", "orders/../x", "orders/log/one.segment", "/orders/log/x"])
def test_other_paths_are_none_of_ours(path):
    """Above all none that leads elsewhere."""
    named = Segment(1, 2, "orders", "log", 3, 4, "one").path
    assert parsed(path) is None
    assert parsed(f"../{named}") is None
    assert parsed(named.replace("orders", "..")) is None
