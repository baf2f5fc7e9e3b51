"""One batch of a replay: claim, screen, publish, mark. The order of these is what makes a crash safe.

    claim (committed) ── crash: in doubt once the claim expires, the ledger settles it
      screen            ── crash: the same
        publish         ── crash: the same, and the ledger finds what arrived
          mark sent     ── done

Nothing is published that was not claimed before in a committed transaction, so no crash can hide that it may have been.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog

from tracker.control import Books, Control
from tracker.control.leases import Lease
from tracker.control.messages import Claimed, ReplayMessage
from tracker.control.replays import Replay
from tracker.model.carry import Locator, Sent
from tracker.replay import ledger as ask
from tracker.replay.breaker import State
from tracker.replay.clock import Clock, Steady
from tracker.replay.fetching import Batch, Fetched, Ready, said
from tracker.replay.kept import Terms, route_of, terms_of
from tracker.replay.lag import behind
from tracker.replay.ledger import Ledger
from tracker.replay.limits import Limits
from tracker.replay.lines import behind_broken, held_back, turns
from tracker.replay.parking import park
from tracker.replay.ports import Ports
from tracker.replay.routes import Keeper, Missing
from tracker.replay.screen import Decision, by_arrivals, by_findings, by_rivals
from tracker.replay.target import Allowed, Room, Target
from tracker.store.findings import OPEN

REASONS = 10
"""So many of a batch are named in the audit log."""
IDLE_S = 0.5
"""When to come back to a replay that has nothing to send at the moment."""
PACE_S = 0.1
"""At the shortest between two batches that are not full: a batch costs three commits, however small it is."""

log = structlog.get_logger(__name__)


class Sender:
    """Sends batches. One thread uses it; others may look at `targets`."""

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        ports: Ports,
        clock: Clock,
        steady: Steady,
        owner: str,
        limits: Limits,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._ledger, self._control, self._ports = ledger, control, ports
        self._clock, self._steady, self._uniform = clock, steady, uniform
        self.owner, self._limits = owner, limits
        self._leases: dict[str, Lease | None] = {}
        self.targets: dict[str, Target] = {}
        self._told: dict[str, bool] = {}
        self._at_it: list[Replay] = []

    def send(self, replay: Replay, allowed: Mapping[str, Allowed]) -> float:
        """One batch of a running replay; seconds until it is worth coming back. `allowed` by target.

        Raises `Unavailable` of the control database or the store; what was claimed by then is given back, or falls in
        doubt when its claim expires.
        """
        terms = terms_of(replay)
        for hop in terms.targets:
            if hop not in self.targets:
                self.targets[hop] = Target(hop, allowed[hop].rate, self._steady, self._uniform)
        if lacking := set(terms.targets) - set(self._ports.connected.publishers):
            self._unconnected(replay, lacking)
            return IDLE_S
        if not self._alone(terms.targets):  # also where nothing can be sent: who waits knows why
            return IDLE_S
        batch = terms.batch(self._limits.batch)
        room = self._room(terms.targets, allowed, batch)
        if replay.detail != room.why:
            self._control.replays.say(replay.id, room.why)
        if not room.messages:
            return room.wait or IDLE_S
        claims = self._control.messages.claim(
            replay.id, room.messages, self.owner, self._clock(), self._limits.lease, room.retries
        )
        if not claims:
            return IDLE_S
        try:
            found = self._screened(replay, terms, claims)
            self._apply(replay, _grouped(claims, found.decided))
        except Exception:
            self._give_back(replay, claims, "not sent: the tracker could not look at it")
            raise
        for target, (messages, reason) in found.away.items():
            self.targets[target].breaker.record(0, messages, reason)
        self._hand_back(found.taken, self._in_turn(replay, found.ready))
        room = self._room(terms.targets, allowed, batch)
        return 0.0 if room.messages == batch else max(PACE_S, room.wait)

    def look(self, replays: Iterable[Replay]) -> None:
        """How much is in flight to each target by the books of `replays`, all that may have messages under way; and
        whether consumers follow what was sent."""
        self._at_it = list(replays)
        self._count()
        for target in self.targets.values():
            target.breaker.followed(behind(target.progress, self._ledger, self._control, self._clock()))

    def tell(self, replays: Collection[Replay]) -> None:
        """Write down where a circuit was opened or closed since the last time, for each replay that sends there."""
        for hop, target in self.targets.items():
            closed = target.circuit is State.closed
            if closed == self._told.get(hop, True):
                continue
            self._told[hop] = closed
            detail = {"target": hop, "state": "closed" if closed else "open"}
            log.warning("replay_circuit", **detail, reason=target.breaker.reason)
            with self._control.transaction() as books:
                for replay in replays:
                    if hop in terms_of(replay).targets:
                        about = f"replay/{replay.id}"
                        books.audit.append(self._clock(), self.owner, "circuit", about, target.breaker.reason, detail)

    def rest(self) -> None:
        """Another tracker may send to our targets from now on; also we, again."""
        for target, held in self._leases.items():
            if held is not None:
                self._control.leases.release(held)
                self._leases[target] = None

    # --- may we ---------------------------------------------------------------------------------------------------

    def _unconnected(self, replay: Replay, lacking: Collection[str]) -> None:
        """Another tracker may be able to; where none has sent anything lately, whoever waits knows why."""
        why = f"this tracker cannot send to {', '.join(sorted(lacking))}: add it to the file that TRACKER_HOPS names"
        leases, names = self._control.leases.all(), {f"replay.send/{hop}" for hop in lacking}
        if replay.detail != why and not any(one.name in names and one.expires_at > self._clock() for one in leases):
            self._control.replays.say(replay.id, why)

    def _count(self) -> None:
        now, counts = self._clock(), dict.fromkeys(self.targets, 0)
        for replay in self._at_it:
            terms = terms_of(replay)
            under_way = self._control.messages.under_way(replay.id, now - terms.follow_up)
            for hop in terms.targets:
                counts[hop] = counts.get(hop, 0) + under_way
        for hop, target in self.targets.items():
            target.in_flight = counts[hop]

    def _room(self, targets: Iterable[str], allowed: Mapping[str, Allowed], batch: int) -> Room:
        """What of a batch may be sent now; the slowest target decides."""
        rooms = [self.targets[hop].room(allowed[hop], batch) for hop in targets]
        return Room(
            min(room.messages for room in rooms),
            min(room.retries for room in rooms),
            max(room.wait for room in rooms),
            next((room.why for room in rooms if room.why), ""),
        )

    def _alone(self, targets: Iterable[str]) -> bool:
        """Whether this tracker is the one that sends to these targets now: a rate holds only for one sender. That no
        message is sent twice does not rest on this, but on claims."""
        return all(self._leased(target) for target in targets)

    def _leased(self, target: str) -> bool:
        """Renewed when half of it has passed: a write per batch would cost as much as the batch."""
        now, ttl = self._clock(), self._limits.target_lease
        held = self._leases.get(target)
        if held is None or not now <= held.expires_at - ttl // 2 <= now + ttl:
            before, held = held, self._control.leases.acquire(f"replay.send/{target}", self.owner, now, ttl)
            self._leases[target] = held
            if held is not None and (before is None or before.token != held.token):
                self._count()  # another one may have sent until now
        return held is not None

    # --- should we ------------------------------------------------------------------------------------------------

    def _screened(self, replay: Replay, terms: Terms, claims: Sequence[Claimed]) -> Fetched:
        """Which claims are sent, and what happens to the others."""
        routes = {claim.message_id: route_of(claim) for claim in claims}
        decided: dict[str, Decision] = {}
        known = ask.statuses(self._ledger, replay.flow, list(routes))
        rivals = ask.rivals(self._control, replay)
        for message_id, route in routes.items():
            decision = by_findings(ask.of_message(known[message_id], route.missing))
            if rivals and not decision:
                decision = by_rivals((replay.created_at, replay.id), self._others(rivals, replay.flow, message_id))
            if decision:
                decided[message_id] = decision
        left = [claim for claim in claims if claim.message_id not in decided]
        events = self._ledger.events_of(replay.flow, [claim.message_id for claim in left], None)
        for claim in left:
            seen = events.get(claim.message_id, ())
            if late := by_arrivals(claim, seen, routes[claim.message_id].targets, replay.id):
                decided[claim.message_id] = late
        left = [claim for claim in left if claim.message_id not in decided]
        spec = ask.last_spec_of(self._control, replay.flow)
        found = Batch(self._ports, spec, terms, events, replay.id).fetch(left, routes)
        found.decided.update(decided)
        if terms.lines:
            self._hold_back(replay, claims, found, known)
        return found

    def _hold_back(
        self, replay: Replay, claims: Sequence[Claimed], found: Fetched, known: Mapping[str, Mapping[Missing, str]]
    ) -> None:
        """What stands in a line behind a message that is missing still and not sent, is not sent either."""
        stuck = self._control.messages.stuck(replay.id, {claim.line for claim in claims if claim.line})
        known = {**known, **ask.statuses(self._ledger, replay.flow, [row.message_id for row in stuck])}
        missing = {message_id for message_id, statuses in known.items() if OPEN in statuses.values()}
        found.decided.update(held_back(claims, found.decided, stuck, missing))
        found.ready[:] = [one for one in found.ready if one.claim.message_id not in found.decided]

    def _others(
        self, rivals: Mapping[str, int], flow: str, message_id: str
    ) -> list[tuple[tuple[int, str], ReplayMessage]]:
        """The message in other replays, each with what orders it."""
        rows = self._control.messages.history(flow, message_id)
        return [((rivals[row.replay_id], row.replay_id), row) for row in rows if row.replay_id in rivals]

    def _apply(self, replay: Replay, decisions: Mapping[Decision, Sequence[Claimed]]) -> None:
        """Write down what is not sent, with the reasons, in one transaction with the audit log."""
        if not decisions:
            return
        now = self._clock()
        with self._control.transaction() as books:
            for decision, claims in decisions.items():
                _set(books, replay, decision, claims, now)
            if told := _reasons({d: len(claims) for d, claims in decisions.items() if d.state != "released"}):
                books.audit.append(now, self.owner, "screen", f"replay/{replay.id}", detail={"not_sent": told})

    # --- do it ----------------------------------------------------------------------------------------------------

    def _in_turn(self, replay: Replay, ready: Sequence[Ready]) -> set[Locator]:
        """Send these, of a line one after the other; which copies the broker confirmed. Behind one that it did not
        confirm nothing of its line is sent."""
        confirmed: set[Locator] = set()
        broken: dict[str, str] = {}
        for turn in turns(ready):
            for message_id, those in behind_broken(turn, broken).items():
                why = f"not sent: it waits for {message_id!r}, which comes before it in its line"
                self._give_back(replay, those, why)
            going = [one for one in turn if one.claim.line not in broken]
            for target in sorted({one.way.target for one in going}):
                confirmed |= self._publish(replay, target, [one for one in going if one.way.target == target])
            unconfirmed = [one for one in going if one.claim.line and one.copy.locator not in confirmed]
            broken |= {one.claim.line: one.claim.message_id for one in unconfirmed}
        return confirmed

    def _publish(self, replay: Replay, target: str, ready: Sequence[Ready]) -> set[Locator]:
        """Which of these copies the broker confirmed."""
        claims = [one.claim for one in ready]
        if self._clock() + self._limits.publish_within > claims[0].expires_at:
            self._give_back(replay, claims, "not sent: the claim had nearly run out")
            return set()
        again = sum(claim.again for claim in claims)
        self.targets[target].took(len(claims) - again, again)
        try:
            answers = self._ports.publish(target, [one.copy for one in ready])
        except Exception as error:  # noqa: BLE001 - foreign code; whatever it raises, some may have been sent
            log.warning("replay_target_unavailable", hop=target, messages=len(ready), error=str(error))
            reason = f"{target} did not answer: {said(error)}"
            answers = {one.copy.locator: Sent(one.copy.locator, reason) for one in ready}
        untried = [one.claim for one in ready if answers[one.copy.locator].untried]
        tried = [one for one in ready if not answers[one.copy.locator].untried]
        why = next((answer.error for answer in answers.values() if answer.untried), "")
        if tried:
            self._mark(replay, target, tried, answers)
        else:
            self.targets[target].breaker.record(0, len(untried), why)
        if untried:
            self._give_back(replay, untried, why)
        return {place for place, answer in answers.items() if not answer.error}

    def _mark(self, replay: Replay, target: str, ready: Sequence[Ready], answers: Mapping[Locator, Sent]) -> None:
        """What the broker confirmed is sent; all else is in doubt until the ledger has settled it."""
        now = self._clock()
        errors: dict[str, dict[str, int]] = {}
        for claim, copy, _ in ready:
            errors.setdefault(answers[copy.locator].error, {})[claim.message_id] = claim.attempt
        confirmed = [one.claim for one in ready if one.claim.message_id in errors.get("", {})]
        last = next((error for error in errors if error), "")
        self.targets[target].breaker.record(len(confirmed), len(ready) - len(confirmed), last)
        self._watch(replay, target, now, confirmed)
        detail = {"target": target, "sent": len(confirmed), "in_doubt": len(ready) - len(confirmed), "error": last}
        with self._control.transaction() as books:
            twice = books.messages.sent(replay.id, confirmed, now) if confirmed else []
            for error, attempts in errors.items():
                if error:
                    books.messages.mark(replay.id, attempts, "in_doubt", now, error=error, owner=self.owner)
            if twice:
                detail["perhaps_sent_twice"] = twice
            books.audit.append(now, self.owner, "send", f"replay/{replay.id}", replay.reason, detail)
        if twice:
            log.error("replay_perhaps_sent_twice", replay=replay.id, messages=twice)

    def _watch(self, replay: Replay, target: str, now: int, claims: Sequence[Claimed]) -> None:
        """Remember some of what was sent, to see whether it is followed: what is tried again only where one message at
        a time tells, for it did not help before."""
        if self.targets[target].circuit is State.closed:
            claims = [claim for claim in claims if not claim.again]
        if claims and self.targets[target].progress.wants(now):
            some = self.targets[target].progress.some(claims)
            missing = {claim.message_id: route_of(claim).missing for claim in some}
            spec = ask.last_spec_of(self._control, replay.flow)
            self.targets[target].progress.sent(now, spec, target, replay.id, missing)

    def _hand_back(self, taken: Mapping[Keeper, Sequence[Locator]], confirmed: Collection[Locator]) -> None:
        """Tell the sources what became of their copies, after it was written down: what a queue does not learn, because
        we are gone or it is, it gives out again, and by then the message is recovered or in doubt."""
        for keeper, places in taken.items():
            sent = [place for place in places if place in confirmed]
            try:
                self._ports.settle(keeper, sent, [place for place in places if place not in confirmed])
            except Exception as error:  # noqa: BLE001 - foreign code; nothing of ours depends on its answer
                log.warning("replay_source_not_told", source=str(keeper), messages=len(places), error=str(error))

    def _give_back(self, replay: Replay, claims: Sequence[Claimed], reason: str) -> None:
        log.warning("replay_batch_released", replay=replay.id, messages=len(claims), reason=reason)
        self._control.messages.release(replay.id, claims, self._clock(), reason)


def _grouped(claims: Sequence[Claimed], decided: Mapping[str, Decision]) -> dict[Decision, list[Claimed]]:
    groups: dict[Decision, list[Claimed]] = {}
    for claim in claims:
        if claim.message_id in decided:
            groups.setdefault(decided[claim.message_id], []).append(claim)
    return groups


def _reasons(counts: Mapping[Decision, int]) -> list[dict[str, Any]]:
    """For the audit log: the most frequent reasons, and how many others there were of each state. A reason may name the
    place of a single copy, and the log keeps all for ever; each message has its own."""
    ranked = sorted(counts.items(), key=lambda one: -one[1])
    told = [{"state": d.state, "reason": d.reason, "messages": n} for d, n in ranked[:REASONS]]
    others = Counter[str]()
    for decision, count in ranked[REASONS:]:
        others[decision.state] += count
    return told + [{"state": state, "reason": "others: see the messages", "messages": n} for state, n in others.items()]


def _set(books: Books, replay: Replay, decision: Decision, claims: Sequence[Claimed], now: int) -> None:
    attempts = {claim.message_id: claim.attempt for claim in claims}
    if decision.state == "released":
        books.messages.release(replay.id, claims, now, decision.reason)
        return
    if decision.state == "in_doubt":
        books.messages.mark(replay.id, attempts, "in_doubt", now, error=decision.reason, owner=claims[0].owner)
        return
    if decision.state in ("parked", "planned"):  # neither follows `claimed` directly
        books.messages.mark(replay.id, attempts, "failed", now, error=decision.reason, owner=claims[0].owner)
    left = books.messages.mark(replay.id, attempts, decision.state, now, error=decision.reason)
    if decision.state == "parked":
        park(books, replay.flow, [claim for claim in claims if claim.message_id not in left], now)
