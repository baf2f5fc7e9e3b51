"""Copies for a batch of claimed messages: from the first source of each that holds a right one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from tracker.control.messages import Claimed
from tracker.model.carry import Copy, Locator
from tracker.model.carry import Missing as Gone
from tracker.model.event import Event
from tracker.model.spec import FlowSpec
from tracker.replay.copies import dressed
from tracker.replay.kept import Route, Terms
from tracker.replay.ports import Ports
from tracker.replay.routes import Digests, Keeper, Way
from tracker.replay.screen import Decision, by_copy

log = structlog.get_logger(__name__)


class Ready(NamedTuple):
    """A claimed message with the copy to send, dressed, and the way it goes."""

    claim: Claimed
    copy: Copy
    way: Way


class Fetched(NamedTuple):
    """What can be sent, and what happens to the others. `away`: targets that wait for a source that did not answer,
    with how many messages and why. `taken`: copies that their sources handed out, by source."""

    ready: list[Ready]
    decided: dict[str, Decision]
    away: dict[str, tuple[int, str]]
    taken: dict[Keeper, list[Locator]]


class Batch:
    """The copies of one batch, found step by step: all first ways, then the second of those without, and so on."""

    def __init__(
        self, ports: Ports, spec: FlowSpec, terms: Terms, events: Mapping[str, Sequence[Event]], replay_id: str
    ) -> None:
        self._ports, self._digests, self._terms = ports, Digests(spec), terms
        self._events, self._replay_id = events, replay_id
        self._found = Fetched([], {}, {}, defaultdict(list))
        self._faults: dict[str, list[str]] = defaultdict(list)
        self._waits: dict[str, tuple[Way, str]] = {}

    def fetch(self, claims: Sequence[Claimed], routes: Mapping[str, Route]) -> Fetched:
        """Every claim is ready or decided afterwards. Where a source does not answer the next one is asked; a message
        that none could give is released, for a source that is away may have it."""
        left, rank = list(claims), 0
        while left := [claim for claim in left if rank < len(routes[claim.message_id].ways)]:
            left = self._step([(claim, routes[claim.message_id].ways[rank]) for claim in left])
            rank += 1
        settled = {one.claim.message_id for one in self._found.ready} | self._found.decided.keys()
        for claim in claims:
            if claim.message_id not in settled:
                self._found.decided[claim.message_id] = self._without(claim.message_id)
        return self._found

    def _step(self, ways: Sequence[tuple[Claimed, Way]]) -> list[Claimed]:
        """One way for each; those for whom it led nowhere."""
        nowhere: list[Claimed] = []
        for keeper in sorted({way.keeper for _, way in ways}):
            mine = [(claim, way) for claim, way in ways if way.keeper == keeper]
            try:
                answers = self._ports.fetch(keeper, [way.locator for _, way in mine])
            except Exception as error:  # noqa: BLE001 - foreign code; whatever it raises, nothing was sent
                reason = f"{keeper} cannot be read: {said(error)}"
                log.warning("replay_source_unavailable", source=str(keeper), messages=len(mine), error=str(error))
                self._waits.update({claim.message_id: (way, reason) for claim, way in mine})
                nowhere += [claim for claim, _ in mine]
                continue
            for claim, way in mine:
                if not self._looked_at(claim, way, answers[way.locator]):
                    nowhere.append(claim)
        return nowhere

    def _looked_at(self, claim: Claimed, way: Way, found: Copy | Gone) -> bool:
        """Whether this settles the message."""
        if isinstance(found, Copy):
            self._found.taken[way.keeper].append(way.locator)
        place = way.locator.partition, way.locator.offset
        digests = self._digests.right(self._events.get(claim.message_id, ()), way.keeper, place)
        decision = by_copy(claim, found, digests, self._terms.identity, self._terms.max_attempts)
        if decision and decision.state == "refused":
            self._faults[claim.message_id].append(decision.reason)
            return False
        if decision:
            self._found.decided[claim.message_id] = decision
        elif isinstance(found, Copy):
            copy = dressed(found, self._replay_id, claim.attempt, self._terms.identity)
            self._found.ready.append(Ready(claim, copy, way))
        return True

    def _without(self, message_id: str) -> Decision:
        if message_id not in self._waits:
            return Decision("refused", "; ".join(self._faults[message_id]))
        way, reason = self._waits[message_id]
        count, _ = self._found.away.get(way.target, (0, ""))
        self._found.away[way.target] = count + 1, reason
        return Decision("released", reason)


def said(error: Exception) -> str:
    """An error in words, also when it has none of its own."""
    return str(error) or type(error).__name__
