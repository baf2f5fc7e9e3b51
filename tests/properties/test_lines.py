"""The quick way through lines of JSON says what the patient way says, whatever the lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.ingest.lines import CONTEXT, NOW, event, moved, stored
from tracker.ingest.batch import Batch
from tracker.ingest.fields import WIRE
from tracker.ingest.lines.decode import QUICK, Lines, decode, patiently
from tracker.ingest.prepare import prepare

texts = st.text(max_size=6) | st.sampled_from(
    ["", "persist", "drop", "expired", "range", "true", "orders", "7", "é", "\u2028"]
)
moments = st.sampled_from([
    "2027-01-15T08:00:00Z", "2027-01-15T08:00:00.5Z", "2027-01-15T08:00:00.123456Z", "2027-01-15T08:00:00.1234567Z",
    "2027-01-15T09:00:00+01:00", "2027-01-15T02:30:00.25-05:30", "2027-01-15 08:00:00Z", "2027-01-15t08:00:00z",
    "2027-02-29T00:00:00Z", "2024-02-29T23:59:59Z", "2027-01-15T08:00:60Z", "2027-01-15T24:00:00Z", "2027-01-15",
    "2027-01-15T08:00:00", "2027-13-01T00:00:00Z", "1999-12-31T23:59:59Z", "2027-04-31T00:00:00Z", "0", "1800000000",
    "2000-03-01T00:00:00Z", "2027-01-15T08:00:00.Z", "2027-01-15T08:00:00+0100", "2027-01-15T08:00:00+25:00",
])  # fmt: skip
numbers = st.integers(-5, 10**19) | st.sampled_from(
    [
        0,
        NOW,
        NOW // 1000,
        NOW // 10**6,
        NOW * 1000,
        10**11 - 1,
        10**11,
        10**14 - 1,
        10**14,
        10**17,
        1.5,
        1e3,
        -0.0,
        1e300,
    ]
)
scalars = (
    st.none() | st.booleans() | numbers | texts | moments | st.sampled_from(["00000000000000ff", "G" * 16, "aB" * 8])
)
pairs = st.dictionaries(texts, texts | numbers | st.booleans() | st.none(), max_size=2)
values = scalars | pairs | st.lists(scalars, max_size=2)
objects = st.dictionaries(st.sampled_from(WIRE) | st.sampled_from(["mood", "flo", "flows", ""]), values, max_size=6)
written = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\t: ")])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One object as somebody writes it."""
    made: dict[str, Any] = draw(st.sampled_from([event(), moved(), {}])) | draw(objects)
    if draw(st.booleans()):
        made["attributes"] = draw(pairs)
    keys = draw(st.permutations(sorted(made)))
    text = json.dumps({key: made[key] for key in keys}, ensure_ascii=draw(st.booleans()), separators=draw(written))
    if draw(st.integers(0, 9)) == 0:
        text = text.replace('"', "\\u0022", 1) if draw(st.booleans()) else text[: draw(st.integers(0, len(text)))]
    return (
        draw(st.sampled_from([b"", b" ", b"\t"]))
        + text.encode("utf-8", "surrogatepass")
        + draw(st.sampled_from([b"", b"\r", b"  "]))
    )


@pytest.fixture(scope="module", autouse=True)
def quick() -> None:
    """The quick way, and not the patient one while that gets ready."""
    assert QUICK.wait(120)


def told(batch: Batch) -> tuple[Any, ...]:
    """All that a batch says, in any order of rows."""
    rows = sorted(stored(batch), key=repr)
    return batch.answer, rows, sorted(batch.ranges.to_pylist(), key=repr), batch.quarantine.to_pylist()


def both(body: bytes) -> None:
    """Asserts that both ways say the same of a body."""
    all_of_it = Lines(body)
    patient = prepare([patiently(all_of_it, all_of_it.filled)], "", CONTEXT)
    assert told(prepare(decode(body), "", CONTEXT)) == told(patient)


@settings(max_examples=300, deadline=None)
@given(st.lists(lines(), max_size=5), st.sampled_from([b"\n", b"\n\n", b"\r\n"]))
def test_events_in_all_their_forms(found: list[bytes], between: bytes) -> None:
    """Fields of any type and order, escapes, other alphabets, white space, half lines."""
    both(between.join(found))


@settings(max_examples=200, deadline=None)
@given(lines(), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
@example(b'{"flow":"orders","flow":"open"}', 0, b"", 0)
@example(b'{"hop":"\xed\xa0\x80"}', 0, b"", 0)
@example(b'{"hop":"\xf5\x80\x80\x80","node":"\xc0\x80"}', 0, b"", 0)
@example(b'{"attributes":{"a":"b",}}', 0, b"", 0)
@example(b'{"attributes":{"a":"b","a":"c"}}', 0, b"", 0)
@example(b'{"observed_at":01}', 0, b"", 0)
def test_damaged_lines(line: bytes, place: int, put: bytes, gone: int) -> None:
    """Some bytes of a good line replaced by others."""
    place = min(place, len(line))
    both(b"\n".join([json.dumps(event()).encode(), line[:place] + put + line[place + gone :], line]))
