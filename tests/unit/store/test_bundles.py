"""Ids are asked for in as many questions as a server takes them."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.binding import bind_query
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.store.bundles import bundles

FIELD = 131_072
"""What one form field of a request may hold, as ClickHouse is installed."""


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.text(max_size=300), max_size=60), most=st.integers(1, 2_000))
def test_every_id_once_and_in_order(ids: list[str], most: int) -> None:
    """Bundles are the ids, cut; none is empty."""
    found = list(bundles(ids, most))
    assert [ident for bundle in found for ident in bundle] == ids
    assert all(found)


@pytest.mark.parametrize("letter", ["a", "'", "\\", "\n", "\x00", "☃", "🙂"])
def test_a_bundle_fits_into_a_form_field_as_it_is_sent(letter: str) -> None:
    """Whatever characters ids are made of, and however the driver escapes them."""
    for bundle in bundles([letter * 40] * 3_000):
        _, values = bind_query("SELECT {ids:Array(String)}", {"ids": bundle}, None)
        assert len(values["param_ids"].encode()) <= FIELD
