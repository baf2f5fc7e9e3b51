"""Deletions wait for what becomes of their row, without a server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.postgres.leaving import EACH, Leaving

MUCH = 1 << 20


def through(messages: list[bytes], most: int = MUCH) -> list[bytes]:
    """What comes out, taken whenever there is something."""
    leaving, out = Leaving(lambda payload: payload[1:] or None, most), []
    for message in messages:
        leaving.put(message)
        while (payload := leaving.get()) is not None:
            out.append(payload)
    return out


def test_a_row_that_is_written_again_was_not_deleted() -> None:
    """Right behind it, or later in the transaction; the next transaction is another matter."""
    assert through([b"B", b"Da", b"Ia", b"C"]) == [b"B", b"Ia", b"C"]
    assert through([b"B", b"Da", b"Ib", b"Db", b"Ia", b"C"]) == [b"B", b"Ib", b"Ia", b"Db", b"C"]
    assert through([b"B", b"Da", b"C", b"B", b"Ia", b"C"]) == [b"B", b"Da", b"C", b"B", b"Ia", b"C"]
    assert through([b"B", b"Da", b"Ia", b"Da", b"C"]) == [b"B", b"Ia", b"Da", b"C"]


def test_what_says_nothing_of_a_relay_passes() -> None:
    """Rows of other tables, changes, notes."""
    assert through([b"B", b"D", b"I", b"Ua", b"R", b"T", b"M", b"C"]) == [
        b"B",
        b"D",
        b"I",
        b"Ua",
        b"R",
        b"T",
        b"M",
        b"C",
    ]


def test_only_so_many_wait() -> None:
    """Memory is bounded: the oldest are told."""
    assert through([b"B", b"Da", b"Db", b"Dc"], most=2 * (EACH + 2)) == [b"B", b"Da"]
    assert through([b"B", b"Da", b"Ia", b"Db", b"Dc", b"C"], most=2 * (EACH + 2)) == [b"B", b"Ia", b"Db", b"Dc", b"C"]


@given(st.lists(st.tuples(st.sampled_from("ID"), st.sampled_from("abc")), max_size=12))
def test_at_the_end_of_a_transaction_what_is_gone_is_gone(changes: list[tuple[str, str]]) -> None:
    """Whatever was written and deleted: exactly those rows are told to be deleted whose last change that is."""
    out = through([f"{kind}{row}".encode() for kind, row in changes] + [b"C"])
    last = {row: kind for kind, row in changes}
    assert {each[1:].decode() for each in out if each[:1] == b"D"} == {row for row, kind in last.items() if kind == "D"}
    assert [each for each in out if each[:1] == b"I"] == [f"I{row}".encode() for kind, row in changes if kind == "I"]
    assert out[-1] == b"C"
