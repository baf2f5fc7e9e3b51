"""One scenario against a service: send what collectors send, let it judge, and hold what it found to the truth."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from tracker.model.errors import Unavailable
from tracker.simulate.scenario import Scenario
from tracker.simulate.score import SHOWN, Said, Score, differences, score
from tracker.simulate.truth import truth
from tracker.simulate.watchers import watchers
from tracker.simulate.wire import Batch, batches, header
from tracker.simulate.world import T0, World

PAGE = 1000
DAY = 86_400
OBSERVATIONS = 12
"""How often the books are looked at, beside the end."""
SETTLE = 3
"""Passes at the end, for what one pass leaves to the next."""
LOOKED_AT = 5_000
"""In worlds with at most so many messages every one is held to the truth mid-stream, too."""


class Tracker(Protocol):
    """The service under test, and its clock. `punctual`: its passes run when `judge` says so, and only then."""

    punctual: bool

    def at(self, now: int) -> None:
        """It is `now` (µs)."""

    def judge(self) -> None:
        """Let the reconciler run one pass."""

    def restart(self) -> None:
        """Stop the service as a crash would, and start it again on the same ledger."""

    def request(self, method: str, path: str, **options: Any) -> Any:
        """One request; the answer with `status_code`, `text` and `json()`."""


def run(tracker: Tracker, scenario: Scenario, seed: int, begin: int = T0) -> Score:
    """The score of one scenario whose time begins at `begin` (µs). Raises Unavailable when the service refuses what a
    scenario sends."""
    started = time.monotonic()
    world = World(scenario, seed, begin)
    watching = watchers(world)
    flow = scenario.flow["flow"]
    tracker.at(begin)
    _ask(tracker, "PUT", f"/v1/flows/{flow}", json=scenario.flow)
    end = begin + scenario.until
    conserved, observations = True, 0
    astray: list[dict[str, Any]] = []
    restarts = sorted(begin + fault.start for fault in world.faults("restart"))
    looks = iter(range(begin, end, max((end - begin) // OBSERVATIONS, 1)))
    look = next(looks)
    now = begin
    for batch in batches(world, watching):
        while now + scenario.pass_every <= batch.at:
            now += scenario.pass_every
            if restarts and restarts[0] <= now:
                tracker.restart()
                restarts.pop(0)
            tracker.at(now)
            tracker.judge()
            if now >= look:
                conserved &= _conserved(tracker, flow, now)
                observations += 1
                look = next(looks, end)
                if tracker.punctual and world.count <= LOOKED_AT:
                    said = _said(tracker, flow, _findings(tracker, flow, status="open"))
                    astray += [one | {"at_s": (now - begin) / 1e6}
                               for one in differences(world, truth(world, watching, now), said)]  # fmt: skip
        tracker.at(batch.at)
        _send(tracker, batch)
    for n in range(SETTLE):
        tracker.at(end + n)
        tracker.judge()
    conserved &= _conserved(tracker, flow, end + SETTLE)
    findings = _findings(tracker, flow)
    found = _said(tracker, flow, [one for one in findings if one["status"] == "open"])
    result = score(world, truth(world, watching, end + SETTLE - 1), found, findings)
    result.astray = len(astray)
    result.wrong += astray[: SHOWN - len(result.wrong)]
    result.conserved, result.observations = conserved, observations + 1
    result.seconds = round(time.monotonic() - started, 1)
    return result


def _findings(tracker: Tracker, flow: str, **chosen: str) -> list[dict[str, Any]]:
    return list(_all(tracker, "/v1/findings", flow=flow, **chosen))


def _said(tracker: Tracker, flow: str, findings: Iterable[dict[str, Any]]) -> dict[str, Said]:
    """What the service says of every message, as its last pass left it; `findings`: its open ones."""
    open_: dict[str, set[tuple[str, str, str]]] = {}
    for one in findings:
        open_.setdefault(one["message_id"], set()).add((one["hop"], one["stage"], one["kind"]))
    said = {}
    for item in _all(tracker, f"/v1/flows/{flow}/messages"):
        name = item["message_id"]
        said[name] = Said(item["verdict"], frozenset(item["flags"]), frozenset(open_.pop(name, ())))
    return said | {name: Said(None, frozenset(), frozenset(mine)) for name, mine in open_.items()}


def _send(tracker: Tracker, batch: Batch) -> None:
    if not batch.lines:
        _ask(tracker, "POST", "/v1/coverage", json=batch.report)
        return
    headers = {"Content-Type": "application/x-ndjson"}
    if batch.report is not None:
        headers["Tracker-Coverage"] = header(batch.report)
    _ask(tracker, "POST", "/v1/events", content=batch.lines, headers=headers)


def _conserved(tracker: Tracker, flow: str, now: int) -> bool:
    """Do the books balance at this moment?"""
    span = {"from": str(now / 1e6 - 30 * DAY), "to": str(now / 1e6 + DAY)}
    return bool(_ask(tracker, "GET", f"/v1/flows/{flow}/reconciliation", params=span)["conserved"])


def _all(tracker: Tracker, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    cursor = ""
    while cursor is not None:
        page = _ask(tracker, "GET", path, params={**parameters, "cursor": cursor, "limit": PAGE})
        yield from page["items"]
        cursor = page["next"]


def _ask(tracker: Tracker, method: str, path: str, **options: Any) -> Any:
    answer = tracker.request(method, path, **options)
    if answer.status_code not in (200, 201):
        raise Unavailable(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
    return answer.json()
