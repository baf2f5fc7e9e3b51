"""The faults that a drill can make, and what each has to lead to, stated before it is made. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import msgspec

from tracker.gameday.lane import Lane
from tracker.model.errors import Invalid
from tracker.model.event import Stage


class Fault(StrEnum):
    """What is done to the canaries that are hit."""

    skip = "skip"
    withhold = "withhold"
    drop = "drop"
    duplicate = "duplicate"
    corrupt = "corrupt"
    blind = "blind"
    manual = "manual"


DONE = {
    Fault.skip: "the consumer {hop} takes them and tells the broker that it is done, without processing them",
    Fault.withhold: "the consumer {hop} takes them and keeps them until they are found, longer than they may take",
    Fault.drop: "they are told as produced and never sent to {hop}",
    Fault.duplicate: "each is sent to {hop} twice",
    Fault.corrupt: "a second copy of each, with another payload, is sent to {hop}",
    Fault.blind: "whoever watches the consumer {hop} says nothing for a while; the consumer goes on",
    Fault.manual: "whatever the operator does between the two marks",
}
CONSUMER = frozenset({Fault.skip, Fault.withhold, Fault.blind})
"""Faults of a consumer, which has to be the drill's own."""


class Expected(msgspec.Struct, frozen=True):
    """What has to come of a fault. `kind`: of the findings, at `hop`, of exactly the messages that are hit; empty: none
    at all. `blind`: they are shown as not known meanwhile. `flag`: what they are flagged with. `by`: who brings them
    back: `replay`, `consumer` (by itself), `producer` (who alone has them), `itself` (nothing was gone). `within`:
    seconds in which a message is found from when it could be known."""

    fault: Fault
    hop: str
    kind: str
    by: str
    within: float
    flag: str = ""
    blind: bool = False

    @property
    def done(self) -> str:
        """What is done to them, in a sentence."""
        return DONE[self.fault].format(hop=self.hop)

    @property
    def said(self) -> list[str]:
        """What has to come of it, in sentences."""
        if self.fault is Fault.manual:
            return [
                "each canary that was confirmed is acked by the drill's own consumers, or named, or blind",
                "nothing else is named: what was acked in time is never called missing",
                f"what is missing is found within {self.within:g} s of when it could be known",
                "in the end none is in flight; what a source still holds comes back by a replay",
            ]
        lines = []
        if self.kind:
            lines.append(f"exactly the canaries that are hit are named: {self.kind} at {self.hop}")
            lines.append(f"each is found within {self.within:g} s of when it could be known")
        else:
            lines.append("no canary is named")
        if self.blind:
            lines.append(f"those that are hit are blind, with a blind spot at {self.hop}, as long as it lasts")
        if self.flag:
            lines.append(f"exactly those that are hit are flagged as {self.flag}")
        lines.append(BACK[self.by])
        lines.append("all others are delivered, and nothing else is said of any canary")
        return lines


BACK = {
    "replay": "all of them come back by a replay",
    "consumer": "all of them recover by themselves when the consumer goes on",
    "producer": "no hop that a replay could read holds them: the producer sends them again, and they recover",
    "itself": "all of them are delivered in the end",
}


def expected(lane: Lane, fault: Fault, consume: Collection[str], within: float, at: str = "") -> Expected:
    """What `fault` at the hop `at` (empty: the only one, or the first) has to lead to. Raises `Invalid` where it cannot
    be made."""
    if fault in CONSUMER:
        hop = at or next(iter(consume), "")
        if hop not in consume:
            raise Invalid(
                f"{fault}: it is a fault of the drill's own consumer: name its hop with --consume {at or 'HOP'}"
            )
        return _of_consumer(lane, fault, hop, within)
    if fault is Fault.corrupt:
        return _corrupt(lane, at, within)
    if at and at != lane.first:
        raise Invalid(f"{fault}: it is made at {lane.first}, not at {at!r}")
    if fault is Fault.drop:
        return Expected(fault, lane.first, "lost", "producer", within)
    if fault is Fault.duplicate:
        counted = any(c.at_most == 1 for c in lane.spec.checkpoints)
        return Expected(fault, lane.first, "", "itself", within, flag="duplicated" if counted else "")
    return Expected(fault, lane.first, "", "replay" if lane.spec.replay.sources else "itself", within)


def _of_consumer(lane: Lane, fault: Fault, hop: str, within: float) -> Expected:
    if fault is Fault.blind:
        return Expected(fault, hop, "", "itself", within, blind=True)
    if fault is Fault.withhold:
        return Expected(fault, hop, "unacknowledged", "consumer", within)
    replayed = lane.spec.replay.sources and lane.spec.replay.mode != "off"
    return Expected(fault, hop, "unacknowledged", "replay" if replayed else "producer", within)


def _corrupt(lane: Lane, at: str, within: float) -> Expected:
    equal = [hop for c in lane.spec.checkpoints if c.same_payload and c.stage in (Stage.persist, Stage.replicate)
             for hop in c.hop]  # fmt: skip
    if not equal or (at and at not in equal):
        raise Invalid(
            f"corrupt: {at or 'no hop that keeps messages'} has no `same_payload`, so nobody would compare; it can be "
            f"done at: {', '.join(equal) or 'none'}"
        )
    hop = at or equal[0]
    return Expected(Fault.corrupt, hop, "divergent", "producer", within)
