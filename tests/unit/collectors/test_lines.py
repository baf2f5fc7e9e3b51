"""The lines that instrumented clients write, against the events that the tracker reads out of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.instrument.lines import Heads, Shared, shared_bytes
from tracker.model.event import Event, Stage

odd = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.none() | st.integers(0, 2**63 - 1)


def test_the_shared_part_has_the_fields_of_an_event() -> None:
    """The same names, kinds and defaults: what an event gets there it can get here."""
    of_event = {field.name: field for field in msgspec.structs.fields(Event)}
    for field in msgspec.structs.fields(Shared):
        assert (field.type, field.default) == (of_event[field.name].type, of_event[field.name].default), field.name
    more = {"flow", "hop", "stage", "node", "region", "observed_at", "reason", "attributes"}  # of observer and event
    others = {"observed_from", "backfill", "received_at", "clock_offset", "clock_error"}  # no client says these
    assert {field.name for field in msgspec.structs.fields(Shared)} | more | others == set(of_event)


@given(st.data())
def test_a_line_is_the_event(data: st.DataObject) -> None:
    """Whatever stands in it: the tracker reads what was observed, quotes, newlines and all."""
    shared: dict[str, Any] = {
        field.name: data.draw(numbers if "int" in str(field.type) else odd)
        for field in msgspec.structs.fields(Shared)
        if field.name != "message_id"
    }
    shared["message_id"] = data.draw(odd.filter(bool))
    stage, at, node, region, reason = data.draw(st.tuples(st.sampled_from(Stage), st.integers(0, 2**60), odd, odd, odd))
    attributes = data.draw(st.dictionaries(odd, odd, max_size=2))
    line = Heads("orders", "billing", node, region).line(stage, at, shared_bytes(Shared(**shared)), reason, attributes)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=Event) == Event(
        flow="orders", hop="billing", stage=stage, observed_at=at, node=node, region=region, reason=reason,
        attributes=attributes, **shared,
    )  # fmt: skip


def test_text_that_is_none() -> None:
    """A lone surrogate cannot be sent: that is an error here, not a line that a tracker refuses."""
    with pytest.raises(UnicodeEncodeError):
        shared_bytes(Shared("\udc80"))
