"""Named questions and migrations are found, begin with what they answer, and hold no text of users."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from tracker.model.spec import load_spec
from tracker.store.migrate import _HEAD, migrations
from tracker.store.shape import Shape
from tracker.store.sql import ask, question

NAMES = sorted(
    entry.name.removesuffix(".sql")
    for entry in resources.files("tracker.store").joinpath("queries").iterdir()
    if entry.name.endswith(".sql")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_says_first_what_it_answers(name: str) -> None:
    """The first line is a comment; the rest is what is asked."""
    assert question(name).strip()


def test_an_unknown_question_is_an_error_of_ours() -> None:
    """A misspelt name does not become an empty query."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        question("nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_in_braces_is_a_typed_parameter(name: str) -> None:
    """After the pieces are filled in, braces hold `{name:Type}` only: values never become SQL."""
    pieces = dict.fromkeys(re.findall(r"\{(\w+)\}", question(name)), "PIECE")
    left = re.findall(r"\{[^}]*\}", ask(name, "tracker", **{k: v for k, v in pieces.items() if k != "db"}))
    assert all(re.fullmatch(r"\{\w+:[A-Za-z0-9()]+\}", part) for part in left), left


def test_hop_names_of_a_spec_go_as_parameters() -> None:
    """Whatever a user calls a hop, it is not part of the SQL."""
    spec = load_spec(
        "flow: f\ncheckpoints:\n"
        "  - {hop: shop-one, stage: produce}\n"
        "  - {hop: billing-two, stage: ack, after: shop-one, within: 5s, at_most: 1}\n"
    )
    bits = {("shop-one", "produce"): 0, ("billing-two", "ack"): 1}
    shape = Shape(spec, bits, {"shop-one": 0, "billing-two": 1})
    assert not re.search("shop|billing", "".join(shape.fold_pieces().values()))
    assert set(shape.parameters.values()) == set(spec.hops)


def test_migrations_are_numbered_and_say_their_cost() -> None:
    """Applied in the order of their numbers; whoever upgrades reads the cost first."""
    found = list(migrations())
    assert [name[:4] for name, _ in found] == [f"{n:04d}" for n in range(1, len(found) + 1)]
    assert all(_HEAD.match(text) for _, text in found)


def test_no_semicolon_hides_in_a_statement() -> None:
    """Migrations are split at semicolons, so text and comments in them hold none."""
    for name, text in migrations():
        for statement in text.partition("\n")[2].split(";"):
            body = statement.strip()
            assert not body or body.split()[0] in {"CREATE", "ALTER", "DROP", "INSERT", "RENAME"}, (name, body[:80])
            assert body.count("'") % 2 == 0, (name, body[:80])
