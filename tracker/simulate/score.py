"""What was found against what is true: precision and recall for every verdict, flag and finding, by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from tracker.simulate.truth import FLAGS, VERDICTS, Truth
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
    """How one scenario went. `findings`: the open ones, by message, place and kind. `wrong`: messages of which verdict,
    flags or findings differ, the first of them. `astray`: how often one differed at a look in mid-stream. `lied_to`: a
    collector vouched for what it did not tell, so that findings may have to be withdrawn."""

    scenario: str
    seed: int
    messages: int
    tallies: dict[str, Tally]
    wrong: list[dict[str, Any]]
    findings: Tally = field(default_factory=Tally)
    delays: list[float] = field(default_factory=list)
    withdrawn: int = 0
    superseded: int = 0
    lied_to: bool = False
    astray: int = 0
    conserved: bool = True
    observations: int = 0
    seconds: float = 0.0

    @property
    def perfect(self) -> bool:
        """Nothing differs, nothing was said in error, and the books balanced every time."""
        exact = all(t.truth == t.found == t.both for t in (*self.tallies.values(), self.findings))
        return exact and self.conserved and not self.astray and (self.lied_to or not self.withdrawn)

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
            "findings": self.findings.shown(),
            "blind_share": round(self.blind_share, 4),
            "detection_delay_s": quantiles(self.delays),
            "astray": self.astray,
            "withdrawn": self.withdrawn,
            "superseded": self.superseded,
            "seconds": self.seconds,
            "wrong": self.wrong,
        }


def quantiles(delays: Sequence[float]) -> dict[str, float] | None:
    """p50, p99 and the worst, of some seconds; None of nothing."""
    if not delays:
        return None
    p50, p99 = np.quantile(delays, [0.5, 0.99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(delays), 3)}


@dataclass(frozen=True)
class Said:
    """What is said of one message: verdict (None: never heard of), flags, and open findings as (hop, stage, kind)."""

    verdict: str | None = None
    flags: frozenset[str] = frozenset()
    findings: frozenset[tuple[str, str, str]] = frozenset()

    def shown(self) -> list[Any]:
        """For people: what there is of it."""
        return [self.verdict, sorted(self.flags), sorted(" ".join(one) for one in self.findings)]


def score(world: World, true: Truth, found: Mapping[str, Said], findings: Sequence[Mapping[str, Any]]) -> Score:
    """Hold what the service said of every message against the truth. `findings`: all of them, whatever their status."""
    result = Score(world.scenario.name, world.seed, world.count, {name: Tally() for name in (*VERDICTS, *FLAGS)}, [])
    for _, wanted, mine in _compared(world, true, found):
        _count(result.tallies, wanted.verdict, mine.verdict)
        for flag in FLAGS:
            _count(result.tallies, flag if flag in wanted.flags else None, flag if flag in mine.flags else None)
        both = wanted.findings & mine.findings
        result.findings += Tally(len(wanted.findings), len(mine.findings), len(both))
    result.wrong = differences(world, true, found)[:SHOWN]
    result.withdrawn = sum(f["status"] == "withdrawn" for f in findings)
    result.superseded = sum(f["status"] == "superseded" for f in findings)
    result.lied_to = bool(world.faults("swallow"))
    result.delays = _delays([ident(world, m) for m in range(world.count)], true, findings)
    return result


def differences(world: World, true: Truth, found: Mapping[str, Said]) -> list[dict[str, Any]]:
    """Messages of which something else is said than what is true, with both."""
    return [{"message_id": name, "true": wanted.shown(), "found": mine.shown()}
            for name, wanted, mine in _compared(world, true, found) if wanted != mine]  # fmt: skip


def _compared(world: World, true: Truth, found: Mapping[str, Said]) -> Iterator[tuple[str, Said, Said]]:
    """(id, what is true, what was said) of each message that was heard of, in truth or not."""
    flags = {name: true.flags[name].tolist() for name in FLAGS}
    findings = {key: messages.tolist() for key, messages in true.findings.items()}
    heard, verdicts = true.heard.tolist(), true.verdict.tolist()
    strangers = dict(found)
    for m in range(world.count):
        said = strangers.pop(name := ident(world, m), Said())
        wanted = Said(
            str(verdicts[m]),
            frozenset(flag for flag in FLAGS if flags[flag][m]),
            frozenset(key for key, messages in findings.items() if messages[m]),
        )
        yield name, wanted if heard[m] else Said(), said
    for name, said in strangers.items():
        yield name, Said(), said


def _count(tallies: dict[str, Tally], wanted: str | None, mine: str | None) -> None:
    if wanted:
        tallies[wanted] += Tally(truth=1)
    if mine:
        tallies[mine] += Tally(found=1)
    if wanted and wanted == mine:
        tallies[wanted] += Tally(both=1)


def _delays(ids: Sequence[str], true: Truth, findings: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds from the moment an overdue checkpoint could first be known to its first finding, of whatever kind."""
    opened: dict[tuple[str, str, str], int] = {}
    for one in findings:
        if one["kind"] not in ("divergent", "dead_lettered"):
            key, at = (one["message_id"], one["hop"], one["stage"]), _micros(one["opened_at"])
            opened[key] = min(opened.get(key, at), at)
    delays = []
    for place, known in true.known.items():
        [due] = np.nonzero((known < NEVER) & true.heard)
        first = [(m, opened[ids[m], *place]) for m in due.tolist() if (ids[m], *place) in opened]
        delays += [max(at - int(known[m]), 0) / 1e6 for m, at in first]
    return delays


def _micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
