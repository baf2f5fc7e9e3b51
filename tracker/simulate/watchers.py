"""Who watches: a collector per process of each hop, what it reports when, and what it vouches for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.simulate.scenario import Fault
from tracker.simulate.world import NEVER, Bools, Chunk, Ints, World


@dataclass(frozen=True)
class Watcher:
    """One collector: at `receipt[n]` the tracker gets its report, which tells, and vouches for, all up to `cut[n]`.

    `epoch[n]` grows when it lost what lay since its last report; `sequence[n]` counts within an epoch.
    """

    hop: str
    node: int
    receipt: Ints
    cut: Ints
    epoch: Ints
    sequence: Ints
    resends: bool = False

    @property
    def name(self) -> str:
        """The collector's name, which is its source's, too."""
        return f"{self.hop}-{self.node}"

    def told(self, times: Ints) -> tuple[Ints, Ints]:
        """(receipt, report) of what happened at these times; NEVER and -1 where nobody ever hears of it."""
        found = np.searchsorted(self.cut, times, "left")
        inside = found < len(self.cut)
        report = np.where(inside, found, 0)
        before = np.maximum(report - 1, 0)
        kept = inside & ((report == 0) | (self.epoch[report] == self.epoch[before]))
        return np.where(kept, self.receipt[report], NEVER), np.where(kept, report, -1)

    def spans(self, now: int) -> list[tuple[int, int]]:
        """The intervals that it vouches for at `now`."""
        told = self.receipt <= now
        spans = []
        for epoch in np.unique(self.epoch[told]):
            mine = self.cut[told & (self.epoch == epoch)]
            spans.append((int(mine[0]), int(mine[-1])))
        return spans

    def covers(self, start: Ints, end: Ints, now: int) -> Bools:
        """Does one interval contain all of [start, end]?"""
        held = np.zeros(len(start), dtype=bool)
        for low, high in self.spans(now):
            held |= (start >= low) & (end <= high)
        return held

    def known(self, moment: Ints) -> Ints:
        """When the tracker gets the first report that vouches up to `moment`; NEVER if none does."""
        found = np.searchsorted(self.cut, moment, "left")
        inside = found < len(self.cut)
        return np.where(inside, self.receipt[np.where(inside, found, 0)], NEVER)


def watchers(world: World) -> dict[str, list[Watcher]]:
    """By hop, a collector for each node; hops that nobody watches are left out."""
    made = {}
    for hop in world.route.hops:
        if hop not in world.scenario.unwatched:
            copies = max(p.quorum for p in world.route.places if hop in p.hops)
            made[hop] = [_watcher(world, hop, node) for node in range(max(world.nodes(hop), copies))]
    return made


def _watcher(world: World, hop: str, node: int) -> Watcher:
    every, end = world.scenario.report_every, world.begin + world.scenario.until
    phase = int(world.random.integers(0, every))
    receipt = np.arange(world.begin + phase, end + 1, every, dtype=np.int64)
    lag, epoch = np.zeros(len(receipt), dtype=np.int64), np.ones(len(receipt), dtype=np.int64)
    alive = np.ones(len(receipt), dtype=bool)
    mine = [f for f in world.faults("collector_crash", "collector_silence", "collector_lag", "collector_resend")
            if f.place in ("", hop) and f.node in (None, node)]  # fmt: skip
    for fault in mine:
        during = _during(world, fault, receipt)
        if fault.kind == "collector_lag":
            lag = np.where(during, fault.by, lag)
        elif fault.kind != "collector_resend":
            alive &= ~during
            if fault.kind == "collector_silence":
                epoch += receipt >= world.begin + fault.start
    receipt, lag, epoch = receipt[alive], lag[alive], epoch[alive]
    first = np.searchsorted(epoch, epoch, "left")
    cut = np.maximum.accumulate(receipt - lag)
    resends = any(f.kind == "collector_resend" for f in mine)
    return Watcher(hop, node, receipt, cut, epoch, np.arange(len(epoch)) - first + 1, resends)


def _during(world: World, fault: Fault, times: Ints) -> Bools:
    start = world.begin + fault.start
    return (times >= start) & (times < (NEVER if fault.lasts is None else start + fault.lasts))


def receipts(watching: dict[str, list[Watcher]], chunk: Chunk) -> tuple[Ints, Ints]:
    """(receipt, report) of every row of a chunk."""
    receipt = np.full(len(chunk.message), NEVER)
    report = np.full(len(chunk.message), -1)
    for watcher in watching.get(chunk.hop, ()):
        mine = (chunk.node == watcher.node) & ~chunk.silent
        receipt[mine], report[mine] = watcher.told(chunk.time[mine])
    return receipt, report
