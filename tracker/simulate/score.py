"""What was found against what is true: precision and recall for every verdict and flag, by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from tracker.simulate.truth import FLAGS, VERDICTS, Truth
from tracker.simulate.watchers import Watcher
from tracker.simulate.wire import ident
from tracker.simulate.world import NEVER, World

SHOWN = 20
"""So many of what differs are named."""


@dataclass
class Tally:
    """Messages that have something in truth, in what was found, and in both."""

    truth: int = 0
    found: int = 0
    both: int = 0

    @property
    def precision(self) -> float:
        """Of what was found, how much is true."""
        return self.both / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Of what is true, how much was found."""
        return self.both / self.truth if self.truth else 1.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.truth + other.truth, self.found + other.found, self.both + other.both)

    def shown(self) -> dict[str, Any]:
        """For machines."""
        ratios = {"precision": round(self.precision, 6), "recall": round(self.recall, 6)}
        return {"truth": self.truth, "found": self.found, **ratios}


@dataclass
class Score:
    """How one scenario went. `wrong`: messages of which verdict or flags differ, the first of them.
    `astray`: how often one differed at a look in mid-stream."""

    scenario: str
    seed: int
    messages: int
    tallies: dict[str, Tally]
    wrong: list[dict[str, Any]]
    delays: list[float] = field(default_factory=list)
    undetected: int = 0
    withdrawn: int = 0
    astray: int = 0
    conserved: bool = True
    observations: int = 0
    seconds: float = 0.0

    @property
    def perfect(self) -> bool:
        """Nothing differs, nobody was missed, and the books balanced every time."""
        exact = all(t.truth == t.found == t.both for t in self.tallies.values())
        return exact and self.conserved and not self.undetected and not self.astray

    @property
    def blind_share(self) -> float:
        """How many of the messages are blind."""
        return self.tallies["blind"].truth / max(sum(self.tallies[v].truth for v in VERDICTS), 1)

    def shown(self) -> dict[str, Any]:
        """For machines."""
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "messages": self.messages,
            "perfect": self.perfect,
            "conserved": self.conserved,
            "observations": self.observations,
            "verdicts": {v: self.tallies[v].shown() for v in VERDICTS if self.tallies[v] != Tally()},
            "flags": {f: self.tallies[f].shown() for f in FLAGS if self.tallies[f] != Tally()},
            "blind_share": round(self.blind_share, 4),
            "detection_delay_s": quantiles(self.delays),
            "undetected": self.undetected,
            "astray": self.astray,
            "withdrawn": self.withdrawn,
            "seconds": self.seconds,
            "wrong": self.wrong,
        }


def quantiles(delays: Sequence[float]) -> dict[str, float] | None:
    """p50, p99 and the worst, of some seconds; None of nothing."""
    if not delays:
        return None
    p50, p99 = np.quantile(delays, [0.5, 0.99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(delays), 3)}


def score(
    world: World,
    true: Truth,
    found: Mapping[str, Mapping[str, Any]],
    findings: Sequence[Mapping[str, Any]],
    watching: Mapping[str, Sequence[Watcher]],
) -> Score:
    """Hold what the service said of every message against the truth."""
    result = Score(world.scenario.name, world.seed, world.count, {name: Tally() for name in (*VERDICTS, *FLAGS)}, [])
    for _, wanted, raised, mine, told in _compared(world, true, found):
        _count(result.tallies, wanted, mine)
        for flag in FLAGS:
            _count(result.tallies, flag if flag in raised else None, flag if flag in told else None)
    result.wrong = differences(world, true, found)[:SHOWN]
    result.withdrawn = sum(f["status"] == "withdrawn" for f in findings)
    _detection(result, [ident(world, m) for m in range(world.count)], true, findings)
    return result


def differences(world: World, true: Truth, found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages of which verdict or flags are not what is true, with both."""
    return [{"message_id": name, "true": [wanted, sorted(raised)], "found": [mine, sorted(told)]}
            for name, wanted, raised, mine, told in _compared(world, true, found)
            if (wanted, raised) != (mine, told)]  # fmt: skip


def _compared(
    world: World, true: Truth, found: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str | None, set[str], str | None, set[str]]]:
    """(id, true verdict, true flags, verdict found, flags found) of each message that was heard of, in truth or not."""
    flags = {name: true.flags[name].tolist() for name in FLAGS}
    heard, verdicts = true.heard.tolist(), true.verdict.tolist()
    strangers = dict(found)
    for m in range(world.count):
        said = strangers.pop(name := ident(world, m), None)
        wanted = str(verdicts[m]) if heard[m] else None
        raised = {flag for flag in FLAGS if flags[flag][m]} if wanted else set()
        yield name, wanted, raised, said["verdict"] if said else None, set(said["flags"]) if said else set()
    for name, said in strangers.items():
        yield name, None, set(), said["verdict"], set(said["flags"])


def _count(tallies: dict[str, Tally], wanted: str | None, mine: str | None) -> None:
    if wanted:
        tallies[wanted] += Tally(truth=1)
    if mine:
        tallies[mine] += Tally(found=1)
    if wanted and wanted == mine:
        tallies[wanted] += Tally(both=1)


def _detection(result: Score, ids: Sequence[str], true: Truth, findings: Sequence[Mapping[str, Any]]) -> None:
    """From the moment a missing message could first be known to its first finding."""
    opened: dict[str, int] = {}
    for one in findings:
        at = _micros(one["opened_at"])
        opened[one["message_id"]] = min(opened.get(one["message_id"], at), at)
    [due] = np.nonzero((true.known < NEVER) & true.heard)
    for m in due.tolist():
        if ids[m] in opened:
            result.delays.append(max(opened[ids[m]] - int(true.known[m]), 0) / 1e6)
        else:
            result.undetected += 1


def _micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
