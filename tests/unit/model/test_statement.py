"""Statements checked in themselves and in their chain; whoever changes one is found out."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tracker.model import chain, seal, statement
from tracker.model.errors import Invalid

KEY = seal.Key.new()
ROWS = [
    {"message_id": "m-1", "verdict": "lost", "hop": "log", "stage": "persist", "kind": "lost", "status": "open"},
    {"message_id": "m-2", "verdict": "blind", "hop": "", "stage": "", "kind": "blind", "status": ""},
]
SAID: dict[str, Any] = {
    "format": statement.FORMAT, "flow": "orders", "number": 1, "previous": chain.ORIGIN, "key": KEY.id,
    "from": "2026-01-01T00:00:00.000000Z", "to": "2026-01-02T00:00:00.000000Z",
    "made_at": "2026-01-03T00:00:01.000000Z", "made_by": "ann", "specs": [],
    "pass": 7, "as_of": "2026-01-03T00:00:00.000000Z", "settled": True, "produced": 9, "orphans": 1, "delivered": 8,
    "verdicts": {"delivered": 8, "lost": 1, "blind": 1}, "conserved": True,
    "exceptions": {"total": 2, "messages": 2, "kinds": {"lost": 1, "blind": 1}, "digest": statement.digest(ROWS),
                   "listed": ROWS},
    "blind_spots": {"total": 0, "listed": []},
}  # fmt: skip


def document(**changes: Any) -> str:
    """A statement as its file, with these changes made before it was signed; `a__b` is `b` within `a`."""
    said = copy.deepcopy(SAID)
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            said[outer][inner] = value
        else:
            said[outer] = value
    digest = chain.link(said["previous"], said)
    return json.dumps({"statement": said, "hash": digest, "public_key": KEY.public, "signature": KEY.sign(said)})


def faults(text: str) -> list[str]:
    """What is off with a file."""
    return statement.faults(*statement.read(text))


def test_a_sound_statement_has_no_faults() -> None:
    """Sums, exceptions, hash and signature agree."""
    text = document()
    assert faults(text) == []
    found, _ = statement.read(text)
    assert seal.signed(found.public_key, found.statement, found.signature)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"delivered": 9}, "delivered 9, but 8"),
        ({"produced": 10}, "`conserved` says yes"),
        ({"conserved": False}, "`conserved` says no"),
        ({"verdicts": {"delivered": 8, "in_flight": 2}}, "messages are in flight"),
        ({"exceptions__listed": ROWS[:1]}, "2 exceptions should be listed, 1 are"),
        ({"exceptions__digest": "0" * 64}, "digest over the exceptions"),
        ({"exceptions__kinds": {"lost": 1}}, "add up to 1"),
        ({"verdicts": {"delivered": 8, "lost": 2}}, "2 messages are lost, 1 are listed"),
        ({"exceptions__listed": [{"x": "y"}, ROWS[1]]}, "other fields"),
    ],
)
def test_sums_that_do_not_agree_are_named_though_the_signature_is_good(changes: dict[str, Any], told: str) -> None:
    """Also whoever signs is held to what a statement says."""
    assert any(told in fault for fault in faults(document(**changes)))


def test_a_changed_statement_has_neither_its_hash_nor_its_signature() -> None:
    """One digit suffices."""
    text = document().replace('"pass": 7', '"pass": 8')
    found, said = statement.read(text)
    assert said.pass_number == 8
    assert any("it was changed" in fault for fault in faults(text))
    assert not seal.signed(found.public_key, found.statement, found.signature)


NONE = [
    "", "{}", "[]", "\x00", '{"statement": {}}', "[" * 10_000, document(format="x/9"), document(flow="\x1b[2J"),
    document(key="x"), document(verdicts={"\x1b[2J": 10}), document(**{"from": "yesterday"}),
]  # fmt: skip


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_what_is_no_statement_is_refused(text: str) -> None:
    """Never a stack trace, whatever the file holds."""
    with pytest.raises(Invalid):
        statement.read(text)


def test_the_digest_knows_no_order_and_confuses_no_rows() -> None:
    """Equal for the same rows in any order; values that run into each other are told apart."""
    assert statement.digest(ROWS) == statement.digest(ROWS[::-1])
    one, two = dict(ROWS[0], hop="ab", stage="c"), dict(ROWS[0], hop="a", stage="bc")
    assert statement.digest([one]) != statement.digest([two])
    assert statement.digest([one, one]) != statement.digest([one])


def chained(*changes: dict[str, Any]) -> list[tuple[statement.Document, statement.Statement]]:
    """Statements that follow each other, but for these changes."""
    made: list[tuple[statement.Document, statement.Statement]] = []
    for number, change in enumerate(changes, 1):
        previous = made[-1][0].hash if made else chain.ORIGIN
        made.append(statement.read(document(**{"number": number, "previous": previous} | change)))
    return made


def test_a_chain_holds_in_any_order_and_from_any_link() -> None:
    """Files come in no order; a part of the chain holds by itself, one alone has nothing to follow."""
    whole = chained({}, {}, {})
    assert statement.breaks(whole[::-1]) == []
    assert statement.breaks(whole[1:]) == []
    assert statement.breaks(whole[2:]) == []
    assert statement.breaks([*whole, whole[1]]) == []


@pytest.mark.parametrize(
    ("links", "told"),
    [
        (lambda: [c for c in chained({}, {}, {}) if c[1].number != 2], "statements 2 to 2 are missing"),
        (lambda: chained({}, {"previous": "f" * 64}), "statement 2 does not follow"),
        (lambda: [*chained({}, {}), chained({}, {"made_by": "bob"})[1]], "the chain forks"),
        (lambda: chained({"previous": "f" * 64}), "only the first"),
        (lambda: chained({}, {"previous": chain.ORIGIN}), "only the first"),
    ],
)
def test_gaps_forks_and_wrong_links_are_named(links: Any, told: str) -> None:
    """A statement taken out, replaced or told twice differently."""
    assert any(told in fault for fault in statement.breaks(links()))
