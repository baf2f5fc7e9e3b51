"""What flows ask of events, looked at on columns, against one event after the other, in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingest.lines import NOW, body, event
from tests.unit.ingest.spans import body as spans_of
from tests.unit.ingest.spans import reader, span
from tests.unit.ingest.test_arrow import stream
from tracker.ingest import asked
from tracker.ingest.arrow import decode as arrow
from tracker.ingest.asked import KnownFlow
from tracker.ingest.decoded import Decoded
from tracker.ingest.lines.decode import QUICK, Lines, decode, patiently
from tracker.ingest.prepare import Context, prepare
from tracker.model.schema import Needs

HOPS, STAGES, NAMES = ["shop", "log", "billing"], ["produce", "persist", "ack", "nack"], ["order.id", "tenant", "t"]
FLOWS = ["orders", "mails", "open"]
WORD = pa.dictionary(pa.int32(), pa.string())

wanted = st.builds(
    Needs,
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    st.booleans(),
    st.sampled_from([None, 9, 10]),
)
places = st.tuples(st.sampled_from(HOPS), st.sampled_from(STAGES))
flows = st.fixed_dictionaries({
    "orders": st.builds(KnownFlow, st.booleans(), st.dictionaries(places, wanted, max_size=6)),
    "mails": st.builds(KnownFlow, st.booleans(), st.dictionaries(places, wanted, max_size=3)),
    "open": st.just(KnownFlow()),
})  # fmt: skip
attributes = st.dictionaries(st.sampled_from([*NAMES, "x"]), st.sampled_from(["", "a", "é", "tenant"]), max_size=3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Events of all flows and places, with these fields."""
    where = {"flow": st.sampled_from(FLOWS), "hop": st.sampled_from(HOPS), "stage": st.sampled_from(STAGES)}
    one = st.fixed_dictionaries(where, optional=fields).map(lambda said: event(**said))
    return st.lists(one, max_size=8)


digests = st.sampled_from(["00000000000000ff", "F" * 16, "0" * 16])
sizes = st.sampled_from([0, 9, 10, 11])
events = some(digest=digests, size=sizes, attributes=attributes)


def expected(found: list[dict[str, Any]], known: Mapping[str, KnownFlow]) -> dict[int, tuple[str, set[str]]]:
    """By line what is wrong: the field, and the attributes that are missing."""
    return {line: wrong for line, one in enumerate(found, 1) if (wrong := _wrong(one, known[one["flow"]]))}


def _wrong(one: dict[str, Any], flow: KnownFlow) -> tuple[str, set[str]] | None:
    needs = flow.needs.get((one["hop"], one["stage"]), Needs())
    if needs.digest and int(one.get("digest", "0"), 16) == 0:
        return "digest", set()
    if needs.max_size is not None and one.get("size", 0) > needs.max_size:
        return "size", set()
    missing = {name for name in needs.attributes if not one.get("attributes", {}).get(name)}
    return ("attributes", missing) if missing else None


def told(parts: list[Decoded], known: Mapping[str, KnownFlow]) -> dict[int, tuple[str, set[str]]]:
    """The same by the way in; all lines that are not told of have been stored."""
    batch = prepare(parts, "", Context(known, salt=7, source="test", now=NOW))
    rows = batch.quarantine.to_pylist()
    assert batch.events.num_rows + len(rows) == sum(part.frame.height for part in parts)
    return {row["line"]: (row["field"], _missing(row)) for row in rows}


def _missing(row: Mapping[str, Any]) -> set[str]:
    return set(row["reason"].partition(" must be there")[0].split(", ")) if row["field"] == "attributes" else set()


@pytest.fixture(scope="module", autouse=True)
def quick() -> None:
    """The quick way, and not the patient one while that gets ready."""
    assert QUICK.wait(120)


@settings(max_examples=150, deadline=None)
@given(events, flows, st.sampled_from([0, 1 << 16]))
def test_lines(found: list[dict[str, Any]], known: Mapping[str, KnownFlow], dense: int) -> None:
    """By the quick way, and by the patient one; as if there were few flows and hops, or very many."""
    lines = Lines(body(*found))
    with mock.patch.object(asked, "_DENSE", dense):
        assert told(decode(lines.body), known) == expected(found, known)
    assert told([patiently(lines, lines.filled)], known) == expected(found, known)


@settings(max_examples=150, deadline=None)
@given(events.filter(bool), flows, st.booleans(), st.booleans(), st.booleans())
def test_arrow(
    found: list[dict[str, Any]], known: Mapping[str, KnownFlow], words: bool, numbers: bool, pairs: bool
) -> None:
    """Texts or words, digests as numbers or text, attributes as maps or JSON, and some of them null."""
    kind = WORD if words else pa.string()
    columns = {name: pa.array([one[name] for one in found], kind) for name in ("flow", "message_id", "hop", "stage")}
    columns["observed_at"] = pa.array([NOW] * len(found), pa.timestamp("us", "UTC"))
    columns["size"] = pa.array([one.get("size") for one in found], pa.int64())
    said = [one.get("digest") for one in found]
    columns["digest"] = pa.array([int(d, 16) if d else None for d in said], pa.uint64()) if numbers else pa.array(said)
    maps = [one.get("attributes") for one in found]
    # a null value is an empty one: what is drawn as empty is sent as null, too
    rows = [None if m is None else [(k, v or None) for k, v in m.items()] for m in maps]
    if pairs:
        columns["attributes"] = pa.array(rows, pa.map_(pa.string(), pa.string()))
    else:
        columns["attributes"] = pa.array([None if m is None else _json(m) for m in maps], pa.string())
    assert told([arrow.decode(stream(pa.table(columns)), 1 << 20)], known) == expected(found, known)


def _json(said: Mapping[str, str]) -> str:
    return body(dict(said)).decode()


@settings(max_examples=100, deadline=None)
@given(some(digest=digests, size=sizes).filter(bool), flows)
def test_spans(found: list[dict[str, Any]], known: Mapping[str, KnownFlow]) -> None:
    """OTLP, which brings no attributes of messages."""
    spans = [span(_attributes(one), number=n) for n, one in enumerate(found, 1)]
    decoded, _ = reader().read(spans_of(spans))
    assert decoded.frame.height == len(found)
    assert told([decoded], known) == expected(found, known)


def _attributes(one: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"messaging.system": "kafka"}
    said |= {f"tracker.{name}": one[name] for name in ("flow", "hop", "stage", "message_id")}
    said |= {"tracker.digest": one["digest"]} if "digest" in one else {}
    return said | ({"messaging.message.body.size": one["size"]} if "size" in one else {})
