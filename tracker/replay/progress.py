"""Whether consumers follow what is sent to a target: by a few messages of what was sent, and by the ledger.

A log, or a queue, is taken in order: what was sent later is seen later. So where one message was recovered, consumers
have come past all that was sent before it. How far they are *behind* is the age of the oldest batch past which they
have not come: it is small and level where they keep up, and grows a second by the second where they stand still
(docs/adr/0038).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.replay.routes import Missing, due

Item = TypeVar("Item")

APART_S = 1.0
"""Batches that are looked at lie so far apart, at least."""
SOME = 5
"""Messages of a batch that are looked at: one that is poison does not speak for the others."""
SLACK = 15 * SECOND
"""Beyond the deadline of a flow, before anybody is called behind: what it takes until something is seen and judged."""
MOST = 64
"""Batches that are remembered; where more are sent and not followed, every second one is forgotten."""


class Probe(msgspec.Struct, frozen=True):
    """A few messages of a batch that was confirmed at `at` (µs). `missing`: what they were sent for; `due`: after how
    many µs the flow wants it to be there."""

    at: int
    flow: str
    replay_id: str
    ids: tuple[str, ...]
    missing: frozenset[Missing]
    due: int


class Progress:
    """The batches that nobody has been seen to come past. One thread uses it. Times in µs of the wall clock."""

    def __init__(self) -> None:
        self.probes: list[Probe] = []

    def wants(self, at: int) -> bool:
        """Whether a batch of now is one to remember."""
        return not self.probes or not 0 <= at - self.probes[-1].at < APART_S * SECOND

    def some(self, batch: Sequence[Item]) -> list[Item]:
        """A few of a batch."""
        return random.sample(batch, min(SOME, len(batch)))

    def sent(
        self, at: int, spec: FlowSpec, target: str, replay_id: str, messages: Mapping[str, Collection[Missing]]
    ) -> None:
        """A batch was confirmed: some of its `messages`, with what is missing of each."""
        missing = frozenset(one for several in messages.values() for one in several)
        self.probes.append(Probe(at, spec.flow, replay_id, tuple(messages), missing, due(spec, target, missing)))
        if len(self.probes) > MOST:
            self.probes = [self.probes[0], *self.probes[1::2]]  # the oldest says how far behind

    def overdue(self, now: int) -> list[Probe]:
        """Those that are later than their flow allows, oldest first."""
        return [probe for probe in self.probes if now > probe.at + probe.due + SLACK]

    def forget(self, probe: Probe) -> None:
        """It says nothing: nothing of it is missing."""
        self.probes.remove(probe)

    def seen(self, states: Mapping[tuple[str, str], str]) -> None:
        """What became of the messages, by (replay, message): consumers came past every batch before one that was
        recovered. One of which all were withdrawn, refused or unknown says nothing, and is forgotten."""
        through = [n for n, probe in enumerate(self.probes) if "recovered" in _states(probe, states)]
        left = self.probes[through[-1] + 1 :] if through else self.probes
        self.probes = [probe for probe in left if _states(probe, states)]


def _states(probe: Probe, states: Mapping[tuple[str, str], str]) -> set[str]:
    found = {states.get((probe.replay_id, one), "") for one in probe.ids}
    return found - {"refused", ""}
