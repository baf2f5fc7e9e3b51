"""What a drill expects, and what it says of what came."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tracker.gameday.faults import Expected, Fault, expected
from tracker.gameday.lane import lane_of
from tracker.gameday.outcome import Check, Facts, Finding, Times, checked, report, timed
from tracker.gameday.page import page
from tracker.model.errors import Invalid
from tracker.model.spec import load_spec
from tracker.model.units import SECOND

LANE = """flow: orders.canary
canary: true
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: log,      stage: persist, after: checkout, within: 5s, same_payload: true}
  - {hop: billing,  stage: ack,     after: log,      within: 5s, at_most: 1}
replay: {sources: [log: log], mode: auto}
"""
IDS = tuple(f"drill-{n}" for n in range(6))
HIT = frozenset(IDS[2:4])


def told(text: str, fault: Fault, *consume: str, at: str = "") -> Expected:
    """What is expected."""
    return expected(lane_of(load_spec(text)), fault, consume, 10, at)


@pytest.mark.parametrize(("fault", "hop", "kind", "by"), [
    (Fault.skip, "billing", "unacknowledged", "replay"), (Fault.withhold, "billing", "unacknowledged", "consumer"),
    (Fault.drop, "log", "lost", "producer"), (Fault.corrupt, "log", "divergent", "producer"),
    (Fault.duplicate, "log", "", "itself"), (Fault.blind, "billing", "", "itself"), (Fault.manual, "log", "", "replay"),
])  # fmt: skip
def test_what_each_fault_has_to_lead_to(fault: Fault, hop: str, kind: str, by: str) -> None:
    """Which finding, where, and who brings them back; stated before."""
    found = told(LANE, fault, "billing")
    assert (found.hop, found.kind, found.by) == (hop, kind, by)
    assert len(found.said) >= 2


def test_without_a_source_the_producer_sends_again() -> None:
    """A queue keeps no copy of what was acked."""
    text = LANE.partition("replay:")[0]
    assert told(text, Fault.skip, "billing").by == "producer"
    assert told(LANE.replace("auto", "'off'"), Fault.skip, "billing").by == "producer"


@pytest.mark.parametrize(("text", "fault", "at", "words"), [
    (LANE, Fault.skip, "", "--consume"), (LANE, Fault.blind, "billing", "--consume billing"),
    (LANE.replace(", same_payload: true", ""), Fault.corrupt, "", "same_payload"),
    (LANE, Fault.corrupt, "billing", "can be done at: log"), (LANE, Fault.drop, "billing", "made at log"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(text: str, fault: Fault, at: str, words: str) -> None:
    """A consumer that is not ours is left alone, and what nobody would notice is no drill."""
    with pytest.raises(Invalid, match=words):
        told(text, fault, at=at)


def finding(name: str, **more: Any) -> Finding:
    """An `unacknowledged` at billing, known at second 10, found at 11, back by a replay at 15."""
    about = {"hop": "billing", "kind": "unacknowledged", "status": "recovered", "opened_at": 11 * SECOND,
             "known_at": 10 * SECOND, "resolved_at": 15 * SECOND, "by": "replay", "held_by": ("log",)}  # fmt: skip
    return msgspec.convert({"message_id": name, **about, **more}, Finding)


def facts(*findings: Finding, **more: Any) -> Facts:
    """Six canaries, two of them hit."""
    states = dict.fromkeys(IDS, ("delivered", ())) | more.pop("states", {})
    return Facts(confirmed=IDS, hit=HIT, findings=findings, states=states, **more)


GOOD = tuple(finding(name) for name in sorted(HIT))


def bad(checks: list[Check]) -> list[str]:
    """What was expected and is not so."""
    return [f"{check.expected}: {check.seen}" for check in checks if not check.good]


def test_found_is_the_truth() -> None:
    """Exactly those that were hit, in time, all back; what follows from a finding is not counted twice."""
    follows = finding(IDS[2], hop="mail", cause="billing")
    assert bad(checked(told(LANE, Fault.skip, "billing"), facts(*GOOD, follows))) == []


@pytest.mark.parametrize(("given", "words"), [
    (facts(GOOD[0]), "named: unacknowledged at billing: 1 of 2; missed: drill-3"),
    (facts(*GOOD, finding(IDS[0])), "2 of 2; wrongly: drill-0"),
    (facts(*GOOD, finding(IDS[2], kind="lost", hop="log")), "nothing else is named: drill-2 lost"),
    (facts(GOOD[0], finding(IDS[3], opened_at=30 * SECOND, resolved_at=31 * SECOND)), "found within 10 s .* 20.00 s"),
    (facts(GOOD[0], finding(IDS[3], by="itself")), "recover by a replay: 1 of 2"),
    (facts(GOOD[0], finding(IDS[3], status="open", resolved_at=None, by="")), "recover by a replay: 1 of 2"),
    (facts(*GOOD, states={IDS[5]: ("blind", ())}), "delivered in the end: 5 of 6; not: drill-5 blind"),
])  # fmt: skip
def test_each_expectation_can_fail(given: Facts, words: str) -> None:
    """And says by id what is not as it should be."""
    [wrong] = bad(checked(told(LANE, Fault.skip, "billing"), given))
    assert re.search(words, wrong)


def test_what_is_not_known_is_named_by_nobody() -> None:
    """`blind`: those that were hit were shown as not known; one finding, whatever became of it, is one too many."""
    wanted = told(LANE, Fault.blind, "billing")
    assert bad(checked(wanted, facts(blind=HIT))) == []
    assert len(bad(checked(wanted, facts(blind=frozenset(IDS[2]))))) == 1
    assert len(bad(checked(wanted, facts(finding(IDS[2], status="withdrawn"), blind=HIT)))) == 1


def test_duplicates_are_flagged_and_not_named() -> None:
    """Only those that were sent twice."""
    wanted = told(LANE, Fault.duplicate)
    twice = dict.fromkeys(HIT, ("delivered", ("duplicated",)))
    assert bad(checked(wanted, facts(states=twice))) == []
    assert len(bad(checked(wanted, facts(states={IDS[2]: ("delivered", ("duplicated",))})))) == 1


def test_a_fault_of_the_operators_is_held_against_what_consumers_got() -> None:
    """Never acked: named or not known. Acked in time: not named. What the broker did not confirm may be either."""
    wanted = told(LANE, Fault.manual, "billing")
    some = {"consumed": frozenset({"billing"})}
    assert bad(checked(wanted, facts(GOOD[0], unacked=frozenset({IDS[2]}), **some))) == []
    assert bad(checked(wanted, facts(GOOD[0], late=frozenset({IDS[2]}), **some))) == []
    assert bad(checked(wanted, facts(states={IDS[2]: ("blind", ())}, unacked=frozenset({IDS[2]}), **some))) == []
    assert bad(checked(wanted, facts(unacked=frozenset({IDS[2]}), **some)))[0].endswith("drill-2")
    assert bad(checked(wanted, facts(GOOD[0], **some))) == ["nothing else is named: drill-2"]
    assert len(bad(checked(wanted, facts(states={IDS[2]: ("in_flight", ())}, **some)))) == 1


def test_the_report_tells_when_and_how_long() -> None:
    """From the fault to what was found and what came back; and what did not."""
    times = Times(fault_began=4 * SECOND, fault_ended=5 * SECOND, replay_asked=12 * SECOND)
    lost = finding(IDS[3], status="open", resolved_at=None, by="", held_by=())
    timed(times, [GOOD[0], lost])
    got = report(told(LANE, Fault.skip, "billing"), facts(GOOD[0], lost), times, "orders.canary", "drill-", "r-1")
    assert got["seconds"] == {"detect_p50": 1, "detect_p99": 1, "fault_to_first_found": 7, "recover_p50": 4,
                              "recover_p99": 4, "replay_to_recovered": 3}  # fmt: skip
    assert got["rpo"] == {"messages": 1, "no_hop_held": 1}
    assert not got["good"]
    text = page(got)
    assert "NOT as expected" in text
    assert "Lost for good (RPO): 1" in text
    assert "| all of them recover by a replay | **no** | 1 of 2 |" in text


def test_a_drill_that_was_stopped_is_not_good() -> None:
    """Whatever else holds; and the report says why."""
    got = report(
        told(LANE, Fault.skip, "billing"), facts(*GOOD), Times(), "orders.canary", "drill-", stopped="no broker"
    )
    assert not got["good"]
    assert got["checks"][0]["seen"] == "no broker"
