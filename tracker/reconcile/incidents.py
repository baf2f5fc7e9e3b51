"""Findings of one flow, hop and kind that belong together in time are one incident: one page, one owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash

from tracker.control import Control
from tracker.control.incidents import Counted, Counts, Incident
from tracker.model.units import SECOND

GAP = 15 * 60 * SECOND
"""A finding joins an incident that is open, or whose last finding is at most this old."""

Key = tuple[str, str, str]


class Incidents:
    """Which incident a new finding belongs to, and the counts of those that changed."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._latest: dict[Key, Incident] = {}
        cursor = ""
        while True:
            page = control.incidents.page(cursor=cursor, limit=500)
            for incident in page.items:
                self._latest.setdefault((incident.flow, incident.hop, incident.kind), incident)
            cursor = page.cursor
            if not cursor:
                break
        self.touched: set[str] = set()

    def belongs_to(self, flow: str, hop: str, stage: str, kind: str, number: int, now: int) -> str:
        """The id of the incident for a finding opened in pass `number`; the same when the pass is done again."""
        latest = self._latest.get((flow, hop, kind))
        if latest and (latest.status != "resolved" or now - latest.last_finding_at <= GAP):
            ident = latest.id
        else:
            ident = f"inc-{xxhash.xxh3_64_hexdigest(f'{flow}/{hop}/{kind}/{number}'.encode())[:12]}"
        self.touched.add(ident)
        return ident

    def settle(self, rows: list[dict[str, Any]], owners: Mapping[str, str], now: int) -> None:
        """Bring the incidents up to date with their findings, counted anew (`Findings.incident_counts`)."""
        for row in rows:
            self._remember(self._control.incidents.upsert(counted(row), now, owner=owners.get(row["flow"], "")))
        for left in sorted(self.touched - {row["incident"] for row in rows}):  # all its findings went to others
            emptied = self._control.incidents.emptied(left, now)
            if emptied is not None:
                self._remember(emptied)
        self.touched.clear()

    def _remember(self, incident: Incident) -> None:
        key = (incident.flow, incident.hop, incident.kind)
        latest = self._latest.get(key)
        if latest is None or latest.id == incident.id or latest.opened_at <= incident.opened_at:
            self._latest[key] = incident


def counted(row: Mapping[str, Any]) -> Counted:
    """One row of counts as the control database takes it. Spans are whole microseconds; nan means none yet."""
    detect, recover = ([int(v) if v == v else None for v in row[name]] for name in ("detect", "recover"))
    return Counted(
        id=row["incident"],
        flow=row["flow"],
        hop=row["hop"],
        kind=row["kind"],
        stage=row["stage"],
        first_finding_at=row["first_at"],
        last_finding_at=row["last_at"],
        counts=Counts(
            open=row["open"],
            total=row["total"],
            recovered=row["recovered"],
            recovered_by_itself=row["by_itself"],
            withdrawn=row["withdrawn"],
            superseded=row["superseded"],
            parked=row["parked"],
            abandoned=row["abandoned"],
        ),
        detect_p50=detect[0],
        detect_p90=detect[1],
        recover_p50=recover[0] if row["recovered"] else None,
        recover_p90=recover[1] if row["recovered"] else None,
    )
