"""The score: what was found against what is true, by id."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.simulate.worlds import settled, world
from tracker.simulate.score import Said, Score, Tally, quantiles, score
from tracker.simulate.truth import FLAGS
from tracker.simulate.wire import ident
from tracker.simulate.world import NEVER

MADE = world({"kind": "drop", "place": "billing", "share": 0.2})
TRUE = settled(MADE)


def answer() -> dict[str, Said]:
    """What a service that is right says."""
    return {
        ident(MADE, m): Said(
            str(TRUE.verdict[m]),
            frozenset(f for f in FLAGS if TRUE.flags[f][m]),
            frozenset(key for key, messages in TRUE.findings.items() if messages[m]),
        )
        for m in range(MADE.count)
    }


def findings(after: int = 3_000_000) -> list[dict[str, Any]]:
    """One for everybody that is missing, some time after it could be known."""
    return [
        {"message_id": ident(MADE, m), "hop": hop, "stage": stage, "kind": "unacknowledged", "status": "open",
         "opened_at": datetime.fromtimestamp((int(at) + after) / 1e6, UTC).isoformat()}
        for (hop, stage), known in TRUE.known.items() for m, at in enumerate(known.tolist()) if at < int(NEVER)
    ]  # fmt: skip


def scored(found: dict[str, Said], opened: list[dict[str, Any]] | None = None) -> Score:
    """The score of an answer."""
    return score(MADE, TRUE, found, findings() if opened is None else opened)


def test_a_right_answer_is_perfect_and_its_delays_are_measured() -> None:
    """Three seconds after it could be known."""
    result = scored(answer())
    assert result.perfect
    assert result.wrong == []
    delays = quantiles(result.delays)
    assert delays is not None
    assert delays == pytest.approx({"p50": 3, "p99": 3, "max": 3}, abs=0.01)


def test_a_wrong_verdict_costs_precision_of_one_and_recall_of_the_other_and_is_named() -> None:
    """Somebody can look the message up."""
    said = answer()
    name = next(n for n, one in said.items() if one.verdict == "unacknowledged")
    said[name] = replace(said[name], verdict="lost")
    result = scored(said)
    assert not result.perfect
    assert result.tallies["lost"].precision == 0
    assert result.tallies["unacknowledged"].recall < 1
    assert [w["message_id"] for w in result.wrong] == [name]


def test_a_flag_too_many_or_too_few_is_wrong() -> None:
    """Flags count as verdicts do."""
    said = answer()
    said[ident(MADE, 0)] = replace(said[ident(MADE, 0)], flags=frozenset({"gap"}))
    result = scored(said)
    assert not result.perfect
    assert (result.tallies["gap"].truth, result.tallies["gap"].found) == (0, 1)


def test_who_is_not_in_the_answer_and_who_should_not_be_are_both_wrong() -> None:
    """Nobody vanishes, nobody is made up."""
    said = answer()
    said["a stranger"] = said.pop(ident(MADE, 5))
    result = scored(said)
    assert not result.perfect
    assert {w["message_id"] for w in result.wrong} == {"a stranger", ident(MADE, 5)}


def test_a_finding_too_few_or_of_another_kind_is_wrong() -> None:
    """A right verdict that nobody is told of is not enough."""
    said = answer()
    silent, other = [name for name, one in said.items() if one.findings][:2]
    said[silent] = replace(said[silent], findings=frozenset())
    said[other] = replace(said[other], findings=frozenset({("billing", "ack", "lost")}))
    result = scored(said)
    assert not result.perfect
    assert result.findings.truth - result.findings.both == 2
    assert result.findings.found - result.findings.both == 1
    assert {w["message_id"] for w in result.wrong} == {silent, other}


@pytest.mark.parametrize(("fault", "perfect"), [("drop", False), ("swallow", True)])
def test_a_finding_that_was_withdrawn_is_wrong_unless_a_collector_lied(fault: str, perfect: bool) -> None:
    """What is superseded by another kind was not."""
    made = world({"kind": fault, "place": "billing", "share": 0.2})
    true = settled(made)
    said = {ident(made, m): Said(str(true.verdict[m]), frozenset(f for f in FLAGS if true.flags[f][m]),
                                 frozenset(key for key, messages in true.findings.items() if messages[m]))
            for m in range(made.count)}  # fmt: skip
    opened = [{"message_id": ident(made, 0), "hop": "billing", "stage": "ack", "kind": "lost",
               "opened_at": "2026-01-01T00:00:00+00:00", "status": "superseded"}]  # fmt: skip
    assert score(made, true, said, opened).perfect
    opened[0]["status"] = "withdrawn"
    assert score(made, true, said, opened).perfect is perfect


def test_books_that_do_not_balance_are_never_perfect() -> None:
    """Whatever the verdicts say."""
    result = scored(answer())
    result.conserved = False
    assert not result.perfect


def test_of_nothing_nothing_is_wrong() -> None:
    """Precision and recall of what never happens are one; delays of nobody are none."""
    assert (Tally().precision, Tally().recall) == (1.0, 1.0)
    assert quantiles([]) is None


def test_what_was_wrong_in_mid_stream_is_not_forgiven_at_the_end() -> None:
    """However right all is when it has settled."""
    result = scored(answer())
    result.astray = 1
    assert not result.perfect
