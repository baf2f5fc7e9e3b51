"""What a checkpoint's `match` may say."""

from __future__ import annotations

import pytest

from tracker.model.errors import SpecError
from tracker.model.match import Match
from tracker.model.spec import load_spec

SPEC = """flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - hop: billing
    stage: ack
    after: shop
    within: 1s
    match:
"""


def fits(match: Match, **span: str) -> bool:
    """Whether every pattern fits."""
    return all(pattern.fullmatch(span.get(key, "")) for key, pattern in match.spans.items())


def test_one_text_or_several_and_stars() -> None:
    """A key has one text or several; `*` stands for anything; every key has to fit."""
    match = Match.model_validate({"service": "billing", "destination": ["orders", "orders-*.v1"]})
    assert fits(match, service="billing", destination="orders")
    assert fits(match, service="billing", destination="orders-eu.v1")
    assert not fits(match, service="billing", destination="orders-eu-v1"), "a dot is a dot"
    assert not fits(match, service="billing2", destination="orders")


def test_attributes_are_asked_by_name() -> None:
    """Any attribute can tell flows apart."""
    match = Match.model_validate({"attributes": {"tenant": ["a", "b"]}})
    assert list(match.spans) == ["attributes.tenant"]


def test_what_brokers_collectors_ask_is_no_question_to_spans() -> None:
    """`topic`, `queue` and `exchange` fit no span by themselves."""
    assert not Match.model_validate({"topic": "orders"}).spans


@pytest.mark.parametrize(
    ("said", "line", "reason"),
    [
        ("      servcie: x\n", 9, "unknown key"),
        ("      service: billing\n      attributes: {a: {b: c}}\n", 10, "valid string"),
        ("      service: [1]\n", 9, "valid string"),
        ("      service: []\n", 8, "says nothing"),
        ("      {}\n", 8, "says nothing"),
    ],
)
def test_what_is_wrong_names_its_line(said: str, line: int, reason: str) -> None:
    """A typing error in `match` would silently take no span at all."""
    with pytest.raises(SpecError, match=reason) as refused:
        load_spec(SPEC + said)
    assert refused.value.line == line


def test_a_match_belongs_to_one_hop() -> None:
    """With alternatives nobody could say at which of them a span happened."""
    with pytest.raises(SpecError, match="which one is it"):
        load_spec(SPEC.replace("hop: billing", "hop: [billing, audit]") + "      service: billing\n")


def test_a_spec_says_the_same_as_before() -> None:
    """Keys that are not given do not appear: the canonical text of older specs stays what it was."""
    spec = load_spec(SPEC + "      queue: q\n").model_dump(mode="json")
    assert spec["checkpoints"][1]["match"] == {"queue": ["q"]}
    assert spec["identity"] == {"header": "x-message-id"}
