"""The `timeline` blocks of docs/verdicts.md: what was observed of a message, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Stage
from tracker.model.judge import judge
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Judgement

ORIGIN = 1_800_000_000 * SECOND
_NAMES = {"replay": "replay_id"}


@dataclass
class Example:
    """One block. Times in µs since 1970."""

    events: list[Event] = field(default_factory=list)
    blind: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    now: int = 0
    verdict: str = ""
    flags: frozenset[str] = frozenset()
    missing: list[str] = field(default_factory=list)
    held_by: list[str] = field(default_factory=list)

    def judged(self, spec: FlowSpec) -> Judgement:
        """What the reference judge says; all is vouched for but what the block calls blind."""
        places = [(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop]
        whole = (ORIGIN - 86_400 * SECOND, self.now)
        covers = {place: [_cover(whole, self.blind.get(place))] for place in places}
        return judge(spec, self.events, Coverage(covers), self.now)


def _cover(whole: tuple[int, int], hole: tuple[int, int] | None) -> SourceCover:
    if hole is None:
        return SourceCover("s", (whole,))
    return SourceCover("s", ((whole[0], hole[0]), (hole[1], max(hole[1], whole[1]))))


def read(block: str) -> Example:
    """The block as an example. AssertionError names a line that means nothing."""
    example = Example()
    for line in block.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "at":
            example.now, example.verdict = _time(words[1]), words[2]
            example.flags = frozenset(word for word in words[3:] if word != "+")
        elif words[0] == "blind":
            example.blind[words[1], words[2]] = (_time(words[3]), _time(words[5]))
        elif words[0] == "missing":
            example.missing.append(" ".join(words[1:]))
        elif words[:2] == ["held", "by"]:
            example.held_by = words[2:]
        else:
            example.events.append(_event(words, line))
    return example


def _event(words: list[str], line: str) -> Event:
    assert len(words) >= 3, line
    more: dict[str, Any] = {}
    for name, _, value in (word.partition("=") for word in words[3:]):
        more[_NAMES.get(name, name)] = int(value) if name == "offset" else value
    at = _time(words[0])
    return Event(flow="orders", message_id="m-1", hop=words[1], stage=Stage(words[2]), observed_at=at, received_at=at,
                 **more)  # fmt: skip


def _time(text: str) -> int:
    found = re.fullmatch(r"(-?)(\d+):(\d+(?:\.\d+)?)", text)
    assert found, text
    span = (int(found[2]) * 60 + float(found[3])) * SECOND
    return ORIGIN + round(-span if found[1] else span)


def told(spec: FlowSpec, judgement: Judgement) -> Mapping[str, Any]:
    """A judgement in the words of a block."""
    return {
        "verdict": judgement.verdict.value,
        "flags": frozenset(flag.value for flag in judgement.flags),
        "missing": [f"{spec.checkpoints[s.index].name} {s.status.value}" for s in judgement.missing],
        "held_by": list(judgement.held_by),
    }
