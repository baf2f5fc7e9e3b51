"""What comes from a Redis server as bytes: commands, ids, fields."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Unavailable, Undecodable
from collectors.redis.cursor import Cursor
from collectors.redis.entry import (
    at_offset,
    fields_of,
    headers_of,
    id_of,
    id_text,
    offset_of,
    packed,
    payload_of,
    unpacked,
)
from collectors.redis.resp import Damaged, command, parsed

WORDS = st.lists(st.binary(max_size=30), min_size=1, max_size=8)
IDS = st.tuples(st.integers(0, 2**43 - 1), st.integers(0, 2**20 - 1))
FIELDS = st.dictionaries(
    st.text(min_size=1, max_size=8).map(str.encode), st.binary(max_size=20), min_size=1, max_size=5
)


@given(st.lists(WORDS, max_size=4), st.integers(0, 400))
def test_commands_are_read_wherever_the_bytes_were_cut(commands, cut):
    """What is whole is given, with its end; the rest waits."""
    sent = b"".join(command(*words) for words in commands)
    buffer, at, found = bytearray(sent[:cut]), 0, []
    for rest in (sent[cut:], b""):
        while (one := parsed(buffer, at)) is not None:
            words, at = one
            found.append(words)
        buffer += rest
    assert found == commands
    assert at == len(sent)


@pytest.mark.parametrize("sent", [b"+OK\r\n", b"*1\r\n+a\r\n", b"*x\r\n", b"*1\r\n$x\r\n"])
def test_what_is_no_command_is_damage(sent):
    """Nobody reads on behind it."""
    with pytest.raises(Damaged):
        parsed(bytearray(sent), 0)


@given(IDS, IDS)
def test_an_id_is_a_number_that_grows_with_it(one, other):
    """And comes back from it."""
    first, second = offset_of(one), offset_of(other)
    assert first is not None
    assert second is not None
    assert (first < second) == (one < other)
    assert at_offset(first) == one == id_of(id_text(one))
    assert first < 2**63


@pytest.mark.parametrize("entry", [(2**43, 0), (1, 2**20)])
def test_an_id_that_was_made_up_may_have_no_number(entry):
    """Then it has no place that a replay could ask for."""
    assert offset_of(entry) is None


@given(FIELDS, st.booleans())
def test_an_entry_is_its_headers_and_its_payload(fields, whole):
    """With the payload in a field of its own, or all in all."""
    field = "" if whole else next(iter(fields)).decode()
    made = fields_of(headers_of(fields, field), payload_of(fields, field), field)
    assert made == fields
    assert unpacked(packed(fields)) == fields


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_undecodable(value):
    """Nothing else comes out of it."""
    try:
        unpacked(value)
    except Undecodable:
        return


def test_a_cursor_that_somebody_holds_for_a_moment(tmp_path):
    """A backup, say: what could not be written then is written the next time."""
    path = tmp_path / "it.cursor"
    with closing(Cursor(path, "one")) as cursor, closing(sqlite3.connect(path, isolation_level=None)) as backup:
        cursor._file.execute("PRAGMA busy_timeout = 1")
        backup.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            cursor.keep({("", "note"): b"1"})
        backup.execute("ROLLBACK")
        cursor.keep({("", "note"): b"2"})
        assert backup.execute("SELECT body FROM marks WHERE name = 'note'").fetchone() == (b"2",)
