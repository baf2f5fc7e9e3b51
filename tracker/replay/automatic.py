"""The policy at work: asks for replays by itself where a flow's mode is `auto`, as far as the flow lets it.

    findings of the flow's `kinds`, open for longer than `after` ── no replay since ── a way, watched, circuit closed
        ── what is left of the `budget` ──one transaction──> an approved replay of one incident

One tracker at a time does it, by a lease that the transaction checks. Nothing is remembered but in the databases:
killed at any moment, the next one finds either the whole replay or none, and looks at the same findings again. What it
leaves is counted, and told once in the incident's timeline.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from tracker.control import Control
from tracker.control.errors import ControlError, LeaseLost
from tracker.control.incidents import Incident
from tracker.control.leases import Lease
from tracker.model.errors import TrackerError
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.replay import ledger as ask
from tracker.replay.clock import Clock, Steady, now_us, steady_s
from tracker.replay.ledger import Ledger
from tracker.replay.mending import Case, Mender, handled
from tracker.replay.policy import POLICY
from tracker.replay.service import Replays
from tracker.store.findings import Finding

LEASE = "replay.policy"
LEASE_TTL = 30 * SECOND
PAGE = 1000
"""Findings that are looked at together, so at most so many messages in one replay."""
STEP_S = 1.0
FULL_S = 0.1
"""Before the next page of findings, when there are more."""
REST_S = 2.0
LEFT_REST_S = 10.0
LONGEST_REST_S = 60.0
"""After all open findings were looked at the next time comes after a rest, the longer the more pages they were; where
some were left it is no use to look again at once."""

Left = dict[tuple[str, ...], float]
Room = dict[tuple[str, ...], float]
log = structlog.get_logger(__name__)


@dataclass
class Sweep:
    """How far we are with the open findings of one flow. Lost with the process, which costs a look more."""

    place: tuple[int, str] = (0, "")
    pages: int = 0
    left: Counter[str] = field(default_factory=Counter)
    rests_until: float = 0.0
    room: int = 0
    """What the budget had left when we looked."""


class Automatic:
    """`shown` is told what was left, by (flow, reason), and what budgets still have, by flow, at the end of each step.
    Circuits are those of the workers that `replays` made."""

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        replays: Replays,
        shown: Callable[[Left, Room], None] = lambda left, room: None,
        clock: Clock = now_us,
        steady: Steady = steady_s,
        owner: str = "",
    ) -> None:
        self._ledger, self._control, self._clock, self._steady = ledger, control, clock, steady
        self._mender = Mender(ledger, control, replays, clock)
        self._shown = shown
        self.owner = owner or f"policy/{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        self._specs: dict[str, tuple[int, FlowSpec]] = {}
        self._sweeps: dict[str, Sweep] = {}
        self._left: dict[str, Counter[str]] = {}
        self._told: set[tuple[str, str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Steps until `stop` is set."""
        wait = 0.0
        while not stop.wait(wait):
            try:
                wait = self.step()
            except (ControlError, TrackerError) as error:
                log.warning("replay_policy_waiting", reason=str(error))
                wait = STEP_S
        if self._lease is not None:
            with suppress(ControlError):  # it runs out by itself
                self._control.leases.release(self._lease)

    def step(self) -> float:
        """One look at each flow whose mode is `auto`; seconds until the next. Raises `ControlError`."""
        lease = self._leased()
        specs = {flow: known for flow, known in self._known().items() if known[1].replay.mode == "auto"}
        if lease is None:
            specs = {}  # another tracker does it, and shows it
        for gone in (self._sweeps.keys() | self._left.keys()) - specs.keys():
            self._sweeps.pop(gone, None)
            self._left.pop(gone, None)
        for version, spec in specs.values():
            sweep = self._sweeps.setdefault(spec.flow, Sweep())
            if lease is None or self._steady() < sweep.rests_until:
                continue
            try:
                self._look(spec, version, lease, sweep)
            except LeaseLost:
                self._lease = lease = None
            except (ControlError, TrackerError) as error:
                log.warning("replay_policy_waiting", flow=spec.flow, reason=str(error))
        self._shown(
            {(flow, why): count for flow, left in self._left.items() for why, count in left.items()},
            {(flow,): sweep.room for flow, sweep in self._sweeps.items()},
        )
        return FULL_S if any(sweep.pages for sweep in self._sweeps.values()) else STEP_S

    def _leased(self) -> Lease | None:
        """Renewed when half of it has passed: nobody has to write every second."""
        now, held = self._clock(), self._lease
        if held is None or not now <= held.expires_at - LEASE_TTL // 2 <= now + LEASE_TTL:
            self._lease = self._control.leases.acquire(LEASE, self.owner, now, LEASE_TTL)
        return self._lease

    def _known(self) -> dict[str, tuple[int, FlowSpec]]:
        """Version and spec of each flow as it is now; read again only where it changed."""
        self._specs = {
            row.flow: known
            if (known := self._specs.get(row.flow)) and known[0] == row.version
            else (row.version, load_spec(row.text))
            for row in self._control.flows.all()
        }
        return self._specs

    # --- the findings of a flow -----------------------------------------------------------------------------------

    def _look(self, spec: FlowSpec, version: int, lease: Lease, sweep: Sweep) -> None:
        """The next page of findings that could be mended."""
        policy, now = spec.replay, self._clock()
        sweep.room = ask.left(self._control, spec, now)
        incidents = {one.id: one for one in self._open(spec.flow)}
        if not sweep.pages:
            for one in incidents.values():
                if one.kind not in policy.kinds and one.open and one.first_finding_at <= now - policy.after:
                    self._leave(sweep, one, "kind", one.open)
        found: list[Finding] = []
        if any(one.kind in policy.kinds for one in incidents.values()):
            found = self._ledger.oldest_open(spec.flow, policy.kinds, now - policy.after, sweep.place, PAGE)
        full = len(found) == PAGE
        for incident_id, findings in _by_incident(found).items():
            if incident_id in incidents:  # it is written after its findings
                case = Case(spec, version, incidents[incident_id], self._fresh(spec.flow, findings), full)
                for reason, count in self._mender.mend(case, lease).items():
                    self._leave(sweep, case.incident, reason, count)
        sweep.pages += 1
        if full:
            sweep.place = (found[-1].opened_at, found[-1].finding_id)
        else:
            rest = min(LONGEST_REST_S, max(REST_S * sweep.pages, LEFT_REST_S if sweep.left else 0.0))
            self._left[spec.flow] = sweep.left
            self._sweeps[spec.flow] = Sweep(rests_until=self._steady() + rest, room=sweep.room)

    def _open(self, flow: str) -> Iterable[Incident]:
        cursor = ""
        while True:
            page = self._control.incidents.page(status=("open", "acknowledged"), flow=flow, cursor=cursor, limit=1000)
            yield from page.items
            cursor = page.cursor
            if not cursor:
                return

    def _fresh(self, flow: str, findings: Sequence[Finding]) -> dict[str, list[Finding]]:
        """Those of which no replay was asked for since they were opened, by message."""
        past = self._control.messages.passages(flow, [one.message_id for one in findings])
        fresh: dict[str, list[Finding]] = {}
        for one in findings:
            if not handled(past.get(one.message_id, ()), one):
                fresh.setdefault(one.message_id, []).append(one)
        return fresh

    # --- what is left ---------------------------------------------------------------------------------------------

    def _leave(self, sweep: Sweep, incident: Incident, reason: str, count: int) -> None:
        """Count it, and tell it once in the incident's timeline."""
        sweep.left[reason] += count
        words = LEFT.get(reason, REFUSED).format(reason=reason)
        said = (incident.id, words)
        if said in self._told:
            return
        look = f"tracker replay {incident.flow} --incident {incident.id}"
        self._control.incidents.tell(incident.id, self._clock(), POLICY, f"{words}; look at: {look}")
        self._told.add(said)


LEFT: Mapping[str, str] = {
    "kind": "leaves to a person what is missing in a way that is not among the flow's `kinds` of replays",
    "budget": "has used up the flow's `budget`: the rest waits until there is some again, or for a person",
    "blind": "waits: where it would arrive, or where it is missing, is not watched at the moment",
    "circuit": "waits: the target does not take messages at the moment",
    "in_doubt": "waits: of what it sent before in this incident it is not known yet whether it arrived",
    "paused": "waits: somebody paused what it asked for in this incident",
    "busy": "waits: another replay has some of these messages",
}
"""What the timeline says of each reason to leave findings alone."""
REFUSED = "leaves to a person what cannot be sent ({reason})"


def _by_incident(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        groups.setdefault(one.incident, []).append(one)
    return groups
