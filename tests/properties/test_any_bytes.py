"""Whatever comes, every line is either stored or in quarantine, and nothing is raised but a refusal."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingest.lines import CONTEXT, NOW, event
from tracker.ingest.body import inflate, lines
from tracker.ingest.errors import Refused
from tracker.ingest.fields import WIRE
from tracker.ingest.lines.decode import decode
from tracker.ingest.prepare import prepare
from tracker.store.columns import EVENTS, QUARANTINE, RANGES

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["", "drop", "range", "ack"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
objects = st.dictionaries(st.sampled_from(WIRE) | st.text(), values, max_size=8)
changed = objects.map(lambda changes: event() | changes)
sane = settings(deadline=None, max_examples=40)


def whole(body: bytes) -> None:
    """Prepares `body` and checks that no line went missing."""
    batch = prepare(decode(body), "", CONTEXT)
    filled = sum(1 for line in body.split(b"\n") if line.strip(b" \t\r"))
    assert batch.answer.accepted + batch.answer.quarantined == filled
    assert batch.events.num_rows + batch.ranges.num_rows == batch.answer.accepted
    assert batch.quarantine.num_rows == batch.answer.quarantined
    assert (batch.ranges.schema, batch.quarantine.schema) == (RANGES, QUARANTINE)
    assert all(column == EVENTS.field(column.name) for column in batch.events.schema)
    assert batch.events["received_at"].to_pylist() == [NOW] * batch.events.num_rows


@sane
@given(st.lists(changed, max_size=6))
def test_any_json_objects(found):
    """Fields of any type, missing, odd or nested."""
    whole(b"\n".join(json.dumps(one).encode() for one in found))


@sane
@given(
    st.lists(st.binary() | st.text().map(str.encode) | changed.map(lambda one: json.dumps(one).encode()), max_size=6)
)
def test_any_lines(found):
    """Bytes, text and objects in one body."""
    whole(b"\n".join(found))


@sane
@given(
    st.binary(max_size=200),
    st.sampled_from(["", "gzip", "zstd", "identity", "br"]),
    st.sampled_from(["application/json", ""]),
)
def test_any_body_is_taken_or_refused(body, encoding, kind):
    """A body under any headers is read, or refused with a reason."""
    with suppress(Refused):
        whole(lines(inflate(body, encoding, 10_000), kind))


@sane
@given(st.text())
def test_any_header_keeps_the_events(header):
    """A coverage header never takes the events down."""
    assert prepare(decode(json.dumps(event()).encode()), header, CONTEXT).answer.accepted == 1
