"""What a spec asks of events: where each rule holds, and what is wrong with one that cannot be asked."""

from __future__ import annotations

import json

import pytest

from tracker.model.errors import SpecError
from tracker.model.schema import Needs
from tracker.model.spec import load_spec

HEAD = """flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: [east, west], stage: persist, after: shop, within: 5s}
  - {hop: billing, stage: ack, after: east, within: 2m, match: {service: billing}}
"""
"""What follows begins on line 6."""
SHOP, EAST, WEST, BILLING = ("shop", "produce"), ("east", "persist"), ("west", "persist"), ("billing", "ack")
A_DIGEST = Needs(digest=True)


def test_every_key() -> None:
    """Attributes, a digest, a size in bytes."""
    spec = load_spec(HEAD + "schema: {attributes: [order_id, tenant], digest: true, max_size: 1 MiB, at: shop}\n")
    assert spec.needs == {SHOP: Needs(("order_id", "tenant"), True, 1 << 20)}


def test_a_rule_is_asked_at_all_checkpoints_but_those_that_take_spans() -> None:
    """Spans of others bring no digest; who knows that theirs do names the checkpoint."""
    assert load_spec(HEAD + "schema: {digest: true}\n").needs == dict.fromkeys((SHOP, EAST, WEST), A_DIGEST)
    assert load_spec(HEAD + "schema: {digest: true, at: billing}\n").needs == {BILLING: A_DIGEST}


def test_a_hop_stands_for_its_checkpoints_and_a_stage_may_be_any() -> None:
    """Also one that is no checkpoint: a drop, a dead letter."""
    found = load_spec(HEAD + "schema: {digest: true, at: [west, 'billing:dead_letter', 'west:persist']}\n").needs
    assert found == dict.fromkeys((WEST, ("billing", "dead_letter")), A_DIGEST)


def test_several_rules_add_up() -> None:
    """All of them hold; of two limits the lower one."""
    rules = "[{attributes: a, max_size: 1 MB, at: [shop, west]}, {attributes: [b, a], max_size: 9, at: shop}]\n"
    found = load_spec(HEAD + "schema: " + rules).needs
    assert found == {SHOP: Needs(("a", "b"), False, 9), WEST: Needs(("a",), False, 10**6)}


def test_what_is_asked_is_said_as_people_say_it() -> None:
    """For tables and messages."""
    assert Needs(("a", "b"), True, 1 << 20).told() == ["attribute a", "attribute b", "a digest", "at most 1 MiB"]
    assert Needs().told() == []


def test_a_spec_without_rules_is_written_as_before() -> None:
    """Its canonical text, which tells versions apart, does not change; with rules they stand there as `schema`."""
    assert "schema" not in load_spec(HEAD).model_dump(mode="json")
    written = load_spec(HEAD + "schema: {digest: true}\n").model_dump(mode="json")
    assert written["schema"] == [{"attributes": [], "digest": True, "max_size": None, "at": []}]
    assert load_spec(json.dumps({"flow": "f", "checkpoints": [{"hop": "a", "stage": "ack"}], "schema": []})).needs == {}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("schema: {}\n", 6, "asks for nothing"),
        ("schema: true\n", 6, "schema.0"),
        ("schema:\n  - {digest: true}\n  - {digest: false, attributes: []}\n", 8, "asks for nothing"),
        ("schema:\n  digest: true\n  size: 7\n", 8, "unknown key `schema.0.size`"),
        ("schema:\n  digest: true\n  max_size: big\n", 8, "'big' is no size; write 65536, 512 kB or 1 MiB"),
        ("schema:\n  digest: maybe\n", 7, "schema.0.digest"),
        ("schema:\n  attributes: [a, 7]\n", 7, "schema.0.attributes.1"),
        ("schema:\n  attributes: ['']\n", 7, "schema.0.attributes.0"),
        (
            "schema:\n  digest: true\n  at: nowhere\n",
            8,
            "`at: nowhere` names no hop of this flow; its hops are billing, east",
        ),
        ("schema:\n  digest: true\n  at: 'shop:sold'\n", 8, "`at: shop:sold` names no stage; the stages are produce, "),
        ("schema:\n  - digest: true\n  - digest: true\n    at: [shop, mars]\n", 9, "`at: mars`"),
        ("rules: {digest: true}\n", 6, "unknown key `rules`"),
    ],
)
def test_errors_name_their_line(text: str, line: int, said: str) -> None:
    """As everywhere in a spec: where it is, what is wrong, what may stand there."""
    with pytest.raises(SpecError) as caught:
        load_spec(HEAD + text)
    assert caught.value.line == line
    assert said in caught.value.reason


def test_a_flow_of_spans_alone_has_to_say_where_it_asks() -> None:
    """Else the rule would hold nowhere, and its author would not know."""
    text = "flow: f\ncheckpoints:\n  - {hop: a, stage: produce, match: {service: a}}\nschema: {digest: true}\n"
    with pytest.raises(SpecError, match="line 4: every checkpoint of this flow takes spans"):
        load_spec(text)
    assert load_spec(text.replace("true}", "true, at: a}")).needs == {("a", "produce"): A_DIGEST}
