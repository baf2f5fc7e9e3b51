"""A pass killed at every step, and done again, leaves what an undisturbed one leaves; the books agree throughout.

On the real engine: what matters is which rows of a half-done pass are visible afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Event
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.reconcile.books import Reconciliation, reconcile
from tracker.reconcile.reconciler import Reconciler
from tracker.store import reach
from tracker.store.reach import FEW
from tracker.store.settled import COUNTS

SPEC = """
flow: {flow}
owner: team
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: mirror, stage: replicate, after: log, within: 30s, same_payload: true}}
  - {{hop: billing, stage: ack, after: log, within: 20s, at_most: 1}}
"""
LOG, MIRROR, ACK = "log:persist", "mirror:replicate", "billing:ack"


def says(ident: str, place: str, at: float, **more: Any) -> Event:
    """An observation of one of the messages below."""
    return event(
        place, at, received=more.pop("received", None), message_id=ident, digest=more.pop("digest", "aa"), **more
    )


def whole(ident: str, at: float = 0) -> list[Event]:
    """A message that was delivered."""
    places = ("shop:produce", LOG, MIRROR, ACK)
    return [says(ident, place, at + n, delivery=f"{ident}-{n}") for n, place in enumerate(places)]


STORY: list[tuple[float, list[Event]]] = [
    (4, [*whole("fine"), *whole("unacked")[:3], *whole("lost")[:1], *whole("slow")[:2]]),
    (
        40,  # found: lost, unacked, slow; one diverges, one is parked, one is dropped by design
        [*whole("odd")[:2], says("odd", MIRROR, 2, digest="bb"), *whole("parked")[:3],
         says("parked", "billing:dead_letter", 9, reason="poison"), *whole("filtered")[:3],
         says("filtered", "billing:drop", 9, reason="filtered")],
    ),
    (
        60,  # recovered by itself, by a replay; withdrawn; carried an earlier origin; a duplicate
        [says("unacked", ACK, 50), says("lost", LOG, 50, replay_id="r"), says("slow", MIRROR, 7, received=59),
         says("slow", ACK, 8, received=59),
         says("odd", MIRROR, 55),
         says("fine", ACK, 58, delivery="again"), says("new", ACK, 58, origin_at=1)],
    ),
    (100, [says("parked", ACK, 90, delivery="d2", replay_id="r")]),
]  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


class Watched:
    """A store or control database whose n-th use kills the process before anything of it is done."""

    def __init__(self, real: Any, fuse: list[int], parts: tuple[str, ...] = ()) -> None:
        self._real, self._fuse, self._parts = real, fuse, parts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name in self._parts:
            return Watched(found, self._fuse)
        if not callable(found):
            return found

        def use(*args: Any, **more: Any) -> Any:
            self._fuse[0] -= 1
            if self._fuse[0] < 0:
                raise Killed(name)
            return found(*args, **more)

        return use


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all: opening the engine takes a second."""
    installation = Installation(tmp_path_factory.mktemp("crash"))
    yield installation
    installation.close()


def killed_everywhere(world: Installation, spec: FlowSpec, merged: bool) -> int:
    """One pass, killed before its first use of a database, then before its second, and so on; how often it was."""
    kills = 0
    before = books(world, spec)
    while True:
        fuse = [kills]
        store, control = Watched(world.store, fuse), Watched(world.control, fuse, ("passes", "incidents", "flows"))
        try:
            Reconciler(store, control, lambda: world.now).run_pass()  # type: ignore[arg-type]
        except Killed:
            kills += 1
            now = books(world, spec)
            assert now.conserved, (kills, now)
            assert now == before, kills
            if merged:
                for table in ("states", "findings", "coverage"):
                    world.store.engine.command(f"OPTIMIZE TABLE {world.store.engine.database}.{table} FINAL")
        else:
            return kills


def books(world: Installation, spec: FlowSpec) -> Reconciliation:
    """The books of all time; coverage is no book, it grows at the end of a pass."""
    return structs.replace(reconcile(world.store, world.control, spec, 0, 1 << 61), blind_spots=[])


def told(world: Installation, flow: str, kill: bool, merged: bool = False) -> tuple[dict[str, Any], int]:
    """The whole story in a flow of its own; (what it leaves, with times since its beginning, how many kills)."""
    base = world.now
    spec = world.put(SPEC.format(flow=flow))
    sources = [SourceRef(flow, hop, c.stage.value, "s") for c in spec.checkpoints for hop in c.hop]
    kills = 0
    world.vouch(sources, collector=flow)
    for moment, events in STORY:
        world.now = base + round(moment * SECOND)
        world.vouch(sources, collector=flow)
        world.observe([moved_to(e, flow, base) for e in events])
        if kill:
            kills += killed_everywhere(world, spec, merged)
        else:
            world.restarted().run_pass()
        assert books(world, spec).conserved
    left = {"states": states(world, flow, base), "findings": findings(world, flow, base),
            "incidents": incidents(world, flow, base), "books": books(world, spec).verdicts,
            "counts": counts(world, flow, base)}  # fmt: skip
    world.control.flows.delete(flow, world.now)
    world.now += 1000 * SECOND
    return left, kills


def moved_to(one: Event, flow: str, base: int) -> Event:
    """The event in this flow, its times after `base`."""
    origin = None if one.origin_at is None else base + one.origin_at
    received = base + (one.received_at or 0)
    return structs.replace(one, flow=flow, observed_at=base + one.observed_at, received_at=received, origin_at=origin)


def states(world: Installation, flow: str, base: int) -> list[dict[str, Any]]:
    """Every state, times since the beginning."""
    rows = world.store.engine.rows(
        "SELECT message_id, verdict, flags, found, toUnixTimestamp64Micro(origin_at) AS origin, look_again, timer_at, "
        "seen, marks, length(deliveries) AS deliveries "
        f"FROM {world.store.engine.database}.states FINAL WHERE flow = {{flow:String}} ORDER BY message_id",
        {"flow": flow},
    )
    times = ("origin", "look_again", "timer_at")
    return [row | {name: row[name] - base for name in times if row[name]} for row in rows]


def counts(world: Installation, flow: str, base: int) -> tuple[list[Any], list[Any]]:
    """What messages were counted as, and how long they took."""
    start = base // SECOND
    [found] = world.store.settled_between([flow], start - 1, start + 900, 10**9)
    return [getattr(found, name) for name in COUNTS], [t.took for t in world.store.took(start - 1, start + 900, [flow])]


def findings(world: Installation, flow: str, base: int) -> list[tuple[Any, ...]]:
    """Every finding, times since the beginning."""
    found = world.store.findings(flow=flow, limit=1000)
    return sorted(
        (f.message_id, f.hop, f.kind, f.status, f.by, f.cause, f.opened_at - base, f.known_at - base,
         f.resolved_at and f.resolved_at - base) for f in found
    )  # fmt: skip


def incidents(world: Installation, flow: str, base: int) -> list[tuple[Any, ...]]:
    """Every incident with its counts and its own history."""
    page = world.control.incidents.page(flow=flow, limit=500).items
    return sorted(
        (i.hop, i.kind, i.status, i.owner, i.open, i.total, i.recovered, i.recovered_by_itself, i.withdrawn,
         i.opened_at - base, i.last_finding_at - base, i.resolved_at and i.resolved_at - base,
         tuple((line.at - base, line.what) for line in world.control.incidents.timeline(i.id)))
        for i in page
    )  # fmt: skip


@pytest.mark.parametrize(("merged", "few"), [
    (False, 0), pytest.param(True, FEW, marks=pytest.mark.long), pytest.param(False, FEW, marks=pytest.mark.long)
])  # fmt: skip
def test_killed_at_every_step(world: Installation, merged: bool, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each use of the store and the control database, in four passes that open, recover, withdraw and repair;
    also when the engine merged its parts in between, and when it judges by itself what is plainly delivered. What is
    left is the same to the microsecond."""
    monkeypatch.setattr(reach, "FEW", few)
    name = f"{merged}{few}"
    undisturbed, _ = told(world, f"whole{name}", kill=False)
    killed, kills = told(world, f"killed{name}", kill=True, merged=merged)
    assert kills > 4 * 15
    for part in undisturbed:
        assert killed[part] == undisturbed[part], part


def test_the_story_is_what_it_says(world: Installation) -> None:
    """The tale that is interrupted above has everything in it that a pass may write."""
    left, _ = told(world, "tale", kill=False)
    assert left["books"] == {
        "delivered": 2,  # fine (acked twice), slow (its events were on their way for long)
        "late": 2,  # unacked came by itself, parked by a replay
        "explained": 1,
        "unacknowledged": 2,  # lost is back in the log and no further, odd was repaired and never acked
        "under_replicated": 1,  # new was seen at its end alone
    }
    assert {(f[0], f[2], f[3], f[4]) for f in left["findings"]} == {
        ("lost", "lost", "recovered", "replay"), ("lost", "lost", "superseded", "unacknowledged"),
        ("lost", "lost", "superseded", "under_replicated"),
        ("lost", "unacknowledged", "open", ""), ("lost", "under_replicated", "open", ""),
        ("new", "under_replicated", "open", ""),
        ("odd", "divergent", "recovered", "itself"), ("odd", "unacknowledged", "open", ""),
        ("parked", "dead_lettered", "recovered", "replay"),
        ("slow", "unacknowledged", "withdrawn", ""), ("slow", "under_replicated", "withdrawn", ""),
        ("unacked", "unacknowledged", "recovered", "itself"),
    }  # fmt: skip
