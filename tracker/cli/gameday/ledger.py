"""What the tracker says of the canaries of one run, and whether anybody looks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tracker.cli.client import Api, segment
from tracker.cli.errors import USAGE, CommandError
from tracker.cli.settings import service_settings
from tracker.gameday.lane import Lane, lane_of
from tracker.gameday.outcome import Finding
from tracker.model.errors import Invalid
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND, duration, instant

FRESH = 5 * SECOND
MOST_RATE = 50.0


def new_run(kind: str) -> str:
    """The beginning of the ids of a run; those of a later one sort behind."""
    return f"{kind}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(2).hex()}-"


def lane(api: Api, flow: str, to: str) -> Lane:
    """The lane that the flow is. Raises CommandError."""
    try:
        return lane_of(load_spec(api.get(f"/v1/flows/{segment(flow)}")["text"]), to)
    except Invalid as error:
        raise CommandError(str(error)) from None


def hops_file(given: Path | None) -> Path:
    """Where the hops are described. Raises CommandError."""
    found = given or service_settings().hops
    if found is None:
        raise CommandError("say how to reach the hops: --hops FILE, or TRACKER_HOPS, as the service itself has it")
    return found


def rate_of(text: str) -> float:
    """A second. Raises CommandError."""
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MOST_RATE:
        raise CommandError(f"--rate {text!r}: write 1/s; {MOST_RATE:g}/s at most")
    return rate


def seconds(option: str, text: str) -> float:
    """Of `10s` or `1h`. Raises CommandError."""
    try:
        return duration(text) / SECOND
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None


class Ledger:
    """Asks about the flow, and tells the canaries of this run (ids that begin with `run`) from all others."""

    def __init__(self, api: Api, spec: FlowSpec, run: str) -> None:
        self._api, self._spec, self._run = api, spec, run
        self._path = f"/v1/flows/{segment(spec.flow)}"

    def states(self, after: str = "") -> dict[str, tuple[str, tuple[str, ...]]]:
        """Verdict and flags of those behind the id `after`, as the last pass left them."""
        cursor, found = after or self._run, dict[str, tuple[str, tuple[str, ...]]]()
        while cursor:
            page = self._api.get(f"{self._path}/messages", cursor=cursor, limit=1000)
            for row in page["items"]:
                if not row["message_id"].startswith(self._run):
                    return found
                found[row["message_id"]] = row["verdict"], tuple(row["flags"])
            cursor = page["next"]
        return found

    def judged(self, name: str) -> tuple[str, float]:
        """Its verdict at this moment (`unknown`: the tracker has nothing of it), and the seconds from its origin to the
        last thing that was seen of it."""
        try:
            got = self._api.get(f"{self._path}/messages", id=name)
        except CommandError as error:
            if error.code != USAGE:
                raise
            return "unknown", 0.0
        return got["verdict"] or "unknown", max(
            (r["latency_ms"] for r in got["timeline"] if r["known"]), default=0
        ) / 1000

    def findings(self, most: int) -> list[Finding]:
        """Of at most so many of the flow's newest those of this run."""
        rows = self._api.pages("/v1/findings", most, flow=self._spec.flow)
        return [_finding(row) for row in rows if row["message_id"].startswith(self._run)]

    def vouching(self) -> dict[str, set[str]]:
        """Which collectors vouch now, by `hop:stage`."""
        as_of = self._api.get(f"{self._path}/reconciliation", **{"from": "-10s"})["as_of"]
        found: dict[str, set[str]] = {}
        for row in self._api.pages("/v1/coverage", 100_000, flow=self._spec.flow):
            if as_of and not row["closed"] and instant(as_of) - instant(row["end"]) < FRESH:
                found.setdefault(f"{row['hop']}:{row['stage']}", set()).add(row["collector"])
        return found

    def unwatched(self) -> list[str]:
        """Checkpoints with `coverage: watermark` for which nobody vouches now."""
        vouching = self.vouching()
        return [
            point.name
            for point in self._spec.checkpoints
            if point.required
            and point.coverage == "watermark"
            and not any(f"{hop}:{point.stage}" in vouching for hop in point.hop)
        ]

    def strayed(self) -> str:
        """What is wrong where a flow of business knows a canary of this run, for that flow's counts hold it now."""
        for row in self._api.pages("/v1/flows", 100_000):
            if not row["spec"].get("canary"):
                page = self._api.get(f"/v1/flows/{segment(row['flow'])}/messages", cursor=self._run, limit=1)
                if any(one["message_id"].startswith(self._run) for one in page["items"]):
                    return (
                        f"flow {row['flow']} counts canaries of {self._spec.flow}: its collector watches the place "
                        "that they are sent to. Give them one of their own, in the file of hops and at the collector"
                    )
        return ""

    def replay(self, ids: list[str], reason: str) -> dict[str, Any]:
        """Ask for a replay of these, and approve it where it waits and may be."""
        asked = self._api.send("POST", "/v1/replays", {"flow": self._spec.flow, "message_ids": ids, "reason": reason})
        if asked["status"] == "awaiting_approval":
            asked = self._api.send("POST", f"/v1/replays/{segment(asked['id'])}/approve", {"why": reason})
        return dict(asked)


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(
        row["message_id"], row["hop"], row["kind"], row["status"], instant(row["opened_at"]), instant(row["known_at"]),
        instant(row["resolved_at"]) if row["resolved_at"] else None, row["by"], row["cause"], tuple(row["held_by"]),
    )  # fmt: skip
