"""What the policy does about one incident: which of its messages it may send again now, and one replay of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from tracker.control import Control
from tracker.control.incidents import Incident
from tracker.control.leases import Lease
from tracker.control.messages import Passage
from tracker.control.replays import ENDED, Replay
from tracker.model.spec import FlowSpec
from tracker.model.units import say
from tracker.replay import ledger as ask
from tracker.replay.breaker import State
from tracker.replay.clock import Clock
from tracker.replay.kept import planned, route_of
from tracker.replay.ledger import Ledger
from tracker.replay.plan import Item, Plan, Selection
from tracker.replay.policy import APPROVER, POLICY, unwatched
from tracker.replay.routes import Missing
from tracker.replay.service import Replays, request_of
from tracker.store.findings import OPEN, Finding

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Case:
    """What is to be decided of one incident: its findings that no replay was asked for, by message, oldest first."""

    spec: FlowSpec
    version: int
    incident: Incident
    fresh: Mapping[str, Sequence[Finding]]
    full: bool
    """Whether there are as many as one look takes."""

    @property
    def opened_at(self) -> int:
        """When the oldest of them was opened."""
        return min(finding.opened_at for found in self.fresh.values() for finding in found)


class Mender:
    """Circuits are those of the workers that `replays` made."""

    def __init__(self, ledger: Ledger, control: Control, replays: Replays, clock: Clock) -> None:
        self._ledger, self._control, self._replays = ledger, control, replays
        self._clock = clock

    def mend(self, case: Case, lease: Lease) -> Counter[str]:
        """Ask for a replay of what may be sent now; how many messages were left, by reason. Raises `ControlError`,
        `TrackerError`; `LeaseLost` where another tracker does it now."""
        left = Counter[str]()
        if not case.fresh or self._gathers(case):
            return left
        if trouble := self._trouble(case):
            return Counter({trouble: len(case.fresh)})
        ids = self._allowed(case, left)
        room = ask.left(self._control, case.spec, self._clock())
        if len(ids) > room:
            left["budget"] += len(ids) - room
        if not ids[:room]:
            return left
        chosen = Selection(flow=case.spec.flow, incident=case.incident.id, message_ids=tuple(ids[:room]))
        plan = self._replays.plan(chosen)
        left.update(one.reason for one in plan.refused)
        plan = replace(plan, items=tuple(self._safe(case, plan, left)))
        if plan.items:
            self._ask(case, lease, plan, chosen)
        return left

    def _gathers(self, case: Case) -> bool:
        """Whether the policy asked for this incident less than `after` ago: what trickles in goes together."""
        since = self._clock() - case.spec.replay.after
        return not case.full and any(one.created_at > since for one in self._asked(case))

    def _trouble(self, case: Case) -> str:
        """Why what the policy asked for in this incident has to go on first; empty: it has not."""
        for one in self._asked(case):
            if one.status == "paused":
                return "paused"
            if one.status not in ENDED and self._control.messages.counts(one.id)["in_doubt"]:
                return "in_doubt"
        return ""

    def _asked(self, case: Case) -> list[Replay]:
        page = self._control.replays.page(flow=case.spec.flow, incident_id=case.incident.id)
        return [one for one in page.items if one.requested_by == POLICY]

    def _allowed(self, case: Case, left: Counter[str]) -> list[str]:
        """Without the messages that are missing elsewhere in a way that the policy may not mend: whoever had them there
        would see them again."""
        beyond: set[str] = set()
        for some in ask.chunks(list(case.fresh)):
            limit = len(some) * ask.MOST_FINDINGS
            found = self._ledger.findings(case.spec.flow, status=OPEN, message_ids=some, limit=limit)
            beyond.update(one.message_id for one in found if not one.cause and one.kind not in case.spec.replay.kinds)
        if beyond:
            left["kind"] += len(beyond)
        return [one for one in case.fresh if one not in beyond]

    def _safe(self, case: Case, plan: Plan, left: Counter[str]) -> list[Item]:
        """Without what would be sent into the dark, or to a target that is left alone."""
        coverage, known, now = self._ledger.coverage(case.spec), self._replays.targets(), self._clock()
        alike: dict[tuple[frozenset[str], tuple[Missing, ...]], list[Item]] = {}
        for item in plan.items:
            alike.setdefault((frozenset(way.target for way in item.ways), item.missing), []).append(item)
        safe: list[Item] = []
        for (targets, missing), items in alike.items():
            if unwatched(coverage, targets, missing, case.opened_at, now):
                left["blind"] += len(items)
            elif any(one in known and known[one].circuit is not State.closed for one in targets):
                left["circuit"] += len(items)
            else:
                safe += items
        return safe

    def _ask(self, case: Case, lease: Lease, plan: Plan, chosen: Selection) -> None:
        """All of it in one transaction, in which everything is looked at once more that another may have changed."""
        flow, policy, now = case.spec.flow, case.spec.replay, self._clock()
        with self._control.transaction() as books:
            books.leases.check(lease, now)
            books.replays.hold(flow)
            if books.flows.get(flow).version != case.version:
                return
            room = ask.left(books, case.spec, now)
            past = books.messages.passages(flow, [item.message_id for item in plan.items])
            free = [item for item in plan.items if self._free(case, item, past)][:room]
            if not free:
                return
            plan = replace(plan, items=tuple(free), objection="", left=room)
            reason = (
                f"{case.incident.kind} at {case.incident.hop} for longer than {say(policy.after)}, not back by itself; "
                f"{len(free)} of {room} that the budget of {policy.budget} had left"
            )
            request = request_of(plan, chosen, POLICY, reason)
            books.replays.create(request, now)
            books.messages.add(request.id, [planned(item, n) for n, item in enumerate(free)], now)
            books.replays.move(request.id, "approved", now, by=APPROVER)
            detail = {"selection": request.selection, "messages": len(free), "refused": len(plan.refused)}
            books.audit.append(now, POLICY, "request", f"replay/{request.id}", reason, detail)
        log.info("replay_policy_asked", flow=flow, incident=case.incident.id, replay=request.id, messages=len(free))

    def _free(self, case: Case, item: Item, past: Mapping[str, Sequence[Passage]]) -> bool:
        """No replay has it now, and none was asked for since it was found."""
        mine, found = past.get(item.message_id, ()), case.fresh[item.message_id]
        return not any(map(ask.busy, mine)) and not all(handled(mine, finding) for finding in found)


def handled(past: Sequence[Passage], finding: Finding) -> bool:
    """Whether a replay was asked for to mend this finding since it was opened. What became of that is for people to
    judge; only one that was cut off while it was made, and so sent nothing, does not count."""
    return any(
        one.created_at >= finding.opened_at
        and one.status != "failed"
        and Missing(*finding.key) in route_of(one.message).missing
        for one in past
    )
