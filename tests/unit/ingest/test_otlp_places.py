"""Which flow, hop and stage spans belong to, by the `match` of checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.ingest.otlp.places import Place, Places, Sort
from tracker.model.spec import load_spec

SPEC = """flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce, match: {{destination: orders}}}}
  - {{hop: log, stage: persist, after: shop, within: 1s, match: {{system: solace, operation: receive}}}}
  - {{hop: billing, stage: ack, after: shop, within: 1s, match: {{destination: orders, service: billing}}}}
  - {{hop: audit, stage: deliver, after: shop, within: 1s,
      match: {{destination: orders, attributes: {{tenant: [a, b]}}}}}}
  - {{hop: queue, stage: ack, after: shop, within: 1s, match: {{queue: q}}}}
"""
SENT: dict[str, Any] = {"destination": "orders", "operation": "send", "kind": 4}
TAKEN: dict[str, Any] = {"destination": "orders", "operation": "process", "kind": 5}


def of(*flows: str, **said: Any) -> Place | None:
    """Where a sort of spans belongs, by specs of these names."""
    return Places([load_spec(SPEC.format(flow=flow)) for flow in flows or ("f",)]).of(Sort(**said))


@pytest.mark.parametrize(
    ("said", "place"),
    [
        (SENT, ("shop", "produce")),
        (TAKEN, None),
        (TAKEN | {"service": "billing"}, ("billing", "ack")),
        (TAKEN | {"service": "billing", "failed": True}, ("billing", "nack")),
        (TAKEN | {"service": "billing", "operation": "receive"}, ("billing", "deliver")),
        (TAKEN | {"attributes": {"tenant": "b"}}, ("audit", "ack")),
        (TAKEN | {"attributes": {"tenant": "c"}}, None),
        ({"system": "solace", "operation": "receive"}, ("log", "persist")),
        ({"system": "solace", "operation": "receive", "failed": True}, None),
        ({"system": "solace", "name": "receive", "operation": "x"}, ("log", "persist")),
        ({"system": "solace", "operation": "send"}, None),
        (SENT | {"own_hop": "till"}, ("till", "produce")),
        (SENT | {"own_stage": "drop"}, None),
        ({"own_flow": "f", "own_hop": "h", "own_stage": "drop"}, ("h", "drop")),
        ({"own_flow": "f", "own_hop": "h"}, None),
        ({"own_flow": "other", **SENT}, None),
    ],
)
def test_where_spans_belong(said: dict[str, Any], place: tuple[str, str] | None) -> None:
    """A checkpoint takes what its stage stands for; with `operation` it says itself what a span is evidence of."""
    found = of(**said)
    assert (found and (found.hop, found.stage)) == place


def test_what_asks_most_wins_then_the_first_name() -> None:
    """Always the same, whatever order specs come in."""
    both = TAKEN | {"service": "billing", "attributes": {"tenant": "a"}}
    first = of(**both)
    assert first
    assert first.hop == "billing"
    assert [p.flow for p in (of("g", "f", **SENT), of("f", "g", **SENT)) if p] == ["f", "f"]
    named = of("f", "g", own_flow="g", **SENT)
    assert named
    assert named.flow == "g"
