"""What flows ask of their events: who is refused, why, and what becomes of it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import pytest

from tests.unit.ingest.lines import NOW, body, event, moved
from tracker.ingest.asked import KnownFlow
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.commit import Committer
from tracker.ingest.intake import Intake
from tracker.ingest.lines.decode import decode
from tracker.ingest.prepare import Context, prepare
from tracker.ingest.resubmit import again
from tracker.model.spec import load_spec

PLAIN = """flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: log, stage: persist, after: shop, within: 5s}
"""
SPEC = (
    PLAIN
    + """schema:
  - {attributes: [order_id, tenant], at: shop}
  - {digest: true, max_size: 1 KiB}
"""
)
DIGEST = "00000000000000ff"
COVERAGE = '{"collector": "c-1", "epoch": 1, "sequence": 17, "events": 2}'


def known(*specs: str) -> dict[str, KnownFlow]:
    """Flows by name, as the way in knows them."""
    return {spec.flow: KnownFlow.of(spec) for spec in map(load_spec, specs)} | {"open": KnownFlow()}


def taken(*lines: dict[str, Any], header: str = "", spec: str = SPEC) -> Batch:
    """What these lines become."""
    return prepare(decode(body(*lines)), header, Context(known(spec), salt=7, source="test", now=NOW))


def sent(**changes: Any) -> dict[str, Any]:
    """An event that brings all that is asked, with changes."""
    good = {"digest": DIGEST, "size": 1024, "attributes": {"order_id": 7, "tenant": "a", "more": ""}}
    return event(hop="shop", stage="produce", **(good | changes))


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        (
            sent(digest=None),
            "digest",
            "xxh3-64 of the payload must be there: the schema of flow orders asks that at shop:",
        ),
        (sent(digest="0" * 16), "digest", "must be there"),
        (sent(size=1025), "size", "1025 bytes are too many, at most 1024 are allowed: the schema of flow orders"),
        (
            sent(attributes=None),
            "attributes",
            "order_id, tenant must be there and not be empty: the schema of flow orders",
        ),
        (sent(attributes={"tenant": "a"}), "attributes", "order_id must be there and not be empty"),
        (sent(attributes={"order_id": "", "tenant": "a"}), "attributes", "order_id must be there and not be empty"),
        (sent(attributes={"order_id": None, "tenant": "a"}), "attributes", "must be an object of texts"),
        (sent(attributes={"order_id": "tenant"}), "attributes", "tenant must be there and not be empty"),
        (event(hop="log"), "digest", "asks that at log:persist"),
        (sent(digest=None, size=5000, attributes=None), "digest", "must be there"),
        (sent(digest="x", size=5000), "digest", "16 hex digits"),
    ],
)
def test_who_does_not_bring_what_is_asked_goes_to_quarantine(line: dict[str, Any], field: str, said: str) -> None:
    """With the field, what is needed, by whose rule and where, and what to do; the others are stored."""
    got = taken(sent(), line, sent(message_id="m-2"))
    [error] = got.answer.errors
    assert (got.answer.accepted, error.line, error.field) == (2, 2, field)
    assert said in error.reason
    assert error.reason.endswith("tracker events resubmit --flow orders") == ("asks that" in error.reason)
    [row] = got.quarantine.to_pylist()
    assert (row["flow"], row["field"], row["reason"]) == ("orders", field, error.reason)


@pytest.mark.parametrize(
    "line",
    [
        sent(size=None),
        event(hop="log", digest=DIGEST),
        event(hop="shop", stage="drop", reason="expired"),
        event(hop="elsewhere"),
        event(flow="open", hop="shop", stage="produce"),
        moved(hop="log", stage="persist"),
    ],
)
def test_nobody_else_is_asked(line: dict[str, Any]) -> None:
    """An event that does not tell its size, other stages, hops that the spec does not know, other flows, ranges."""
    assert taken(line).answer == Accepted(1, 0)


def test_a_flow_without_rules_asks_nothing() -> None:
    """As all flows that were put before there were any."""
    assert taken(event(hop="shop", stage="produce"), spec=PLAIN).answer == Accepted(1, 0)


def test_what_is_refused_is_vouched_for_by_nobody() -> None:
    """It counts as dropped in the batch's coverage report, so nobody is called missing for it."""
    ours, theirs = taken(sent(), sent(digest=None), header=COVERAGE).reports.to_pylist()
    assert [(report["collector"], report["dropped"]) for report in (ours, theirs)] == [("", 1), ("c-1", 1)]


class Nobody:
    """Takes nothing: only what would be stored is looked at."""

    def submit(self, batch: Batch) -> Future[Accepted]:
        """Never asked."""
        raise AssertionError


def test_it_is_taken_once_the_spec_was_changed() -> None:
    """The rules of now hold, whatever they were when it came."""
    kept = taken(sent(digest=None), sent(attributes={"tenant": "a"})).quarantine.to_pylist()
    flows = known(SPEC)
    intake = Intake(cast(Committer, Nobody()), lambda: flows, salt=7)
    assert [line["field"] for line in again(kept, intake, "admin", NOW).refused] == ["digest", "attributes"]
    flows = known(SPEC.replace("digest: true, ", ""))
    tried = again(kept, intake, "admin", NOW)
    assert ([line["field"] for line in tried.taken], len(tried.refused)) == (["digest"], 1)
    flows = known(PLAIN)
    assert len(again(kept, intake, "admin", NOW).taken) == 2
