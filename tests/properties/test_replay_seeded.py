"""Whether the state machine of `test_replay` sees what it is there for: faults are put into replays, and each is found.

A machine that finds nothing could be one that looks at nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import update

from tests.properties.test_replay import InOrder, Replaying
from tracker.control import messages, tables
from tracker.replay import follower, screen, sender, settle
from tracker.replay.backoff import Budget
from tracker.replay.fetching import Ready
from tracker.replay.sender import Sender
from tracker.replay.settle import Doubt
from tracker.replay.target import Allowed, Target

pytestmark = pytest.mark.long

Patch = pytest.MonkeyPatch


def marks_before_it_publishes(patch: Patch) -> None:
    """A kill in between, and what was never sent is called sent."""
    publish = Sender._publish

    def _publish(self: Sender, replay: Any, target: str, ready: list[Ready]) -> Any:
        self._control.messages.sent(replay.id, [one.claim for one in ready], self._clock())
        return publish(self, replay, target, ready)

    patch.setattr(Sender, "_publish", _publish)


def settles_all_that_it_took(patch: Patch) -> None:
    """What was not confirmed is taken out of the queue, too."""
    hand_back = Sender._hand_back

    def _hand_back(self: Sender, taken: Any, _: Any) -> None:
        hand_back(self, taken, {place for some in taken.values() for place in some})

    patch.setattr(Sender, "_hand_back", _hand_back)


def takes_no_answer_for_no(patch: Patch) -> None:
    """What was not confirmed is tried again at once, though it may have arrived."""
    mark = Sender._mark

    def _mark(self: Sender, replay: Any, target: str, ready: list[Ready], answers: Any) -> None:
        mark(self, replay, target, ready, answers)
        failed = {o.claim.message_id: o.claim.attempt for o in ready if answers[o.copy.locator].error}
        self._control.messages.mark(replay.id, failed, "planned", self._clock())

    patch.setattr(Sender, "_mark", _mark)


def takes_confirmed_for_failed(patch: Patch) -> None:
    """Every answer is thrown away: messages are in doubt that were not."""
    patch.setattr(
        Sender, "_mark", lambda self, replay, target, ready, answers: self._control.messages.release(
            replay.id, [one.claim for one in ready], self._clock()
        )
    )  # fmt: skip


def settles_doubt_in_the_dark(patch: Patch) -> None:
    """Nobody saw it, so it did not arrive: though nobody was looking."""
    doubt = settle.doubt

    def _doubt(*arguments: Any) -> Doubt:
        found, span, now = doubt(*arguments), arguments[5], arguments[6]
        return Doubt.not_sent if found is Doubt.unknown and now > span[1] else found

    patch.setattr(follower, "doubt", _doubt)


def frees_claims_that_ran_out(patch: Patch) -> None:
    """As if whoever had them had done nothing."""

    def expire(self: messages.Messages, now: int) -> int:
        table = tables.ReplayMessage
        ran_out = update(table).where(table.state == "claimed", table.claim_expires_at <= now)
        with self._transactions.write() as session:
            session.execute(ran_out.values(state="planned"))
        return 0

    patch.setattr(messages.Messages, "expire", expire)


def forgets_what_is_in_doubt(patch: Patch) -> None:
    """Nobody ever settles it."""
    patch.setattr(follower.Follower, "_settle", lambda self, replay: None)


def sends_any_copy(patch: Patch) -> None:
    """Whatever its digest."""
    patch.setattr(screen, "fault", lambda found, digests, identity: "")


def sends_whatever_the_findings_say(patch: Patch) -> None:
    """What recovered meanwhile goes out, too."""
    patch.setattr(sender, "by_findings", lambda statuses: None)


def knows_no_most_in_flight(patch: Patch) -> None:
    """However few may be."""
    room = Target.room
    patch.setattr(Target, "room", lambda self, allowed, batch: room(self, Allowed(allowed.rate, 10**6), batch))


def knows_no_budget(patch: Patch) -> None:
    """All that failed is tried again as soon as its pause is over."""
    patch.setattr(Budget, "room", lambda self, rate: 1000)


def sends_a_line_at_once(patch: Patch) -> None:
    """Before the first of it was confirmed."""
    patch.setattr(sender, "turns", lambda ready: [list(ready)] if ready else [])


def holds_nothing_back(patch: Patch) -> None:
    """Behind one that is never sent, those of its line go on."""
    patch.setattr(Sender, "_hold_back", lambda self, replay, claims, found, known: None)


def claims_past_those_in_doubt(patch: Patch) -> None:
    """Behind one that may not have arrived, too."""
    planned = messages._planned

    def _planned(session: Any, replay_id: str, limit: int, which: Any, ahead: Any) -> Any:
        return planned(session, replay_id, limit, which, ("claimed",) if "planned" not in ahead else ahead)

    patch.setattr(messages, "_planned", _planned)


FAULTS: list[tuple[type[Replaying], Callable[[Patch], None]]] = [
    (Replaying, marks_before_it_publishes),
    (Replaying, settles_all_that_it_took),
    (Replaying, takes_no_answer_for_no),
    (Replaying, takes_confirmed_for_failed),
    (Replaying, settles_doubt_in_the_dark),
    (Replaying, frees_claims_that_ran_out),
    (Replaying, forgets_what_is_in_doubt),
    (Replaying, sends_any_copy),
    (Replaying, sends_whatever_the_findings_say),
    (Replaying, knows_no_most_in_flight),
    (Replaying, knows_no_budget),
    (InOrder, sends_a_line_at_once),
    (InOrder, holds_nothing_back),
    (InOrder, claims_past_those_in_doubt),
]


@pytest.mark.parametrize(("machine", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_a_seeded_fault_is_found(
    machine: type[Replaying], fault: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same two hundred runs for each, which are enough to find every one of them."""
    fault(monkeypatch)
    tries = settings(
        max_examples=200, stateful_step_count=20, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(machine, settings=tries)
