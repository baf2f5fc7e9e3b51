"""What people ask of replays: plan, create, approve, pause, resume, cancel, get, list. Sending is the worker's."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from tracker.control import Control
from tracker.control.errors import Conflict, Forbidden, Invalid
from tracker.control.messages import LARGEST_BATCH, ReplayMessage
from tracker.control.paging import Page
from tracker.control.replays import Replay, Request
from tracker.control.tokens import Principal
from tracker.model.carry import Copy, Locator, Publisher, Source
from tracker.model.spec import FlowSpec
from tracker.replay import ledger as ask
from tracker.replay.clock import Clock, Steady, now_us, steady_s
from tracker.replay.copies import fault
from tracker.replay.fetching import said
from tracker.replay.kept import planned
from tracker.replay.ledger import Ledger
from tracker.replay.limits import Limits
from tracker.replay.plan import Checked, Plan, Selection, make, with_sample
from tracker.replay.policy import APPROVER, objection
from tracker.replay.ports import Ports
from tracker.replay.routes import LOG, Digests, Keeper, choices
from tracker.replay.target import Target
from tracker.replay.worker import Worker

SAMPLE = 20
"""Copies that a plan looks at, to say whether they are the right ones and how large."""
KEPT_IDS = 100
"""Ids of a selection that are kept with the replay; all that are sent are kept as its messages."""
SCOPE = "replay"

log = structlog.get_logger(__name__)


class Shown(msgspec.Struct, frozen=True):
    """A replay and its messages by state."""

    replay: Replay
    messages: dict[str, int]


class Replays:
    """Every change is in the audit log, in the same transaction."""

    def __init__(
        self,
        store: Ledger,
        control: Control,
        sources: Mapping[Keeper, Source],
        publishers: Mapping[str, Publisher],
        clock: Clock = now_us,
        *,
        insecure: bool = False,
    ) -> None:
        """`sources` by who keeps what, `publishers` by hop. `insecure`: the service has no tokens, so nobody can tell
        a second person from the first; approving stays a step of its own."""
        self._store, self._control, self._clock, self._insecure = store, control, clock, insecure
        self.ports = Ports(sources, publishers)
        self._workers: list[Worker] = []

    def worker(self, steady: Steady = steady_s, owner: str = "", limits: Limits | None = None) -> Worker:
        """A worker on the same store, books, ports and clock."""
        worker = Worker(self._store, self._control, self.ports, self._clock, steady, owner, limits)
        self._workers.append(worker)
        return worker

    def targets(self) -> dict[str, Target]:
        """What the workers of this tracker send to."""
        return {hop: target for worker in self._workers for hop, target in dict(worker.sender.targets).items()}

    # --- dry run and request --------------------------------------------------------------------------------------

    def plan(self, selection: Selection, rate: float | None = None) -> Plan:
        """What would be sent; stores and sends nothing. `rate` in messages per second, at most the flow's own.

        Raises `NotFound` for an unknown flow, `Invalid` for a rate, source or target that the flow does not allow.
        """
        return self._planned(ask.spec_of(self._control, selection.flow), selection, rate)

    def _planned(self, spec: FlowSpec, selection: Selection, rate: float | None) -> Plan:
        if rate is not None and not (math.isfinite(rate) and 0 < rate <= spec.replay.rate):
            raise Invalid(f"rate {rate:g}/s: flow {spec.flow!r} allows more than 0 and at most {spec.replay.rate:g}/s")
        wanted = ask.wanted(self._store, selection, self._control.settings.key_salt())
        ids = [one.message_id for one in wanted]
        keepers = {choice.keeper for choice in choices(spec, selection.source)}
        copies, away = self._copies(spec.flow, ids, keepers)
        connected = replace(self.ports.connected, away=away)
        past = ask.pasts(self._control, spec.flow, ids)
        left = ask.left(self._control, spec, self._clock())
        chosen = {"source": selection.source, "to": selection.to}
        keys = ask.keys(self._store, spec, ids)
        plan = make(spec, wanted, copies, connected, past, rate, left=left, keys=keys, **chosen)
        checked = self._sample(plan) if plan.items else None
        for keeper in keepers:
            with suppress(Exception):  # foreign code; what a source was not told it takes back by itself
                self.ports.settle(keeper, (), ())
        return with_sample(plan, checked) if checked else plan

    def create(self, selection: Selection, by: Principal, reason: str = "", rate: float | None = None) -> Shown:
        """A replay of what `plan` shows: approved at once where the flow's policy lets it through, else waiting for a
        second person, with the reason in `detail`.

        What was shown is kept with it (`replay.plan`), as are the messages: a later change of the spec or of the
        findings adds none.

        Raises what `plan` raises, `Forbidden`, and `Conflict` when the policy is `off` or there is nothing to send.
        """
        _allowed(by)
        spec = ask.spec_of(self._control, selection.flow)
        plan = self._planned(spec, selection, rate)
        _not_off(spec)
        if not plan.items:
            reasons = {one.detail for one in plan.refused[:3]} or {"no open finding matches"}
            raise Conflict(f"nothing can be replayed: {'; '.join(sorted(reasons))}")
        request = request_of(plan, self._without_key(selection), by.name, reason)
        self._control.replays.create(request, self._clock())
        for start in range(0, len(plan.items), LARGEST_BATCH):
            rows = [planned(one, start + n) for n, one in enumerate(plan.items[start : start + LARGEST_BATCH])]
            self._control.messages.add(request.id, rows, self._clock())
        self._requested(request, plan, by, spec)
        return self.get(request.id)

    def _without_key(self, selection: Selection) -> Selection:
        """As it may be kept: a key may name a person, and the audit log forgets nothing."""
        if selection.key is None:
            return selection
        hashed = ask.key_hash(selection.key, self._control.settings.key_salt())
        return msgspec.structs.replace(selection, key=f"hash {hashed:016x}")

    def _requested(self, request: Request, plan: Plan, by: Principal, spec: FlowSpec) -> None:
        """Only now can it be sent: everything before this left it `planned`, which no worker touches. The budget is
        asked once more: others may have used it since."""
        detail = {"selection": request.selection, "messages": len(plan.items), "refused": len(plan.refused)}
        now = self._clock()
        with self._control.transaction() as books:
            books.replays.hold(plan.flow)
            why = objection(spec.replay, plan.kinds, len(plan.items), ask.left(books, spec, now))
            status = "awaiting_approval" if why else "approved"
            books.replays.move(request.id, status, now, by=APPROVER, detail=why)
            books.audit.append(now, by.name, "request", f"replay/{request.id}", request.reason, detail)

    # --- decisions ------------------------------------------------------------------------------------------------

    def approve(self, replay_id: str, by: Principal, why: str = "") -> Shown:
        """A second person says yes. Raises `Forbidden` for the one who asked, `NotFound`, `Conflict`, also where the
        flow allows no replay any more."""
        _allowed(by)
        replay = self._control.replays.get(replay_id)
        if replay.status not in ("awaiting_approval", "approved"):
            raise Conflict(f"replay {replay_id!r} is {replay.status}: it does not wait for approval")
        if by.name == replay.requested_by and not self._insecure:
            raise Forbidden(f"{by.name} asked for {replay_id!r}: somebody else with scope {SCOPE!r} must approve it")
        _not_off(ask.spec_of(self._control, replay.flow))
        return self._move(replay_id, "approved", "approve", by, why)

    def pause(self, replay_id: str, by: Principal, why: str = "") -> Shown:
        """Send no further batch; what was sent is still followed up."""
        return self._move(replay_id, "paused", "pause", by, why)

    def resume(self, replay_id: str, by: Principal, why: str = "") -> Shown:
        """Go on after `pause`. One that waits for its approval cannot be resumed: `Conflict`."""
        status = self._control.replays.get(replay_id).status
        if status not in ("paused", "running"):
            raise Conflict(f"replay {replay_id!r} is {status}: only a paused one can be resumed")
        return self._move(replay_id, "running", "resume", by, why)

    def cancel(self, replay_id: str, by: Principal, why: str = "") -> Shown:
        """Send nothing more, for good. What was sent is still followed up; what was not stays an open finding."""
        return self._move(replay_id, "cancelled", "cancel", by, why)

    def _move(self, replay_id: str, status: str, what: str, by: Principal, why: str) -> Shown:
        _allowed(by)
        now = self._clock()
        with self._control.transaction() as books:
            before = books.replays.get(replay_id).status
            books.replays.move(replay_id, status, now, by=by.name, detail=why)
            if before != status:
                books.audit.append(now, by.name, what, f"replay/{replay_id}", why, {"was": before})
        return self.get(replay_id)

    # --- questions ------------------------------------------------------------------------------------------------

    def get(self, replay_id: str) -> Shown:
        """Raises `NotFound`."""
        return Shown(self._control.replays.get(replay_id), self._control.messages.counts(replay_id))

    def list(
        self, *, status: Collection[str] = (), flow: str | None = None, incident: str | None = None,
        cursor: str = "", limit: int = 100,
    ) -> Page[Replay]:  # fmt: skip
        """Newest first."""
        return self._control.replays.page(status=status, flow=flow, incident_id=incident, cursor=cursor, limit=limit)

    def messages(
        self, replay_id: str, *, state: str | None = None, cursor: str = "", limit: int = 100
    ) -> Page[ReplayMessage]:
        """The messages of a replay in the order of sending, of one state or all. Raises `NotFound`."""
        self._control.replays.get(replay_id)
        return self._control.messages.page(replay_id, state=state, cursor=cursor, limit=limit)

    def held(self, flow: str, ids: Sequence[str]) -> tuple[set[str], bool]:
        """(those of these messages of which a source of the flow says that it holds a copy, whether all that may hold
        one answered). Only those are asked that know by themselves what they hold: what a log holds was observed.
        Queues are not asked, for they would hand the messages out. Raises `NotFound` for an unknown flow."""
        held, everywhere = set[str](), True
        for keeper in {choice.keeper for choice in choices(ask.spec_of(self._control, flow))}:
            if self.ports.hands_out(keeper) or (keeper.kind != LOG and not self.ports.knows_itself(keeper)):
                everywhere = False
            elif self.ports.knows_itself(keeper):
                try:
                    held.update(self.ports.find(keeper, flow, ids))
                except Exception as error:  # noqa: BLE001 - foreign code, and the answer says so
                    log.warning("replay_source_unavailable", source=str(keeper), error=str(error))
                    everywhere = False
        return held, everywhere

    # --- a look at some copies ------------------------------------------------------------------------------------

    def _copies(
        self, flow: str, ids: Sequence[str], keepers: Collection[Keeper]
    ) -> tuple[dict[Keeper, dict[str, Locator]], dict[Keeper, str]]:
        """Where each of them holds these messages, logs by what was observed, others by what they say; and why some do
        not answer: a plan can do without them."""
        logs = {keeper.hop for keeper in keepers if keeper.kind == LOG and not self.ports.knows_itself(keeper)}
        found, away = ask.places(self._store, flow, ids, logs), {}
        for keeper in keepers:
            if self.ports.knows_itself(keeper):
                try:
                    found[keeper] = self.ports.find(keeper, flow, ids)
                except Exception as error:  # noqa: BLE001 - foreign code, and the plan says so
                    log.warning("replay_source_unavailable", source=str(keeper), error=str(error))
                    away[keeper] = said(error)
        return found, away

    def _sample(self, plan: Plan) -> Checked | None:
        """Fetch a few copies and compare them; None when a source does not answer now."""
        chosen = random.sample(plan.items, min(SAMPLE, len(plan.items)))
        events = self._store.events_of(plan.flow, [one.message_id for one in chosen], None)
        digests = Digests(ask.spec_of(self._control, plan.flow))
        sizes: list[int] = []
        wrong: dict[str, int] = {}
        for keeper in sorted({one.way.keeper for one in chosen}):
            mine = [one for one in chosen if one.way.keeper == keeper]
            places = [one.way.locator for one in mine]
            try:
                found = self.ports.fetch(keeper, places)
                self.ports.settle(keeper, (), places)
            except Exception:  # noqa: BLE001 - foreign code, and only a look: the plan says that nothing was checked
                return None
            for one in mine:
                copy, place = found[one.way.locator], (one.way.locator.partition, one.way.locator.offset)
                right = digests.right(events.get(one.message_id, ()), keeper, place)
                reason = fault(copy, right, plan.identity)
                if reason or not isinstance(copy, Copy):
                    wrong[reason] = wrong.get(reason, 0) + 1
                else:
                    sizes.append(len(copy.value))
        return Checked(len(chosen), tuple(sizes), wrong)


def request_of(plan: Plan, selection: Selection, by: str, reason: str) -> Request:
    """What is kept of a replay that somebody asks for, under a new id."""
    chosen: dict[str, Any] = msgspec.to_builtins(selection)
    chosen["message_ids"] = list(selection.message_ids[:KEPT_IDS])
    return Request(
        id=f"r-{secrets.token_hex(6)}",
        flow=plan.flow,
        selection=chosen,
        plan=plan.summary(),
        mode=plan.mode,
        rate=plan.rate,
        requested_by=by,
        reason=reason,
        incident_id=selection.incident or "",
    )


def _not_off(spec: FlowSpec) -> None:
    if spec.replay.mode == "off":
        raise Conflict(f"flow {spec.flow!r} allows no replay: its spec says `replay: {{mode: off}}`")


def _allowed(by: Principal) -> None:
    if not by.may(SCOPE):
        raise Forbidden(f"{by.name} has no scope {SCOPE!r}")
