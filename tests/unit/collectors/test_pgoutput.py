"""Messages of pgoutput, put together by the format's documentation."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Raw
from collectors.errors import Undecodable
from collectors.postgres.pgoutput import EPOCH, Begin, Change, Commit, Lack, Note, Relation, Truncate, parsed
from collectors.postgres.rows import Place, Rows, Table

RELATION = Relation(7, "public.outbox", "d", ("id", "payload", "sent_at", "type"), (25, 17, 1184, 25))
AT = 1_795_000_000_000_000


def row(*values):
    """Columns as a tuple: text, None for null, ... for unchanged."""
    cells = {None: b"n", ...: b"u"}
    parts = [cells[v] if v in cells else b"t" + struct.pack(">I", len(v.encode())) + v.encode() for v in values]
    return struct.pack(">H", len(parts)) + b"".join(parts)


def insert(*values):
    """A row was written."""
    return b"I" + struct.pack(">I", 7) + b"N" + row(*values)


def update(*values):
    """A row was changed; its identity was not."""
    return b"U" + struct.pack(">I", 7) + b"N" + row(*values)


def delete(*values, mark=b"K"):
    """A row was taken away."""
    return b"D" + struct.pack(">I", 7) + mark + row(*values)


def said(change, relation=RELATION, **table):
    """The events of one change."""
    rows = Rows([Table(table="outbox", flow="orders", hop="shop", **table)], False, "db", "eu")
    return rows.events_of(Raw(change, position=Place(9, 1, AT, relation)))


def test_what_a_stream_is_made_of():
    """Each kind of message says what it says."""
    begin = b"B" + struct.pack(">QqI", 77, AT - EPOCH, 4)
    commit = b"C" + struct.pack(">BQQq", 0, 77, 99, 0)
    columns = b"".join(b"\x00" + name.encode() + b"\x00" + struct.pack(">Ii", kind, -1)
                       for name, kind in zip(RELATION.columns, RELATION.types, strict=True))  # fmt: skip
    relation = b"R" + struct.pack(">I", 7) + b"public\x00outbox\x00d" + struct.pack(">H", 4) + columns
    note = b"M" + struct.pack(">BQ", 1, 5) + b"tracker\x00" + struct.pack(">I", 2) + b"hi"
    assert parsed(begin) == Begin(77, AT)
    assert parsed(commit) == Commit(99)
    assert parsed(relation) == RELATION
    assert parsed(note) == Note("tracker", b"hi")
    assert parsed(b"T" + struct.pack(">IBII", 2, 0, 7, 8)) == Truncate((7, 8))
    assert parsed(b"Y" + bytes(9)) is None
    assert parsed(insert("a", None, ...)) == Change("I", 7, ("a", Lack.null, Lack.unchanged))
    both = b"U" + struct.pack(">I", 7) + b"O" + row("a") + b"N" + row("b")
    assert parsed(both) == Change("U", 7, ("b",), ("a",))


KINDS = st.sampled_from([b"R", b"I", b"U", b"D", b"T", b"M"])


@given(st.binary(max_size=60) | st.builds(lambda kind, rest: kind + rest, KINDS, st.binary()))
def test_any_bytes_are_a_message_or_undecodable(payload):
    """And the same with a place in the log."""
    for read in (parsed, lambda data: said(data, payload="payload", headers="type", origin="sent_at")):
        with suppress(Undecodable):
            read(payload)


@pytest.mark.parametrize("end", range(1, 40))
def test_a_message_that_breaks_off(end):
    """At any byte: never a shorter truth."""
    whole = insert("m-1", "\\x00ff", "2026-11-18 11:06:40.5+00", "order")
    with pytest.raises(Undecodable):
        parsed(whole[:end])


def test_a_row_is_a_produce():
    """With digest and size of the payload's bytes, and the time of the commit; the origin where a column has it."""
    (event,) = said(insert("m-1", "\\x00ff", "2026-11-18 11:06:40.5+00", "order"), payload="payload", origin="sent_at")
    assert (event.message_id, event.stage, event.hop) == ("m-1", "produce", "shop")
    assert (event.node, event.region) == ("db", "eu")
    assert (event.observed_at, event.origin_at) == (AT, 1_795_000_000_500_000)
    assert (event.digest, event.size) == (xxhash.xxh3_64_hexdigest(b"\x00\xff"), 2)
    assert event.delivery == "public.outbox/m-1"


def test_headers_of_a_row():
    """An object in a column says what a message's headers would; anything else says nothing."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    found = json.dumps({"x-origin-at": "1795000000000001", "x-correlation-id": "c-1", "traceparent": trace})
    (event,) = said(insert("m-1", None, None, found), headers="type")
    assert (event.origin_at, event.correlation_id, event.trace_id) == (1_795_000_000_000_001, "c-1", "a" * 32)
    for odd in ("[1]", "{", "7", None):
        (event,) = said(insert("m-1", None, None, odd), headers="type")
        assert (event.origin_at, event.correlation_id) == (AT, "")


def test_a_row_that_is_relayed():
    """Deleted, or marked: an ack of the outbox, of the same delivery as its produce."""
    stages = lambda events: [(str(e.stage), e.reason, e.delivery) for e in events]  # noqa: E731
    ack = [("ack", "", "public.outbox/m-1")]
    assert stages(said(delete("m-1", None, None, None), relayed="delete")) == ack
    mark = {"relayed": {"column": "sent_at"}}
    assert stages(said(update("m-1", ..., "2026-11-18 11:06:40+00", "order"), **mark)) == ack
    assert said(update("m-1", ..., None, "order"), **mark) == []
    assert said(update("m-1", ..., "f", "order"), **mark) == []
    assert said(delete("m-1", None, None, None), **mark) == []
    assert said(delete("m-1", None, None, None)) == []
    assert said(update("m-1", None, None, None), relayed="delete") == []


def test_a_row_that_was_not_relayed_and_is_gone():
    """Where the whole row is told, an unmarked one that is deleted was purged."""
    full = Relation(7, "public.outbox", "f", RELATION.columns, RELATION.types)
    mark = {"relayed": {"column": "sent_at"}}
    (event,) = said(delete("m-1", "\\x00", None, "order", mark=b"O"), full, **mark)
    assert (event.stage, event.reason) == ("drop", "purged")
    assert said(delete("m-1", "\\x00", "2026-11-18", "order", mark=b"O"), full, **mark) == []


def test_rows_of_one_table_that_are_of_several_flows():
    """The first `where` that is true; a row that fits none says nothing."""
    tables = [Table(table="outbox", flow=flow, hop="shop", where={"type": flow}) for flow in ("orders", "bills")]
    rows = Rows(tables, False, "db", "")
    flows = [[e.flow for e in rows.events_of(Raw(insert("m-1", None, None, kind), position=Place(9, 1, AT, RELATION)))]
             for kind in ("orders", "bills", "cats", None)]  # fmt: skip
    assert flows == [["orders"], ["bills"], [], []]


def test_what_is_set_aside():
    """A truncation names no rows; a row without its id cannot be named; a row of another width is not ours."""
    for payload, reason in (
        (b"T" + struct.pack(">IBI", 1, 0, 7), "truncated"),
        (insert(None, None, None, None), "REPLICA IDENTITY FULL"),
        (insert("m-1"), "1 columns, 4 were told"),
    ):
        with pytest.raises(Undecodable, match=reason):
            said(payload)
