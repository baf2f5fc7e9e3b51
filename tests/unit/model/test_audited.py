"""An export of the audit log: whatever is done to it afterwards shows, and the first broken entry is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.model import audited, chain
from tracker.model.seal import Key, key_id, signed

KEY = Key.new()
COUNT = 6


def entries(count: int = COUNT) -> list[dict[str, Any]]:
    """A log of so many acts."""
    made: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        body: dict[str, Any] = {
            "number": number, "at": number * 1_000, "who": "ann", "what": "approve", "why": "", "subject": "replay/r",
            "detail": chain.canonical({"n": number}), "previous": made[-1]["hash"] if made else chain.ORIGIN,
        }  # fmt: skip
        made.append(body | {"hash": chain.link(body["previous"], body)})
    return made


def sealed(log: Sequence[dict[str, Any]], key: Key = KEY) -> str:
    """Its head, signed."""
    newest = log[-1] if log else {"number": 0, "hash": chain.ORIGIN}
    head = {"format": audited.FORMAT, "number": newest["number"], "hash": newest["hash"], "key": key.id,
            "made_at": "2026-11-22T12:00:00.000000Z"}  # fmt: skip
    return chain.canonical({"head": head, "public_key": key.public, "signature": key.sign(head)})


def exported(log: Sequence[dict[str, Any]]) -> list[str]:
    """As it is handed out."""
    return [*map(audited.line, log), sealed(log)]


def checked(lines: Sequence[str], kept: audited.Head | None = None) -> audited.Checked:
    """What a look at it finds."""
    return audited.check(lines, signed, key_id, kept)


@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_a_log_as_it_was_written_is_good(count: int) -> None:
    """An empty one, too."""
    found = checked(exported(entries(count)))
    assert (found.problems, found.broken, found.entries) == ([], None, count)
    assert found.head is not None
    assert found.head.number == count


def rehashed(log: list[dict[str, Any]], since: int) -> None:
    """As somebody would who knows how the chain is made."""
    for n in range(since, len(log)):
        log[n]["previous"] = log[n - 1]["hash"] if n else chain.ORIGIN
        log[n]["hash"] = chain.link(log[n]["previous"], {k: v for k, v in log[n].items() if k != "hash"})


def changed(lines: list[str]) -> list[str]:
    """Entry 3 says something else."""
    return [line.replace('"{\\"n\\":3}"', '"{\\"n\\":4}"') for line in lines]


def taken_out(lines: list[str]) -> list[str]:
    """Entry 3 is gone."""
    return [*lines[:2], *lines[3:]]


def swapped(lines: list[str]) -> list[str]:
    """Entries 3 and 4 in the other order."""
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def put_in(lines: list[str]) -> list[str]:
    """An entry twice."""
    return [*lines[:2], lines[1], *lines[2:]]


def field_added(lines: list[str]) -> list[str]:
    """A field that no hash covers."""
    return [*lines[:2], audited.line(json.loads(lines[2]) | {"note": "x"}), *lines[3:]]


def cut_in_a_line(lines: list[str]) -> list[str]:
    """The file ends in the middle of entry 3."""
    return [*lines[:2], lines[2][:40]]


@pytest.mark.parametrize("tampered", [changed, taken_out, swapped, put_in, field_added, cut_in_a_line])
def test_the_first_broken_entry_is_named(tampered: Callable[[list[str]], list[str]]) -> None:
    """Whatever was done at the third place."""
    found = checked(tampered(exported(entries())))
    assert (found.broken, found.entries) == (3, 2)
    assert len(found.problems) == 1


def test_a_tail_that_is_cut_off_shows() -> None:
    """Without the head, and with the head that names more than there is."""
    lines = exported(entries())
    assert checked(lines[:4]).broken == 5
    found = checked([*lines[:4], lines[-1]])
    assert found.broken == 5
    assert "entries are missing" in found.problems[0]


def test_a_log_that_was_written_anew_needs_the_key() -> None:
    """Who knows how the chain is made, and has not the key, cannot sign its new head."""
    log = entries()
    log[2]["why"] = "another reason"
    rehashed(log, 2)
    found = checked([*map(audited.line, log), exported(entries())[-1]])
    assert found.broken is not None
    forged = json.loads(sealed(log, Key.new())) | {"public_key": KEY.public}
    assert checked([*map(audited.line, log), chain.canonical(forged)]).problems
    other = checked([*map(audited.line, log), sealed(log, Key.new())])
    assert other.problems == []  # who reads it compares the key
    assert other.head is not None
    assert other.head.key != KEY.id


def test_an_earlier_head_shows_what_its_own_signer_did() -> None:
    """Who has the key may cut the log and sign it again, or write it anew: the head that was kept tells."""
    kept = audited.head_of(exported(entries())[-1])
    assert checked(exported(entries(COUNT + 2)), kept).problems == []
    short = checked(exported(entries(4)), kept)
    assert (short.broken, "cut off" in short.problems[0]) == (5, True)
    log = entries(COUNT + 2)
    log[2]["why"] = "another reason"
    rehashed(log, 2)
    anew = checked(exported(log), kept)
    assert (anew.broken, "written anew" in anew.problems[0]) == (COUNT, True)


def test_what_stands_after_the_head_shows() -> None:
    """Nothing is hidden behind the signature."""
    lines = exported(entries())
    assert checked([*lines, lines[0]]).problems == ["something stands after its head"]


@given(st.data())
def test_no_line_can_be_other_than_it_was(data: st.DataObject) -> None:
    """Any one character of any entry, changed for another, is found at that entry."""
    lines = exported(entries(4))
    place = data.draw(st.integers(0, 3))
    at = data.draw(st.integers(0, len(lines[place]) - 1))
    other = data.draw(st.sampled_from('0aZ"{}:, '))
    if lines[place][at] == other:
        return
    lines[place] = lines[place][:at] + other + lines[place][at + 1 :]
    if json_same(lines[place], exported(entries(4))[place]):
        return
    found = checked(lines)
    assert found.broken == place + 1


def json_same(one: str, two: str) -> bool:
    """A change that no reader of JSON sees, as a space between two fields."""
    try:
        return bool(json.loads(one) == json.loads(two))
    except ValueError:
        return False
