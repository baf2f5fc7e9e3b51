from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest

from tests.unit.faces import grafana
from tests.world.installation import Installation
from tracker.dashboards import overview
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND

SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: kafka-eu, within: 10s}
"""
FLOWS = ["orders", "it's another"]
QUERIES = dict(grafana.queries(overview.dashboard(), "rawSql"))


@dataclass
class World:
    """An installation in which 1 of 20 messages never reached the log, 1 was never acknowledged, 1 came back."""

    installation: Installation
    start: int

    def ask(self, title: str) -> pa.Table:
        """What the panel's query gives over the whole story."""
        engine = self.installation.store.engine
        text = grafana.sql(
            QUERIES[title], FLOWS, engine.database, self.start // SECOND, self.installation.now // SECOND, 10
        )
        return engine.table(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twenty messages: m-3 is lost before the log, m-7 unacknowledged, m-9 recovered by itself after its deadline."""
    made = Installation(tmp_path_factory.mktemp("panels"))
    story = World(made, made.now)
    made.put(SPEC)
    _vouch(made)
    made.now += SECOND
    made.observe(_event(made, n, "checkout", Stage.produce) for n in range(20))
    made.observe(_event(made, n, "kafka-eu", Stage.persist) for n in range(20) if n != 3)
    made.observe(_event(made, n, "billing", Stage.ack) for n in range(20) if n not in (3, 7, 9))
    for _ in range(20):
        made.now += SECOND
        _vouch(made)
        made.run_pass()
    made.observe([_event(made, 9, "billing", Stage.ack)])
    made.now += SECOND
    _vouch(made)
    made.run_pass()
    yield story
    made.close()


def _event(made: Installation, number: int, hop: str, stage: Stage) -> Event:
    return Event(flow="orders", message_id=f"m-{number}", hop=hop, stage=stage, observed_at=made.now)


def _vouch(made: Installation) -> None:
    places = (("checkout", "produce"), ("kafka-eu", "persist"), ("billing", "ack"))
    made.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in places], lag_ms=0)


@pytest.mark.parametrize("title", QUERIES)
def test_every_query_runs_and_gives_what_its_panel_draws(world: World, title: str) -> None:
    """Each panel's SQL runs on the engine and returns rows; a series has a time, numbers, and at most one name."""
    rows = world.ask(title)
    assert rows.num_rows > 0
    target = next(t for p in grafana.panels(overview.dashboard()) if p["title"] == title for t in p["targets"])
    if target["queryType"] == "timeseries":
        kinds = [field.type for field in rows.schema]
        assert rows.column_names[0] == "time"
        assert pa.types.is_timestamp(kinds[0]) or pa.types.is_uint32(kinds[0])
        assert sum(pa.types.is_string(kind) for kind in kinds) <= 1
        assert any(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds[1:])


@pytest.mark.parametrize("title", QUERIES)
def test_links_stand_on_columns_that_come_back(world: World, title: str) -> None:
    """A link on a column, and every field that its address uses, is a column of the answer."""
    columns = set(world.ask(title).column_names)
    panel = next(p for p in grafana.panels(overview.dashboard()) if p["title"] == title)
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            if each["id"] in ("links", "unit"):
                assert override["matcher"]["options"] in columns
            if each["id"] == "links":
                used = {
                    part.split("}")[0].split(":")[0] for part in each["value"][0]["url"].split("__data.fields.")[1:]
                }
                assert used <= columns


def _verdicts(world: World) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in world.ask("Verdicts by creation time").to_pylist():
        found[row["verdict"]] = found.get(row["verdict"], 0) + row["messages"]
    return found


def test_the_panels_show_what_happened(world: World) -> None:
    """Counts per verdict, the open findings by name, and how long finding and recovering took."""
    assert _verdicts(world) == {"delivered": 17, "late": 1, "lost": 1, "unacknowledged": 1}
    [row] = world.ask("Messages by flow").to_pylist()
    assert (row["flow"], row["messages"], row["wrong"], row["late"]) == ("orders", 20, 2, 1)
    named = {(r["message_id"], r["kind"], r["hop"]) for r in world.ask("Newest open findings").to_pylist()}
    assert named == {("m-3", "lost", "kafka-eu"), ("m-7", "unacknowledged", "billing")}
    assert all(0 <= row["p99"] < 3 for row in world.ask("Time to detect").to_pylist())
    [back] = world.ask("Time to recover").to_pylist()
    assert back["by"] == "itself"
    assert 0 < back["p90"] < 30


def test_sources_and_collectors_are_listed(world: World) -> None:
    """Who vouches for what, until when; and how far behind each collector said it was."""
    sources = world.ask("Sources").to_pylist()
    assert {(row["hop"], row["stage"], row["state"]) for row in sources} == {
        ("checkout", "produce", "open"),
        ("kafka-eu", "persist", "open"),
        ("billing", "ack", "open"),
    }
    [collector] = world.ask("Collectors").to_pylist()
    assert (collector["collector"], collector["lag"], collector["dropped"]) == ("c", 0.0, 0)


def test_another_flow_sees_nothing(world: World) -> None:
    """The flow that a viewer chose filters every panel but the collectors'."""
    engine = world.installation.store.engine
    asked = {
        title: grafana.sql(text, ["nobody's"], engine.database, 0, 2_000_000_000) for title, text in QUERIES.items()
    }
    assert all(engine.table(text).num_rows == 0 for title, text in asked.items() if title != "Collectors")
