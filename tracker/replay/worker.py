"""The loop that sends and follows up. As many trackers may run one as like; the control database keeps them apart."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog

from tracker.control import Control
from tracker.control.errors import Conflict, ControlError, NotFound
from tracker.control.replays import Replay
from tracker.model.errors import TrackerError
from tracker.replay import ledger as ask
from tracker.replay.clock import Clock, Steady, now_us, steady_s
from tracker.replay.follower import Follower
from tracker.replay.kept import terms_of
from tracker.replay.ledger import Ledger
from tracker.replay.limits import Limits
from tracker.replay.ports import Ports
from tracker.replay.sender import IDLE_S, Sender
from tracker.replay.target import Allowed

OFF = "the flow's spec says `replay: {mode: off}` by now: nothing is sent until that changes"
LEAST_WAIT_S = 0.01
SWEEP_S = 60.0
"""Between two looks at every replay that was cancelled or failed."""
TROUBLE_WAIT_S = 2.0
"""Before the next round when the store or the control database did not answer."""

log = structlog.get_logger(__name__)


class Worker:
    """Sends what is approved and follows it up until stopped.

    `owner` names this process in claims and in the audit log; it must differ between starts, and does by itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        ports: Ports,
        clock: Clock = now_us,
        steady: Steady = steady_s,
        owner: str = "",
        limits: Limits | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._control, self._clock, self._steady = control, clock, steady
        self._limits = limits or Limits()
        self.owner = owner or f"tracker/{secrets.token_hex(4)}"
        self.sender = Sender(ledger, control, ports, clock, steady, self.owner, self._limits, uniform)
        self.follower = Follower(ledger, control, clock, self.owner, self._limits, uniform)
        self._looked: float | None = None
        self._open: set[str] = set()
        self._settled: set[str] = set()
        self._swept: float | None = None
        self._round = 0

    def run(self, stop: threading.Event) -> None:
        """Rounds until `stop` is set; the batch under way is finished first."""
        while not stop.is_set():
            try:
                wait = self.step()
            except (ControlError, TrackerError) as error:
                log.warning("replay_waiting", reason=str(error))
                wait = TROUBLE_WAIT_S
            stop.wait(max(LEAST_WAIT_S, wait))
        with suppress(ControlError):  # they run out by themselves
            self.sender.rest()

    def step(self) -> float:
        """One round: a batch of every running replay and, when it is time, a look at what was sent. Gives the seconds
        until it is worth coming back."""
        if self._look_is_due():
            self._look()
        running = [one for one in map(self._started, self._every("approved", "running")) if self._permitted(one)]
        allowed = _allowed(running)
        # Another one goes first each time: those that share a target share its rate.
        self._round += 1
        first = self._round % len(running) if running else 0
        turns = [replay for replay in running[first:] + running[:first] if replay.status == "running"]
        wait = min([IDLE_S, *(self.sender.send(replay, allowed) for replay in turns)])
        self.sender.tell(turns)
        return wait

    # --- sending --------------------------------------------------------------------------------------------------

    def _started(self, replay: Replay) -> Replay:
        if replay.status == "running":
            return replay
        now = self._clock()
        try:
            with self._control.transaction() as books:
                moved = books.replays.move(replay.id, "running", now, by=self.owner)
                books.audit.append(now, self.owner, "start", f"replay/{replay.id}")
        except Conflict:  # paused or cancelled meanwhile
            return self._control.replays.get(replay.id)
        return moved

    def _permitted(self, replay: Replay) -> bool:
        """Whether its flow, as it is now, lets anything be sent; where not, whoever waits knows why."""
        if replay.status != "running":
            return False
        try:
            mode = ask.spec_of(self._control, replay.flow).replay.mode
        except NotFound:
            self._fail(replay, "its flow was deleted: nothing more is sent, and nobody sees what became of what was")
            return False
        if mode == "off" and replay.detail != OFF:
            self._control.replays.say(replay.id, OFF)
        return mode != "off"

    def _fail(self, replay: Replay, why: str) -> None:
        now = self._clock()
        with suppress(Conflict), self._control.transaction() as books:  # cancelled meanwhile
            books.replays.move(replay.id, "failed", now, by=self.owner, detail=why)
            books.audit.append(now, self.owner, "fail", f"replay/{replay.id}", why)

    # --- looking --------------------------------------------------------------------------------------------------

    def _look_is_due(self) -> bool:
        now = self._steady()
        if self._looked is not None and now - self._looked < self._limits.look_s:
            return False
        self._looked = now
        return True

    def _look(self) -> None:
        doubted = self._control.messages.expire(self._clock())
        if doubted:
            log.warning("replay_claims_in_doubt", messages=doubted)
        living = list(self._every("running", "paused"))
        for replay in living:
            self.follower.look(replay)
        ended = self._ended({replay.id for replay in living})
        self._settled |= {replay.id for replay in ended if self.follower.look(replay)}
        self._open = {replay.id for replay in [*living, *ended]} - self._settled
        self.sender.look([*living, *ended])
        for replay in self._every("planned"):
            self._interrupted(replay)

    def _ended(self, living: set[str]) -> list[Replay]:
        """Replays that were cancelled or failed with messages under way: those that were alive when we last looked, or
        not settled by then; and, every `SWEEP_S`, all of which it is not known that they are settled."""
        now = self._steady()
        if self._swept is None or now - self._swept >= SWEEP_S:
            self._swept = now
            found = list(self._every("cancelled", "failed"))
        else:
            found = [self._control.replays.get(one) for one in sorted(self._open - living)]
        return [one for one in found if one.status in ("cancelled", "failed") and one.id not in self._settled]

    def _interrupted(self, replay: Replay) -> None:
        """A replay whose making was cut off is never sent: nobody saw the whole of it."""
        if self._clock() - replay.created_at >= self._limits.creation:
            self._fail(replay, "the tracker was stopped while it was made; nothing was sent: ask again")

    def _every(self, *statuses: str) -> Iterator[Replay]:
        cursor = ""
        while True:
            page = self._control.replays.page(status=statuses, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if not cursor:
                return


def _allowed(running: Sequence[Replay]) -> dict[str, Allowed]:
    """What each target may get: the least that any replay to it was allowed."""
    found: dict[str, Allowed] = {}
    for replay in running:
        terms = terms_of(replay)
        for target in terms.targets:
            rate, in_flight = found.get(target, (replay.rate, terms.in_flight))
            found[target] = Allowed(min(replay.rate, rate), min(terms.in_flight, in_flight))
    return found
