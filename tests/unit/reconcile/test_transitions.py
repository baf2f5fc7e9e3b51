"""Findings over time: opened, recovered by a replay or by itself, withdrawn, superseded, opened again, explained by
another."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.unit.model.case import ORDERS, event, flow, judged, source, vouched
from tests.unit.model.test_places import Looked
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Range, Stage
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile.exceptions import Bench, finding_id, judge_batch, transitions
from tracker.store.findings import ABANDONED, OPEN, PARKED, RECOVERED, SUPERSEDED, WITHDRAWN, Finding

MADE = event("shop:produce", 0, digest="aa")
KEPT = event("log:persist", 1, digest="aa", node="l1")
COPY = event("mirror:replicate", 2, digest="aa", node="m1")
CHAIN = flow(
    "hop: shop, stage: produce",
    "hop: log, stage: persist, after: shop, within: 5s",
    "hop: billing, stage: ack, after: log, within: 20s",
)


class Story:
    """One message under one spec: `look` judges it at a moment and keeps its findings."""

    def __init__(self, spec: FlowSpec = ORDERS) -> None:
        self.spec = spec
        self.standing: dict[tuple[str, str, str], Finding] = {}

    def look(self, now: float, *events: Event, coverage: Coverage | None = None,
             ranges: tuple[Range, ...] = ()) -> list[Finding]:  # fmt: skip
        """The findings that changed at `now`, in the order of their hops."""
        judgement = judged(self.spec, events, now, coverage, ranges)
        bench = Bench(round(now * SECOND), lambda origin: self.spec, self.spec, Coverage(), ranges,
                      lambda hop, stage, kind: f"{hop}/{kind}")  # fmt: skip
        changed = transitions(bench, self.spec, list(events), judgement, list(self.standing.values()))
        self.standing |= {f.key: f for f in changed}
        return changed

    def status(self, hop: str) -> dict[str, str]:
        """Status by kind, of the findings at a hop."""
        return {f.kind: f.status for f in self.standing.values() if f.hop == hop}


def told(finding: Finding) -> tuple[str, str, str, str]:
    """What a list of findings shows of one."""
    return (finding.hop, finding.kind, finding.status, finding.by)


def test_opened() -> None:
    """With everything that somebody needs to act on it."""
    story = Story()
    (found,) = story.look(25, MADE, KEPT, COPY)
    assert told(found) == ("billing", "unacknowledged", OPEN, "")
    assert (found.stage, found.flow, found.message_id, found.incident) == (
        "ack",
        "orders",
        "m",
        "billing/unacknowledged",
    )
    assert (found.opened_at, found.deadline, found.known_at) == (25 * SECOND, 21 * SECOND, 21 * SECOND)
    assert (found.origin_at, found.held_by, found.cause, found.resolved_at) == (0, ["log", "mirror"], "", 0)
    assert "never reached billing:ack" in found.why
    assert found.finding_id == finding_id("orders", "m", "billing", "ack", "unacknowledged")


def test_what_stands_is_left_alone() -> None:
    """Looked at again and again, it changes nothing; parked and abandoned are somebody's decisions."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    assert story.look(99, MADE, KEPT, COPY) == []
    for status in (PARKED, ABANDONED):
        story.standing = {key: structs.replace(f, status=status) for key, f in story.standing.items()}
        assert story.look(200, MADE, KEPT, COPY) == []


@pytest.mark.parametrize(("replay_id", "by"), [("", "itself"), ("r1", "replay")])
def test_recovered_when_it_is_seen_after_it_was_opened(replay_id: str, by: str) -> None:
    """By whatever brought it; the recovery is dated by its receipt."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    (found,) = story.look(50, MADE, KEPT, COPY, event("billing:ack", 40, received=42, replay_id=replay_id))
    assert told(found) == ("billing", "unacknowledged", RECOVERED, by)
    assert (found.opened_at, found.resolved_at) == (25 * SECOND, 42 * SECOND)


def test_who_came_first_brought_it() -> None:
    """A replay that arrives behind the original's own ack recovered nothing."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    slow, replayed = event("billing:ack", 30), event("billing:ack", 40, replay_id="r1", delivery="d2")
    (found,) = story.look(50, MADE, KEPT, COPY, replayed, slow)
    assert (found.status, found.by, found.resolved_at) == (RECOVERED, "itself", 30 * SECOND)


@pytest.mark.parametrize("status", [PARKED, ABANDONED])
def test_what_was_given_up_may_still_recover(status: str) -> None:
    """Seen is seen."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    story.standing = {key: structs.replace(f, status=status) for key, f in story.standing.items()}
    (found,) = story.look(50, MADE, KEPT, COPY, event("billing:ack", 40))
    assert found.status == RECOVERED


def test_withdrawn_when_it_had_been_there_all_the_time() -> None:
    """A late event, or one by a coverage that lied: the finding was wrong."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    (found,) = story.look(50, MADE, KEPT, COPY, event("billing:ack", 20, received=42))
    assert (found.status, found.by, found.resolved_at) == (WITHDRAWN, "", 50 * SECOND)
    again = event("billing:ack", 60, replay_id="r1", delivery="d2")
    assert story.look(70, MADE, KEPT, COPY, event("billing:ack", 20, received=42), again) == []


def test_withdrawn_when_we_cannot_know_any_more() -> None:
    """A hole in coverage that comes to light says that nothing should have been said."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    dark = vouched(ORDERS, but={"billing:ack": [source((-9, 5), (9, 99))]})
    (found,) = story.look(50, MADE, KEPT, COPY, coverage=dark)
    assert found.status == WITHDRAWN


def test_withdrawn_when_it_was_only_not_observed() -> None:
    """What is implied was there: an ack behind it says so."""
    story = Story()
    story.look(6, MADE)
    changed = story.look(10, MADE, event("billing:ack", 8))
    assert ("log", "lost", WITHDRAWN, "") in map(told, changed)


def test_opened_again() -> None:
    """The same finding by its id, opened anew."""
    story = Story()
    (first,) = story.look(25, MADE, KEPT, COPY)
    dark = vouched(ORDERS, but={"billing:ack": [source((-9, 5))]})
    story.look(30, MADE, KEPT, COPY, coverage=dark)
    (again,) = story.look(40, MADE, KEPT, COPY)
    assert (again.status, again.finding_id) == (OPEN, first.finding_id)
    assert (again.opened_at, again.resolved_at, again.by) == (40 * SECOND, 0, "")


def test_a_change_of_kind_is_another_finding() -> None:
    """The log turns out to have had it: not lost, but billing has not finished."""
    story = Story(CHAIN)
    story.look(26, MADE)
    assert story.status("billing") == {"lost": OPEN}
    story.look(90, MADE, event("log:persist", 1, received=60))
    assert story.status("log") == {"lost": WITHDRAWN}
    assert story.status("billing") == {"lost": SUPERSEDED, "unacknowledged": OPEN}
    (old,) = [f for f in story.standing.values() if f.status == SUPERSEDED]
    assert (old.by, old.resolved_at) == ("unacknowledged", 90 * SECOND)


def test_a_kind_that_comes_back_is_opened_again() -> None:
    """Superseded is not the end: when it is lost after all, the first finding stands again, and the other is over."""
    story = Story(CHAIN)
    story.look(26, MADE)
    back = event("log:persist", 60)
    story.look(90, MADE, back)
    story.look(99, MADE, back, event("log:drop", 95, reason="purged"))
    assert story.status("billing") == {"lost": OPEN, "unacknowledged": SUPERSEDED}
    (first,) = [f for f in story.standing.values() if f.hop == "billing" and f.kind == "lost"]
    assert (first.opened_at, first.by, first.resolved_at) == (99 * SECOND, "", 0)


# --- causes -----------------------------------------------------------------------------------------------------------


def test_what_follows_joins_the_incident_of_its_cause() -> None:
    """Also where its kind is another: a consumer behind a missing replica."""
    spec = flow(
        "hop: eu, stage: persist",
        "hop: us, stage: replicate, after: eu, within: 5s",
        "hop: billing-us, stage: ack, after: us, within: 5s",
    )
    copy, ack = Story(spec).look(20, event("eu:persist", 0))
    assert (copy.kind, copy.cause, copy.incident) == ("under_replicated", "", "us/under_replicated")
    assert (ack.kind, ack.cause, ack.incident) == ("unacknowledged", "us:replicate", "us/under_replicated")


def test_what_followed_has_its_turn_when_its_cause_recovers() -> None:
    """The replay has reached the log; billing has a deadline ahead. Its finding was not wrong, and is not over."""
    story = Story(CHAIN)
    story.look(26, MADE)
    back = event("log:persist", 100, replay_id="r1")
    (log,) = story.look(101, MADE, back)
    assert told(log) == ("log", "lost", RECOVERED, "replay")
    assert story.status("billing") == {"lost": OPEN}
    (billing,) = story.look(110, MADE, back, event("billing:ack", 105, replay_id="r1"))
    assert told(billing) == ("billing", "lost", RECOVERED, "replay")
    late = Story(CHAIN)
    late.look(26, MADE)
    late.look(101, MADE, back)
    late.look(200, MADE, back)
    assert late.status("billing") == {"lost": SUPERSEDED, "unacknowledged": OPEN}


def test_what_followed_stands_for_itself_when_it_fails_on_its_own() -> None:
    """The consumer before it acked at last, and it never did: its own incident, dated anew, counted and alerted."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: pay, stage: ack, after: log, within: 5s",
        "hop: ship, stage: ack, after: pay, within: 5s",
    )
    story = Story(spec)
    log = event("log:persist", 0)
    story.look(20, log)
    followed = next(f for f in story.standing.values() if f.hop == "ship")
    assert (followed.cause, followed.incident) == ("pay:ack", "pay/unacknowledged")
    acked = event("pay:ack", 30)
    story.look(31, log, acked)
    (own,) = story.look(40, log, acked)
    assert (own.hop, own.status, own.cause, own.incident) == ("ship", OPEN, "", "ship/unacknowledged")
    assert (own.opened_at, own.known_at, own.finding_id) == (40 * SECOND, 35 * SECOND, followed.finding_id)
    assert story.look(60, log, acked) == []


def test_what_stood_for_itself_follows_once_something_before_it_is_overdue() -> None:
    """The log's collector was behind, so billing was found first: one incident, that of the log."""
    story = Story(CHAIN)
    behind = vouched(CHAIN, but={"log:persist": [source((-9, 2))]})
    (billing,) = story.look(30, MADE, coverage=behind)
    assert (billing.hop, billing.cause) == ("billing", "")
    changed = story.look(40, MADE)
    assert {(f.hop, f.kind, f.cause, f.incident) for f in changed if f.status == OPEN} == {
        ("log", "lost", "", "log/lost"), ("billing", "lost", "log:persist", "log/lost"),
    }  # fmt: skip


def test_a_cause_that_a_range_brings_back_gives_the_next_its_turn() -> None:
    """The group committed past the message: what comes after it has a deadline ahead, and was not wrong."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: pay, stage: ack, after: log, within: 5s",
        "hop: ship, stage: ack, after: pay, within: 5s",
    )
    story = Story(spec)
    log = event("log:persist", 0, partition="p", offset=5)
    ranges = vouched(spec, but={"pay:ack": [source((-9, 999), evidence="range")]})
    story.look(20, log, coverage=ranges)
    committed = Range(flow="orders", hop="pay", stage=Stage.ack, log="log", partition="p", offset=0, offset_to=9,
                      observed_from=29 * SECOND, observed_at=30 * SECOND, evidence="range")  # fmt: skip
    story.look(31, log, coverage=ranges, ranges=(committed,))
    assert (story.status("pay"), story.status("ship")) == ({"unacknowledged": RECOVERED}, {"unacknowledged": OPEN})


# --- other kinds ------------------------------------------------------------------------------------------------------


def test_a_dead_letter_recovers_by_another_delivery() -> None:
    """The parked delivery's own ack is no evidence, before or after."""
    story = Story()
    parked = [event("billing:ack", 4, delivery="d1"), event("billing:dead_letter", 5, delivery="d1", reason="poison")]
    (found,) = story.look(6, MADE, KEPT, COPY, *parked)
    assert (found.kind, found.status, found.known_at) == ("dead_lettered", OPEN, 5 * SECOND)
    (done,) = story.look(20, MADE, KEPT, COPY, *parked, event("billing:ack", 15, delivery="d2", replay_id="r1"))
    assert (done.status, done.by, done.resolved_at) == (RECOVERED, "replay", 15 * SECOND)


def test_a_dead_letter_after_a_finding_replaces_it() -> None:
    """Not unacknowledged any more: billing said what became of it. What had been said was no error."""
    story = Story()
    story.look(25, MADE, KEPT, COPY)
    story.look(30, MADE, KEPT, COPY, event("billing:dead_letter", 28, reason="poison"))
    assert story.status("billing") == {"unacknowledged": SUPERSEDED, "dead_lettered": OPEN}


def test_a_missing_node_recovers() -> None:
    """One of two nodes was there before; the second brings the quorum."""
    spec = flow("hop: shop, stage: produce", "hop: log, stage: persist, after: shop, within: 5s, quorum: 2")
    story = Story(spec)
    (found,) = story.look(6, MADE, KEPT)
    assert (found.kind, found.status) == ("under_replicated", OPEN)
    (done,) = story.look(20, MADE, KEPT, event("log:persist", 15, node="l2"))
    assert (done.status, done.by, done.resolved_at) == (RECOVERED, "itself", 15 * SECOND)
    wrong = Story(spec)
    wrong.look(6, MADE, KEPT)
    (taken,) = wrong.look(20, MADE, KEPT, event("log:persist", 3, received=15, node="l2"))
    assert taken.status == WITHDRAWN


@pytest.mark.parametrize(("at", "status"), [(15, RECOVERED), (7, WITHDRAWN)])
def test_a_divergence_recovers_by_a_repair(at: float, status: str) -> None:
    """One made after it was found; one made before says that it was not so when it was said."""
    story = Story()
    wrong = event("mirror:replicate", 2, digest="bb", node="m1")
    ack = event("billing:ack", 3)
    (found,) = story.look(9, MADE, KEPT, wrong, ack)
    assert (found.kind, found.known_at) == ("divergent", 2 * SECOND)
    repair = event("mirror:replicate", at, received=15, digest="aa", node="m1", replay_id="r1")
    (done,) = story.look(20, MADE, KEPT, wrong, ack, repair)
    assert done.status == status


def test_an_optional_copy_recovers_too() -> None:
    """It has no state once it is right again."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: mirror, stage: replicate, after: log, within: 9s, same_payload: true, required: false",
    )
    story = Story(spec)
    wrong = event("mirror:replicate", 2, digest="bb", node="m1")
    story.look(9, KEPT, wrong)
    (done,) = story.look(20, KEPT, wrong, event("mirror:replicate", 15, digest="aa", node="m1"))
    assert (done.kind, done.status) == ("divergent", RECOVERED)


def test_overdue_and_divergent_are_two_findings() -> None:
    """Each goes its own way."""
    spec = flow(
        "hop: log, stage: persist",
        "hop: mirror, stage: replicate, after: log, within: 9s, same_payload: true, quorum: 2",
    )
    story = Story(spec)
    wrong = event("mirror:replicate", 2, digest="bb", node="m1")
    assert {f.kind for f in story.look(20, KEPT, wrong)} == {"divergent", "under_replicated"}
    story.look(40, KEPT, wrong, event("mirror:replicate", 30, digest="aa", node="m1"))
    assert story.status("mirror") == {"divergent": RECOVERED, "under_replicated": OPEN}
    back = Story(spec)
    back.look(5, KEPT, wrong)
    back.look(20, KEPT, wrong, event("mirror:replicate", 6, received=19, digest="aa", node="m1"))
    assert back.status("mirror") == {"divergent": RECOVERED, "under_replicated": OPEN}


# --- when it could be known -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "now", "hop", "known"),
    [
        ([MADE, event("log:drop", 2, received=3, reason="unroutable")], 9, "log", 3),
        (
            [MADE, KEPT, COPY, event("mirror:drop", 8, reason="expired"), event("billing:drop", 7, reason="skipped")],
            9, "billing", 7,
        ),
        ([MADE, KEPT, COPY, event("billing:dead_letter", 5, reason="retry"),
          event("billing:dead_letter", 8, delivery="d2")], 9, "billing", 8),
        ([MADE, KEPT, COPY, event("billing:ack", 3), event("mirror:replicate", 80, digest="bb", node="m2")],
         99, "mirror", 80),
    ],
)  # fmt: skip
def test_known_by_the_event_that_says_so(events: list[Event], now: float, hop: str, known: float) -> None:
    """The drop that took the last copy, the dead letter, the payload that differs from those before it."""
    story = Story()
    story.look(now, *events)
    assert [f.known_at for f in story.standing.values() if f.hop == hop] == [known * SECOND]


# --- a batch ----------------------------------------------------------------------------------------------------------


def state(**known: Any) -> dict[str, Any]:
    """A merged state as the store gives it."""
    return {"message_id": "m", "origin_at": 0, "found": False, "timer_at": 0} | known


def test_late_is_not_wrong() -> None:
    """What was seen after its deadline, yet before the pass that opened the finding, recovered: that was right."""
    bench = Bench(25 * SECOND, lambda origin: ORDERS, ORDERS, vouched(ORDERS), (), lambda *key: "/".join(key))
    opened = judge_batch(bench, [state()], {"m": [MADE, KEPT, COPY]}, {}).findings[0]
    assert opened.deadline < 24.9 * SECOND < opened.opened_at
    told = judge_batch(
        bench, [state(found=True)], {"m": [MADE, KEPT, COPY, event("billing:ack", 24.9)]}, {"m": [opened]}
    )
    assert (told.recovered, told.withdrawn) == (1, 0)
    assert (told.findings[0].by, told.findings[0].resolved_at) == ("itself", opened.opened_at)


def test_a_batch_counts_and_keeps() -> None:
    """One row of columns per message, and what changed."""
    bench = Bench(25 * SECOND, lambda origin: ORDERS, ORDERS, vouched(ORDERS), (), lambda *key: "/".join(key))
    judged_ = judge_batch(bench, [state()], {"m": [MADE, KEPT, COPY]}, {})
    assert (judged_.opened, judged_.recovered, judged_.withdrawn) == (1, 0, 0)
    assert judged_.rows == [{"verdict": "unacknowledged", "flags": [], "found": True, "look_again": 0, "timer_at": 0,
                             "origin_at": 0}]  # fmt: skip
    later = structs.replace(judged_.findings[0])
    done = [MADE, KEPT, COPY, event("billing:ack", 10), event("billing:ack", 30)]
    again = judge_batch(bench, [state(found=True)], {"m": done}, {"m": [later]})
    assert (again.opened, again.recovered, again.withdrawn) == (0, 0, 1)


def test_a_message_is_held_against_the_ranges_over_it_alone() -> None:
    """However many there are: one of them took it, and the others are hardly looked at."""
    told_ = Range(
        flow="orders", hop="log", stage=Stage.drop, reason="expired", log="log", partition="p", offset=0, offset_to=1,
        observed_from=0, observed_at=2 * SECOND, evidence="range",
    )  # fmt: skip
    ranges = [structs.replace(told_, offset=n, offset_to=n + 1) for n in range(5_000)]
    bench = Bench(25 * SECOND, lambda origin: ORDERS, ORDERS, vouched(ORDERS), ranges, lambda *key: "/".join(key))
    placed = structs.replace(KEPT, partition="p", offset=Looked(17))
    Looked.times = 0
    judged_ = judge_batch(bench, [state(), state()], {"m": [MADE, placed]}, {})
    assert [row["verdict"] for row in judged_.rows] == ["lost", "lost"]
    assert Looked.times < 500


@pytest.mark.parametrize(("timer", "expected"), [(0, 21), (2, 21), (10, 10), (30, 21)])
def test_a_timer_is_set_where_none_wakes_it_earlier(timer: float, expected: float) -> None:
    """One that has fired is replaced; an earlier one ahead stays."""
    bench = Bench(3 * SECOND, lambda origin: ORDERS, ORDERS, vouched(ORDERS), (), lambda *key: "")
    row = judge_batch(bench, [state(timer_at=timer * SECOND)], {"m": [MADE, KEPT]}, {}).rows[0]
    assert (row["look_again"], row["timer_at"]) == (21 * SECOND, expected * SECOND)


def test_a_message_that_its_own_spec_does_not_know_is_judged_by_the_newest() -> None:
    """It is older than the version that added the only hop where it was seen: it still counts, in one verdict."""
    old = flow("hop: shop, stage: produce")
    bench = Bench(3 * SECOND, lambda origin: old, ORDERS, vouched(ORDERS), (), lambda *key: "")
    assert judge_batch(bench, [state()], {"m": [KEPT]}, {}).rows[0]["verdict"] == "in_flight"


def test_a_message_that_no_living_spec_knows_is_expected_nowhere() -> None:
    """Its flow was deleted, and came back with other hops. It must not stop the pass, nor keep a finding open."""
    bench = Bench(25 * SECOND, lambda origin: CHAIN, CHAIN, vouched(CHAIN), (), lambda *key: "/".join(key))
    found = judge_batch(bench, [state()], {"m": [MADE]}, {}).findings
    other = flow("hop: till, stage: produce")
    bench = Bench(30 * SECOND, lambda origin: other, other, vouched(other), (), lambda *key: "")
    judged_ = judge_batch(bench, [state(found=True)], {"m": [MADE]}, {"m": found})
    assert [row["verdict"] for row in judged_.rows] == ["explained"]
    assert (judged_.rows[0]["look_again"], judged_.rows[0]["found"]) == (0, True)
    assert {f.status for f in judged_.findings} == {WITHDRAWN}
    assert judged_.withdrawn == len(found) > 0
