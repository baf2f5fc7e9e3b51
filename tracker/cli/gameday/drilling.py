"""One drill on the real path: canaries before a fault, hit by it, and after it; and what the tracker says of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from collectors.clock import now_micros
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.cli.gameday.ledger import Ledger
from tracker.cli.gameday.road import Act, Road
from tracker.gameday.faults import Expected, Fault
from tracker.gameday.outcome import FINE, Facts, Finding, Times, own, report, timed

READY_S = 60.0
"""How long collectors have to begin to vouch."""
SLACK_S = 30.0
"""Beyond deadlines and `within`, before what has to come counts as not coming."""
LOOK_S = 0.3
Say = Callable[[str], None]


class Stopped(Exception):
    """The drill cannot go on; the text says why."""


class Drill:
    """One drill, from its first canary to its report. `until`: when it has to be over (`time.monotonic`)."""

    def __init__(
        self, road: Road, ledger: Ledger, run: str, wanted: Expected, count: int, rate: float, until: float, say: Say
    ) -> None:
        self._road, self._ledger, self._run, self._expected, self._say = road, ledger, run, wanted, say
        self._third, self._step, self._until = max(1, count // 3), 1 / rate, until
        self._most = count
        self._made: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._doubted: set[str] = set()
        self._numbered = 0
        self._hit: list[str] = []
        self._blind: set[str] = set()
        self._unacked: set[str] = set()
        self._times = Times()
        self._replay = ""

    def run(self) -> dict[str, Any]:
        """The report. What goes wrong on the way stands in it."""
        stopped = ""
        try:
            self._ready()
            self._say(f"{self._third} canaries before the fault")
            self._first()
            self._send(self._third - 1)
            self._wait("every canary before the fault is delivered", lambda: self._all_fine(self._sent))
            self._fault()
            self._say(f"{self._third} canaries after it")
            self._send(self._third)
            self._wait("the tracker finds them", self._found)
            self._recover()
            self._wait("every canary comes to rest", self._rested)
        except (Stopped, CommandError, KeyboardInterrupt) as error:
            stopped = str(error) or "interrupted"
            self._say(f"stopped: {stopped}")
        facts = self._facts()
        timed(self._times, own(self._expected, facts.findings))
        return report(self._expected, facts, self._times, self._road.lane.flow, self._run, self._replay, stopped)

    # -- the steps -----------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        self._wait("somebody vouches for every checkpoint", lambda: not self._ledger.unwatched(), READY_S,
                   lambda: f"nobody vouches for {', '.join(self._ledger.unwatched())}")  # fmt: skip
        for hop in self._road.consumers:
            others = self._ledger.vouching().get(f"{hop}:ack", set()) - self._road.collectors
            if others:
                raise Stopped(
                    f"{', '.join(others)} consumes at {hop}, too, and would ack what is hit: stop it meanwhile"
                )

    def _first(self) -> None:
        """One canary, which shows whether they end where they should."""
        self._send(1)
        self._wait("the first canary is delivered", lambda: self._all_fine(self._sent) or bool(self._ledger.strayed()))
        if wrong := self._ledger.strayed():
            raise Stopped(wrong)

    def _fault(self) -> None:
        fault = self._expected.fault
        self._hit = self._names(self._third) if fault is not Fault.manual else []
        self._say(f"the fault: {self._expected.done}")
        self._times.fault_began = now_micros()
        {
            Fault.skip: lambda: self._marked("skip"),
            Fault.withhold: self._withhold,
            Fault.drop: lambda: self._send_each(self._hit, sent=False),
            Fault.duplicate: self._twice,
            Fault.corrupt: self._corrupt,
            Fault.blind: self._blinded,
            Fault.manual: self._manual,
        }[fault]()
        self._times.fault_ended = now_micros()

    def _marked(self, act: Act) -> None:
        self._road.consumers[self._expected.hop].mark(self._hit, act)
        self._send_each(self._hit)

    def _withhold(self) -> None:
        self._marked("hold")
        try:
            self._wait("the tracker finds them", self._found)
        finally:
            self._road.consumers[self._expected.hop].release()

    def _twice(self) -> None:
        self._send_each(self._hit)
        self._send_each(self._hit, told=False)

    def _corrupt(self) -> None:
        self._send_each(self._hit)
        self._wait("they are delivered as they are", lambda: self._all_fine(self._hit))
        self._times.fault_began = now_micros()
        self._send_each(self._hit, told=False, other=" and something else", hop=self._expected.hop)

    def _blinded(self) -> None:
        consumer = self._road.consumers[self._expected.hop]
        consumer.mute()
        try:
            self._send_each(self._hit)
            self._wait("they are shown as not known", self._all_blind)
            self._times.shown_blind = now_micros()
        finally:
            consumer.unmute()

    def _manual(self) -> None:
        """Canaries go on, at the rate, until the operator says that it is over."""
        over, began = threading.Event(), threading.Event()

        def marks() -> None:
            if sys.stdin.readline():
                self._times.fault_began = now_micros()
                began.set()
                self._say("the fault has begun; press Enter when it is over")
            sys.stdin.readline()
            over.set()

        self._say("make the fault, and press Enter when it has begun")
        threading.Thread(target=marks, daemon=True).start()
        while not over.is_set():
            self._in_time()
            if len(self._hit) < self._most or not began.is_set():
                self._hit += self._names(1)
                self._send_each(self._hit[-1:])
            else:
                over.wait(self._step)
        if not began.is_set():
            raise Stopped("standard input ended before anybody said that the fault had begun")

    def _recover(self) -> None:
        mine = [one for one in self._findings() if one.status == "open"]
        if self._expected.fault is Fault.manual:
            acked = {name for consumer in self._road.consumers.values() for name in consumer.acked}
            self._unacked = set(self._sent) - acked if self._road.consumers else set()
        if not mine:
            return
        if self._expected.by == "replay":
            self._say(f"{len(mine)} are named; asking for a replay")
            self._times.replay_asked = now_micros()
            got = self._ledger.replay(sorted({one.message_id for one in mine}), f"drill {self._run}")
            self._replay = got["id"]
        elif self._expected.by == "producer":
            self._say(f"{len(mine)} are named; the producer sends them again")
            again = [name for name in self._hit if name in {one.message_id for one in mine}]
            hop = self._expected.hop if self._expected.fault is Fault.corrupt else ""
            self._send_each(again, told=False, hop=hop)

    # -- sending -------------------------------------------------------------------------------------------------

    def _names(self, count: int) -> list[str]:
        self._numbered += count
        return [f"{self._run}{number:08d}" for number in range(self._numbered - count, self._numbered)]

    def _send(self, count: int) -> None:
        self._send_each(self._names(count))

    def _send_each(self, names: Sequence[str], **how: Any) -> None:
        for name in names:
            self._in_time()
            began = time.monotonic()
            made = self._made.setdefault(name, now_micros())  # also when it is sent again: it was produced once
            error = self._road.send(name, at=made, **how)
            if not error:
                self._sent.setdefault(name, made)
            elif self._expected.fault is not Fault.manual:
                raise Stopped(f"a canary was not sent: {error}")
            elif name not in self._sent:
                self._doubted.add(name)
            time.sleep(max(0.0, self._step - (time.monotonic() - began)))

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(
        self, what: str, met: Callable[[], bool], patience: float | None = None, why: Callable[[], str] | None = None
    ) -> None:
        """Raises Stopped when it does not come; by default within all deadlines, `within`, and some slack."""
        if patience is None:
            patience = self._road.lane.longest + self._expected.within + SLACK_S
        deadline = time.monotonic() + patience
        while not self._answered(met):
            self._in_time()
            if time.monotonic() > deadline:
                if self._expected.fault is Fault.manual and what != "somebody vouches for every checkpoint":
                    return  # what an operator did may last: the report says what is not as it should be
                raise Stopped(
                    f"waited {patience:.0f} s and still not: {what}{f': {why()}' if why else ''}{self._consuming()}"
                )
            time.sleep(LOOK_S)

    def _answered(self, met: Callable[[], bool]) -> bool:
        """A tracker that is away for a moment, or is what is being drilled, ends nothing."""
        try:
            return met()
        except CommandError as error:
            if error.code != UNAVAILABLE:
                raise
            return False

    def _in_time(self) -> None:
        if time.monotonic() > self._until:
            raise Stopped("it has taken longer than --longest allows")

    def _consuming(self) -> str:
        wrong = {hop: one.error for hop, one in self._road.consumers.items() if one.error}
        return "".join(f"; consumer {hop}: {error}" for hop, error in wrong.items())

    def _all_fine(self, names: Sequence[str] | dict[str, int]) -> bool:
        states = self._ledger.states()
        return all(states.get(name, ("", ()))[0] in FINE for name in names)

    def _all_blind(self) -> bool:
        states = self._ledger.states()
        self._blind |= {name for name, (verdict, _) in states.items() if verdict == "blind"}
        return self._blind >= set(self._hit)

    def _found(self) -> bool:
        """All that has to be found was; where nothing has to be, every deadline has passed. A manual fault: every
        canary is acked, or past its last deadline."""
        if self._expected.kind:
            return {one.message_id for one in self._mine()} >= set(self._hit)
        states = self._ledger.states()
        if self._expected.fault is Fault.manual:
            self._blind |= {name for name, (verdict, _) in states.items() if verdict == "blind"}
        return all(name in states and states[name][0] != "in_flight" for name in self._sent)

    def _rested(self) -> bool:
        if self._replay or self._expected.kind:
            mine = self._mine()
            if any(one.status == "open" for one in mine):
                return False
        return self._all_fine(self._sent)

    # -- what the tracker says -----------------------------------------------------------------------------------

    def _findings(self) -> list[Finding]:
        return self._ledger.findings(10 * len(self._sent) + 1000)

    def _mine(self) -> list[Finding]:
        return own(self._expected, self._findings())

    def _facts(self) -> Facts:
        """As it is now; what the tracker cannot be asked for any more is absent."""
        try:
            findings, states, strayed = tuple(self._findings()), self._ledger.states(), self._ledger.strayed()
        except CommandError as error:
            findings, states, strayed = (), {}, str(error)
        return Facts(
            confirmed=tuple(self._sent),
            hit=frozenset(self._hit),
            findings=findings,
            states=states,
            blind=frozenset(self._blind),
            late=frozenset(self._late()),
            unacked=frozenset(self._unacked),
            doubted=frozenset(self._doubted),
            consumed=frozenset(self._road.consumers),
            strayed=strayed,
        )

    def _late(self) -> Iterator[str]:
        """Acked when a deadline may have passed."""
        shortest = min((c.within for c in self._road.lane.spec.checkpoints if c.within), default=0)
        for consumer in self._road.consumers.values():
            for name, acked in consumer.acked.items():
                if acked - self._sent.get(name, acked) > 0.8 * shortest:
                    yield name
