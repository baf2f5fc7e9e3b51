"""One code, two engines: over HTTP the store gives what it gives embedded. See docs/clickhouse-server.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.store.conftest import Server
from tests.world.installation import T0, Installation
from tracker.control import Control
from tracker.model.coverage import SourceRef
from tracker.model.errors import Unavailable
from tracker.model.event import Event, Range, Stage
from tracker.model.units import SECOND
from tracker.reconcile.books import reconcile
from tracker.store import Store

SPEC = """
flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: log, stage: persist, after: shop, within: 5s}
  - {hop: mirror, stage: replicate, after: log, within: 10s, same_payload: true}
  - {hop: billing, stage: ack, after: log, within: 20s, at_most: 1}
"""
POINTS = [("shop", Stage.produce), ("log", Stage.persist), ("mirror", Stage.replicate), ("billing", Stage.ack)]
ODD = ["it's", 'a"b', "back\\slash", "tab\there", "line\nbreak", "käse-☃-🙂", "{flow:String}", "a+b c", "%20&x=1"]
_databases = count()


class World(Installation):
    """An installation whose store is wherever the URL says."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.store = Store.open(url)
        self.applied = self.store.migrate()
        self.control = Control.open(f"sqlite:///{folder}/control.db")
        self.now = T0
        self.sequence: dict[str, int] = {}
        self.reconciler = self.restarted()


@pytest.fixture
def embedded(tmp_path: Path, embedded_folder: Path) -> Iterator[World]:
    """On the engine in this process."""
    (tmp_path / "embedded").mkdir()
    world = World(tmp_path / "embedded", f"chdb://{embedded_folder}?database=story{next(_databases)}")
    yield world
    world.close()


@pytest.fixture
def served(tmp_path: Path, clickhouse_server: Server) -> Iterator[World]:
    """On a server."""
    (tmp_path / "served").mkdir()
    world = World(tmp_path / "served", clickhouse_server.url(f"story{next(_databases)}"))
    yield world
    world.close()


def passed(ident: str, points: int, digest: str = "0123456789abcdef") -> list[Event]:
    """A message that went as far as its first `points` checkpoints, a second at each."""
    events = [
        Event(flow="orders", message_id=ident, hop=hop, stage=stage, observed_at=T0 + n * SECOND, origin_at=T0,
              digest=digest, node="n1", attributes={"k'": "v\\", "": "☃"})
        for n, (hop, stage) in enumerate(POINTS[:points])
    ]  # fmt: skip
    placed = {"partition": "orders/0", "offset": hash_of(ident)}
    return [structs.replace(e, **placed) if e.hop == "log" else e for e in events]


def hash_of(ident: str) -> int:
    """A small number that is always the same for an id."""
    return sum(ident.encode()) % 1000


def story(world: World) -> dict[str, Any]:
    """What faces would answer after losses, a range, a divergence, something late, and a replay."""
    spec = world.put(SPEC)
    sources = [SourceRef("orders", hop, stage.value, "s'1") for hop, stage in POINTS]
    world.vouch(sources)
    world.now += SECOND
    world.observe(e for ident in ODD for e in passed(ident, 4))
    world.observe(passed("lost", 1) + passed("stuck", 3) + passed("copy", 2))
    world.observe(passed("other", 3) + [structs.replace(e, digest="ff", node="n2") for e in passed("other", 3)[2:]])
    world.observe([structs.replace(passed("odd-drop", 1)[0], hop="log", stage=Stage.drop, reason="unroutable")])
    world.move([Range(flow="orders", hop="billing", stage=Stage.ack, log="log", partition="orders/0", offset=0,
                      offset_to=900, observed_from=T0, observed_at=T0 + SECOND, evidence="range")])  # fmt: skip
    passes = [world.run_pass()]
    world.now += 60 * SECOND
    world.vouch(sources)
    passes.append(world.run_pass())
    world.observe(structs.replace(e, observed_at=world.now, replay_id="r1", attempt=1) for e in passed("stuck", 4)[3:])
    world.now += SECOND
    world.vouch(sources, signed_off=sources[:1])
    passes.append(world.run_pass())
    store = world.store
    findings = store.findings("orders", limit=500)
    return {
        "applied": world.applied,
        "passes": [structs.replace(p, seconds=0) for p in passes],
        "timelines": {ident: store.timeline("orders", ident) for ident in [*ODD, "other", "nobody"]},
        "states": store.message_states("orders", limit=500),
        "lost": store.message_states("orders", verdict="lost"),
        "counts": store.counts(),
        "findings": findings,
        "page": store.findings("orders", after=f"{findings[0].opened_at}-{findings[0].finding_id}", limit=3),
        "chosen": store.findings(message_ids=["stuck", "it's"]),
        "books": reconcile(store, world.control, spec, T0 - SECOND, world.now, 10 * SECOND),
        "runs": sorted(store.runs("orders"), key=str),
        "locators": sorted(store.locators("orders", [*ODD, "stuck"], "log"), key=str),
        "ranges": store.ranges_over("orders", [("log", "orders/0", 0, 10)]),
        "incidents": [structs.replace(i, opened_at=0) for i in world.control.incidents.page().items],
    }


def test_a_server_gives_what_the_embedded_engine_gives(embedded: World, served: World) -> None:
    """Migrations, inserts, passes, timelines, findings, coverage and books are equal, odd ids included."""
    one, two = story(embedded), story(served)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name] == two[name], name
    assert one["books"].conserved
    assert one["counts"]["orders"]["lost"] >= 1


def test_thousands_of_overdue_messages_fit_into_a_servers_limits(served: World) -> None:
    """A server takes at most 128 KiB in one form field; the ids of a pass's exceptional messages are many more."""
    served.put(SPEC)
    sources = [SourceRef("orders", hop, stage.value, "s") for hop, stage in POINTS]
    served.vouch(sources)
    served.now += SECOND
    served.observe(e for n in range(6_000) for e in passed(f"0190163d-8694-739b-aea5-{n:012d}", 1))
    served.run_pass()
    served.now += 60 * SECOND
    served.vouch(sources)
    assert served.run_pass().opened >= 6_000
    assert len(served.store.findings("orders", limit=10_000)) >= 6_000


def test_a_store_opened_again_needs_no_migration(served: World, clickhouse_server: Server) -> None:
    """A restarted tracker finds the schema and the events as they were."""
    served.observe(passed("here", 2))
    again = Store.open(clickhouse_server.url(served.store.engine.database))
    assert again.migrate() == []
    assert len(again.timeline("orders", "here")) == 2
    again.close()


def test_a_wrong_password_is_unavailable_and_not_shown(clickhouse_server: Server) -> None:
    """It can be repaired without sending anything again; the message says what the server said."""
    wrong = clickhouse_server.url("x").replace("clickhouse://", "clickhouse://someone:s3cret@", 1)
    wrong = "clickhouse://someone:s3cret@" + wrong.rsplit("@", 1)[1]
    with pytest.raises(Unavailable, match=r"(?i)authentication failed") as caught:
        Store.open(wrong)
    assert "s3cret" not in str(caught.value)


def test_what_goes_over_the_wire(clickhouse_http: Server, tmp_path: Path) -> None:
    """It is clickhouse-connect's HTTP client; inserts are Arrow, synchronous and one block (docs/adr/0001)."""
    assert clickhouse_http.journal is not None
    before = clickhouse_http.journal.read_text().splitlines() if clickhouse_http.journal.exists() else []
    world = World(tmp_path, clickhouse_http.url(f"wire{next(_databases)}"))
    world.observe(passed("here", 2))
    world.close()
    lines = [json.loads(line) for line in clickhouse_http.journal.read_text().splitlines()[len(before) :]]
    inserts = [x for x in lines if x["statement"].startswith(f"INSERT INTO {world.store.engine.database}.events")]
    assert inserts
    assert all("FORMAT Arrow" in x["statement"] or "`" in x["statement"] for x in inserts)
    assert all(x["settings"]["async_insert"] == "0" for x in inserts)
    assert all(int(x["settings"]["min_insert_block_size_rows"]) >= 1_000_000 for x in inserts)
    assert all(x["agent"].startswith("clickhouse-connect/") for x in lines)
