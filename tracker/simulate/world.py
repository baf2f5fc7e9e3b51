"""What happens: messages pass their places one after another, and faults take, delay, double or spoil them.

Everything is arrays over messages; times are µs of the one true clock. `NEVER` stands for what does not happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tracker.simulate.route import Place, route_of
from tracker.simulate.scenario import Fault, Scenario

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NEVER = np.int64((1 << 62) - 1)
T0 = 1_736_928_000_000_000
"""Where simulated time begins, unless it is real: 2025-01-15T08:00:00Z, epoch µs. In the past, so that a service
started on a kept ledger finds all deadlines over."""


@dataclass
class Chunk:
    """Things of one kind that happened: `message` by number, `time` true, all at one hop and stage.

    `delivery` is a number per row (0: not said). `silent` rows are never reported although their collector vouches.
    """

    hop: str
    stage: str
    message: Ints
    time: Ints
    node: Ints
    digest: Ints
    delivery: Ints
    silent: Bools
    reason: str = ""
    replay: str = ""
    origin: Ints | None = None


class World:
    """The messages of a scenario and all that happened to them.

    `at`: by place, when each message passed it; `chunks`: all that happened; `ended`: by place, who never gets there.
    """

    def __init__(self, scenario: Scenario, seed: int, begin: int = T0) -> None:
        self.scenario, self.seed, self.begin = scenario, seed, begin
        self.route = route_of(scenario.flow)
        self.random = np.random.default_rng([seed, *scenario.name.encode()])
        self.origin = _origins(scenario, self.random) + begin
        self.partition = self.random.integers(0, max(scenario.partitions, 1), self.count)
        self.digest = self.random.integers(1, 1 << 60, self.count)
        self.at: dict[int, Ints] = {}
        self.chunks: list[Chunk] = []
        self.ended = {p.index: np.zeros(self.count, dtype=bool) for p in self.route.places}
        for place in self.route.places:
            self._pass(place)
        for fault in self.faults("replay"):
            self._replay(fault)

    @property
    def count(self) -> int:
        """How many messages there are."""
        return len(self.origin)

    def faults(self, *kinds: str) -> list[Fault]:
        """The scenario's faults of these kinds."""
        return [fault for fault in self.scenario.faults if fault.kind in kinds]

    def nodes(self, hop: str) -> int:
        """How many processes a hop has."""
        return self.scenario.nodes.get(hop, 1)

    def chosen(self, fault: Fault, times: Ints) -> Bools:
        """Whom a fault hits: a share of those that come by while it lasts."""
        start = self.begin + fault.start
        end = NEVER if fault.lasts is None else start + fault.lasts
        there = (times < NEVER) & (times >= start) & (times < end)
        return there & (self.random.random(len(times)) < fault.share)

    # --- one place ------------------------------------------------------------------------------------------------

    def _pass(self, place: Place) -> None:
        hop_number = self.random.integers(0, len(place.hops), self.count)
        if place.after:
            ready: Ints = np.max([self.at[a] for a in place.after], axis=0)
        else:
            ready = self.origin
        passing = _Passing(self._take(place, ready), hop_number, self.digest.copy(), np.zeros(self.count, dtype=bool))
        for fault in self.scenario.faults:
            if fault.place and fault.kind in _AT_A_PLACE and self.route.named(fault.place) is place:
                _AT_A_PLACE[fault.kind](self, place, fault, passing)
        self.at[place.index] = passing.time
        copies = max(place.quorum, 1)
        for copy in range(copies):
            after = self.random.integers(1_000, 200_000, self.count) if copy else 0
            gone = (passing.time == NEVER) | (passing.short & (copy == copies - 1))
            self._say(place, passing, np.where(gone, NEVER, passing.time + after), copy)

    def _take(self, place: Place, ready: Ints) -> Ints:
        low, high = self.scenario.pace.get(place.hops[0], (1_000, max((place.within or 1_000_000) // 5, 2_000)))
        took = self.random.integers(low, max(high, low + 1), self.count)
        return np.where((ready < NEVER) & ~self.ended[place.index], ready + took, NEVER)

    def _say(self, place: Place, passing: _Passing, time: Ints, copy: int) -> None:
        for n, hop in enumerate(place.hops):
            [mine] = np.nonzero((time < NEVER) & (passing.hop == n))
            if len(mine):
                node = (mine + copy) % max(self.nodes(hop), place.quorum)
                self.chunks.append(Chunk(hop, place.stage, mine, time[mine], node, passing.digest[mine],
                                         np.zeros(len(mine), dtype=np.int64), passing.silent[mine]))  # fmt: skip

    def say(
        self, place: Place, stage: str, message: Ints, time: Ints, delivery: int = 0, reason: str = "", replay: str = ""
    ) -> None:
        """Something beside the passage of a checkpoint happened at the first hop of its place, if to anybody."""
        if not len(message):
            return
        hop, count = place.hops[0], len(message)
        loud = np.zeros(count, dtype=bool)
        node = message % self.nodes(hop)
        said = np.full(count, delivery)
        self.chunks.append(Chunk(hop, stage, message, time, node, self.digest[message], said, loud, reason, replay))

    def _replay(self, fault: Fault) -> None:
        """Somebody sends again what did not get past a place: it passes that place, and all behind it, by a replay."""
        place = self.route.named(fault.place)
        ready = np.max([self.at[a] for a in place.after], axis=0) if place.after else self.origin
        stuck = (self.at[place.index] == NEVER) & (ready < NEVER) & (self.random.random(self.count) < fault.share)
        sent = self.begin + fault.start + self.random.integers(0, 1_000_000, self.count)
        again = {place.index: np.where(stuck, sent, NEVER)}
        for behind in (place, *self.route.descendants(place.index)):
            if behind is not place:
                before = [again.get(a, self.at[a]) for a in behind.after]
                ready = np.where(stuck, np.max(before, axis=0), NEVER)
                again[behind.index] = np.where(ready < NEVER, ready + 5_000, NEVER)
            [mine] = np.nonzero(again[behind.index] < NEVER)
            self.say(behind, behind.stage, mine, again[behind.index][mine], 9, replay="r-1")


@dataclass
class _Passing:
    """What becomes of everybody at one place, while faults have their say. `short`: one copy too few is made."""

    time: Ints
    hop: Ints
    digest: Ints
    silent: Bools
    short: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.short = np.zeros(len(self.time), dtype=bool)


def _origins(scenario: Scenario, random: np.random.Generator) -> Ints:
    """When messages are made, µs since the beginning: evenly, or in bursts with quiet in between."""
    share = np.sort(random.random(scenario.messages))
    if scenario.bursts > 1:
        burst = np.floor(share * scenario.bursts)
        share = (burst + (share * scenario.bursts - burst) * 0.02) / scenario.bursts
    return np.asarray(3 * scenario.report_every + share * scenario.over, dtype=np.int64)


# --- faults at a place --------------------------------------------------------------------------------------------


def _vanish(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    passing.time[world.chosen(fault, passing.time)] = NEVER


def _discard(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    """What the hop held is dropped, and it says so; the place is passed, and nothing behind it."""
    hit = world.chosen(fault, passing.time)
    [mine] = np.nonzero(hit)
    world.say(place, "drop", mine, passing.time[mine] + 1_000, reason=fault.reason or "expired")
    _end_behind(world, place, hit)


def _dead_letter(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    """Tried some times, then parked: the place is never passed."""
    [mine] = np.nonzero(world.chosen(fault, passing.time))
    for n in range(fault.times):
        world.say(place, "nack", mine, passing.time[mine] + n * 100_000, 20 + n)
    world.say(
        place, "dead_letter", mine, passing.time[mine] + fault.times * 100_000, 1, reason=fault.reason or "poison"
    )
    passing.time[mine] = NEVER


def _duplicate(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    [mine] = np.nonzero(world.chosen(fault, passing.time))
    for n in range(fault.times):
        world.say(place, place.stage, mine, passing.time[mine] + (n + 1) * 50_000, 2 + n)


def _delay(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    passing.time[world.chosen(fault, passing.time)] += fault.by


def _outage(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    """Nothing passes while it lasts; afterwards all of it does, within a second."""
    hit = world.chosen(fault, passing.time)
    end = world.begin + fault.start + (fault.lasts or 0)
    passing.time[hit] = end + world.random.integers(0, 1_000_000, int(hit.sum()))


def _loss(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    """The broker said that it had them, and lost them: the place is passed, and nothing behind it."""
    _end_behind(world, place, world.chosen(fault, passing.time))


def _corrupt(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    passing.digest[world.chosen(fault, passing.time)] ^= 1 << 40


def _reuse(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    """The id is given to another message, long after."""
    [mine] = np.nonzero(world.chosen(fault, passing.time))
    if len(mine):
        world.say(place, place.stage, mine, passing.time[mine] + fault.by, 7)
        world.chunks[-1].origin = world.origin[mine] + fault.by


def _swallow(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    passing.silent |= world.chosen(fault, passing.time)


def _lost_copy(world: World, place: Place, fault: Fault, passing: _Passing) -> None:
    passing.short |= world.chosen(fault, passing.time)


def _end_behind(world: World, place: Place, hit: Bools) -> None:
    """These messages go no further than this place."""
    for behind in world.route.descendants(place.index):
        world.ended[behind.index] |= hit


_AT_A_PLACE: dict[str, Callable[[World, Place, Fault, _Passing], None]] = {
    "drop": _vanish, "discard": _discard, "dead_letter": _dead_letter, "duplicate": _duplicate, "delay": _delay,
    "outage": _outage, "loss": _loss, "corrupt": _corrupt, "reorder": _delay, "reuse": _reuse, "swallow": _swallow,
    "lost_copy": _lost_copy,
}  # fmt: skip
