"""Whether a target's consumers are behind: what `progress` remembers, held against the books and the ledger."""

from __future__ import annotations

from tracker.control import Control
from tracker.model.units import rfc3339
from tracker.replay import ledger as ask
from tracker.replay.ledger import Ledger
from tracker.replay.progress import Probe, Progress
from tracker.store.findings import OPEN


def behind(progress: Progress, ledger: Ledger, control: Control, now: int) -> str:
    """In words, that consumers are later with what was sent than the flow allows, though they are watched; empty when
    they follow, when it is not time yet, and when nobody can know. Forgets what says nothing any more."""
    asked: dict[str, list[str]] = {}
    for probe in progress.probes:
        asked.setdefault(probe.replay_id, []).extend(probe.ids)
    states = {
        (replay_id, message_id): state
        for replay_id, ids in asked.items()
        for message_id, state in control.messages.states(replay_id, ids).items()
    }
    progress.seen(states)
    for probe in progress.overdue(now):
        known = ask.statuses(ledger, probe.flow, probe.ids)
        if not any(OPEN in known[one].values() for one in probe.ids):
            progress.forget(probe)
        elif where := _unseen(probe, ledger, control, now):
            since = rfc3339(probe.at)
            return f"what was sent since {since} is not seen at {where}, which is watched: it does not follow"
    return ""


def _unseen(probe: Probe, ledger: Ledger, control: Control, now: int) -> str:
    """The hops where it should be seen by now; empty where one of them was not watched for all of that time."""
    coverage = ledger.coverage(ask.last_spec_of(control, probe.flow))
    places = {(hop, one.stage) for one in probe.missing for hop in one.hop.split("|")}
    if any(coverage.hole(hop, stage, probe.at, probe.at + probe.due, now) for hop, stage in places):
        return ""
    return ", ".join(sorted({hop for hop, _ in places}))
