"""What became of messages that were sent or may have been: our own ledger says, nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import structlog

from tracker.control import Control
from tracker.control.messages import ReplayMessage
from tracker.control.replays import Replay
from tracker.model.coverage import Coverage
from tracker.replay import ledger as ask
from tracker.replay.backoff import delay
from tracker.replay.clock import Clock
from tracker.replay.kept import Terms, route_of, terms_of
from tracker.replay.ledger import Ledger
from tracker.replay.limits import Limits
from tracker.replay.parking import park
from tracker.replay.routes import Missing
from tracker.replay.settle import Doubt, Outcome, doubt, outcome
from tracker.store.findings import OPEN

Changes = dict[tuple[str, str, int], dict[str, int]]
"""(state, reason, not before) to attempts by message: what `mark` takes at once."""

log = structlog.get_logger(__name__)


class Follower:
    """Looks at a part of a replay's messages each time and goes round. One thread uses it."""

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        clock: Clock,
        owner: str,
        limits: Limits,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._ledger, self._control, self._clock = ledger, control, clock
        self._owner, self._limits, self._uniform = owner, limits, uniform
        self._cursors: dict[tuple[str, str], str] = {}

    def look(self, replay: Replay) -> bool:
        """Settle doubts, follow up what was sent, end the replay when nothing is left to send or to see to.

        True when no message of it has to be seen to any more, whatever its status.
        """
        self._settle(replay)
        for _ in range(self._limits.look_pages):
            if not self._follow_up(replay):
                break
        busy = self._control.messages.any_in(replay.id, ask.AT_IT)
        if replay.status == "running" and not busy and not self._control.messages.any_in(replay.id, ["planned"]):
            self._end(replay, self._control.messages.counts(replay.id))
        return not busy

    def _page(self, replay: Replay, state: str) -> list[ReplayMessage]:
        key = (replay.id, state)
        cursor = self._cursors.get(key, "")
        page = self._control.messages.page(replay.id, state=state, cursor=cursor, limit=self._limits.look_batch)
        self._cursors[key] = page.cursor
        return page.items

    # --- in doubt -------------------------------------------------------------------------------------------------

    def _settle(self, replay: Replay) -> None:
        rows = self._page(replay, "in_doubt")
        rows += [row for row in self._page(replay, "claimed") if row.claimed_by != self._owner]
        if not rows:
            return
        ids = [row.message_id for row in rows]
        # Coverage before events: see `settle`.
        coverage = self._ledger.coverage(ask.last_spec_of(self._control, replay.flow))
        events = self._ledger.events_of(replay.flow, ids, None)
        known = ask.statuses(self._ledger, replay.flow, ids)
        now, changes, terms = self._clock(), Changes(), terms_of(replay)
        for row in rows:
            if row.state == "in_doubt" and (over := _over(row, known[row.message_id])):
                _note(changes, row, *over)
                continue
            targets, seen = route_of(row).targets, events.get(row.message_id, ())
            found = doubt(seen, coverage, targets, replay.id, row.attempt, self._span(row), now, row.arrived)
            if found is Doubt.sent:
                _note(changes, row, "sent", "")
            elif found is Doubt.not_sent and row.state == "in_doubt":
                where = " or ".join(sorted(targets))
                self._again(changes, terms, row, f"attempt {row.attempt} never arrived at {where}", now)
        self._write(replay, "settle", rows, changes, now)

    def _span(self, row: ReplayMessage) -> tuple[int, int]:
        """When the attempt may have arrived. An owner that put it in doubt itself had stopped sending by then."""
        start = row.claimed_at or row.changed_at
        stopped = min(row.claim_expires_at or row.changed_at, row.changed_at)
        return start, stopped + self._limits.travel

    # --- sent -----------------------------------------------------------------------------------------------------

    def _follow_up(self, replay: Replay) -> bool:
        """A page of what was sent; whether most of a full one was settled, so that the next one is worth a look at
        once."""
        rows = self._page(replay, "sent")
        if not rows:
            return False
        coverage = self._ledger.coverage(ask.last_spec_of(self._control, replay.flow))
        known = ask.statuses(self._ledger, replay.flow, [row.message_id for row in rows])
        now, changes, terms = self._clock(), Changes(), terms_of(replay)
        for row in rows:
            self._judge(changes, terms, row, known[row.message_id], coverage, now)
        self._write(replay, "follow_up", rows, changes, now)
        return 2 * sum(map(len, changes.values())) > self._limits.look_batch

    def _judge(
        self,
        changes: Changes,
        terms: Terms,
        row: ReplayMessage,
        known: Mapping[Missing, str],
        coverage: Coverage,
        now: int,
    ) -> None:
        statuses = ask.of_message(known, route_of(row).missing)
        match outcome(statuses, coverage, row.sent_at or row.changed_at, terms.follow_up, now):
            case Outcome.recovered:
                _note(changes, row, "recovered", "")
            case Outcome.withdrawn:
                _note(changes, row, "parked", "its finding was withdrawn after it was sent: nothing had been missing")
            case Outcome.given_up:
                _note(changes, row, "parked", "its finding was given up after it was sent")
            case Outcome.unrecovered:
                self._again(changes, terms, row, f"attempt {row.attempt} arrived and did not help", now)
            case Outcome.waiting | Outcome.blind:
                pass

    # --- what follows ---------------------------------------------------------------------------------------------

    def _again(self, changes: Changes, terms: Terms, row: ReplayMessage, reason: str, now: int) -> None:
        """Planned again after a pause, or parked when the attempts are used up."""
        reason = f"{reason}: {row.error}" if row.error and row.state == "in_doubt" else reason
        if row.attempt >= terms.max_attempts:
            _note(changes, row, "parked", f"{reason}; no attempt is left")
        else:
            _note(changes, row, "planned", reason, now + delay(row.attempt, self._uniform))

    def _write(self, replay: Replay, what: str, rows: Sequence[ReplayMessage], changes: Changes, now: int) -> None:
        if not changes:
            return
        counts: dict[str, int] = {}
        with self._control.transaction() as books:
            for (state, reason, not_before), attempts in changes.items():
                left = books.messages.mark(replay.id, attempts, state, now, error=reason, not_before=not_before)
                counts[state] = counts.get(state, 0) + len(attempts) - len(left)
                if state == "parked":
                    marked = attempts.keys() - left
                    park(books, replay.flow, [row for row in rows if row.message_id in marked], now)
            books.audit.append(now, self._owner, what, f"replay/{replay.id}", detail=counts)

    def _end(self, replay: Replay, counts: Mapping[str, int]) -> None:
        now = self._clock()
        told = {state: count for state, count in counts.items() if count}
        with self._control.transaction() as books:
            books.replays.move(replay.id, "done", now, by=self._owner)
            books.audit.append(now, self._owner, "finish", f"replay/{replay.id}", detail=told)
        log.info("replay_done", replay=replay.id, **told)


def _over(row: ReplayMessage, known: Mapping[Missing, str]) -> tuple[str, str] | None:
    """What becomes of a message in doubt of which nothing is missing any more, and why; None while something is."""
    statuses = {status for _, status in ask.of_message(known, route_of(row).missing)}
    if OPEN in statuses:
        return None
    if statuses <= {"recovered", "withdrawn"} and "recovered" in statuses:
        return "recovered", "recovered while it was in doubt"
    ruled = ", ".join(sorted(statuses))
    return "parked", f"its finding was {ruled} while it was in doubt: attempt {row.attempt} may have arrived"


def _note(changes: Changes, row: ReplayMessage, state: str, reason: str, not_before: int = 0) -> None:
    changes.setdefault((state, reason, not_before), {})[row.message_id] = row.attempt
