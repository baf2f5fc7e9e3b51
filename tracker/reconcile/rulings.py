"""What people and replays said is to become of findings, carried out by a pass: after it has judged, so that what is
back by now is recovered and not parked."""

from __future__ import annotations

from itertools import groupby

from msgspec import structs

from tracker.control import Control
from tracker.control.passes import Pass
from tracker.control.rulings import Ruling
from tracker.reconcile.incidents import Incidents
from tracker.store import Store


def carry_out(store: Store, control: Control, incidents: Incidents, work: Pass) -> None:
    """Carry out the rulings that this pass takes, in their order, and touch the incidents that changed."""
    taken = control.rulings.take(work.number)
    for said, alike in groupby(taken, key=lambda one: structs.replace(one, message_id="")):
        ids = [one.message_id for one in alike if one.message_id]
        store.rule(work.number, work.started_at, said.flow, said.status, said.by, ids, **_place(said))
    if taken:
        incidents.touched.update(store.incidents_of_pass(work.number))


def _place(said: Ruling) -> dict[str, str]:
    return {"incident": said.incident} if said.incident else {"hop": said.hop, "stage": said.stage}
