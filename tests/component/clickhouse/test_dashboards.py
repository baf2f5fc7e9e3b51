"""Every SQL query of every dashboard, asked through `/clickhouse` as Grafana asks it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.component.clickhouse.conftest import Face, served
from tests.component.clickhouse.story import World
from tests.unit.faces import grafana
from tests.unit.faces.grafana import Query
from tests.world.installation import Installation
from tracker.dashboards.generate import DASHBOARDS
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage
from tracker.model.units import SECOND
from tracker.store.anomalies import Anomaly
from tracker.store.readonly import Bounds

SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 5s}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 5s, same_payload: true}
  - {hop: billing, stage: ack, after: kafka-eu, within: 10s, at_most: 1}
"""
PLACES = (("checkout", "produce"), ("kafka-eu", "persist"), ("kafka-us", "replicate"), ("billing", "ack"))
QUERIES = [query for board in DASHBOARDS.values() for query in grafana.queries(board.json(), "rawSql")]
EVERY = pytest.mark.parametrize("query", QUERIES, ids=str)
FLOWS = ["orders", "it's another"]
STAY_EMPTY = {"message: Messages of the same correlation or trace A"}
"""Not of one flow: what belongs together may lie in several."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twenty messages: m-3 is lost before the log, m-5 has another payload in kafka-us, m-6 no copy there, m-7 is never
    acknowledged, m-8 is delivered twice, m-9 comes back by itself, m-10 by a replay, m-11 is dead-lettered. A collector
    misses a report."""
    made = Installation(tmp_path_factory.mktemp("dashboards"))
    told = World(made, made.now)
    made.put(SPEC)
    _vouch(made)
    made.now += SECOND
    late = {3, 7, 9, 10, 11}
    with_it = {"correlation_id": "c-1"}
    made.observe(_seen(made, n, "checkout", "produce", **(with_it if n in (1, 10) else {})) for n in range(20))
    made.observe(_seen(made, n, "kafka-eu", "persist", node="b1", digest="aa" * 8) for n in range(20) if n != 3)
    copied = [n for n in range(20) if n not in (3, 6)]
    made.observe(
        _seen(made, n, "kafka-us", "replicate", node="b2", digest=("bb" if n == 5 else "aa") * 8) for n in copied
    )
    made.observe(_seen(made, n, "billing", "ack", delivery=f"d-{n}") for n in range(20) if n not in late)
    made.observe([_seen(made, 8, "billing", "ack", delivery="d-8 again")])
    made.observe([_seen(made, 11, "billing", "dead_letter", reason="poison")])
    for second in range(20):
        made.now += SECOND
        _vouch(made)
        if second == 10:
            made.sequence["c"] += 1
        made.run_pass()
    made.observe([_seen(made, 9, "billing", "ack", delivery="d-9")])
    made.observe([_seen(made, 10, "billing", "ack", delivery="d-10", replay_id="r-1")])
    made.now += SECOND
    _vouch(made)
    made.run_pass()
    at = told.start // SECOND
    made.store.keep_anomalies([_off("volume", at, 0), _off("latency", at, at + 5, "billing", "ack")], made.now)
    yield told
    made.close()


@pytest.fixture(scope="module")
def asked(story: World) -> Iterator[Face]:
    """The app over that ledger."""
    with served(story, Bounds()) as running:
        yield running


def _seen(made: Installation, number: int, hop: str, stage: str, **more: Any) -> Event:
    return Event(flow="orders", message_id=f"m-{number}", hop=hop, stage=Stage(stage), observed_at=made.now, **more)


def _off(signal: str, since: int, until: int, hop: str = "", stage: str = "") -> Anomaly:
    times = {"since": since, "opened_at": since + 1, "last_at": since + 2, "until": until}
    ended = "usual" if until else ""
    return Anomaly(flow="orders", hop=hop, stage=stage, signal=signal, direction="high", ended_by=ended, expected=1.0,
                   came=3.0, distance=9.0, baseline="hour of week", **times)  # fmt: skip


def _vouch(made: Installation) -> None:
    made.vouch([SourceRef("orders", hop, stage, "s") for hop, stage in PLACES], lag_ms=0)


def _ask(face: Face, story: World, query: Query, message: str = "m-10", flows: list[str] = FLOWS) -> pa.Table:
    """What Grafana's data source would get, over the whole story."""
    values: dict[str, str | list[str]] = {
        "database": "tracker_views",
        "tracker": "http://t",
        "flow": flows,
        "hop": [hop for hop, _ in PLACES],
        "message": message,
    }
    text = grafana.sql(query.text, values, story.start // SECOND, story.installation.now // SECOND + 1, 10)
    answer = face.post(text, default_format="ArrowStream", output_format_arrow_string_as_string=1)
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_uint32(kind)


def _is_name(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_dictionary(kind)


@EVERY
def test_every_query_gives_what_is_drawn(asked: Face, story: World, query: Query) -> None:
    """Rows come; a graph over time gets a time, numbers and at most one name; an annotation has Grafana's fields; a
    variable has one column of names."""
    rows = _ask(asked, story, query)
    assert rows.num_rows > 0
    kinds = [field.type for field in rows.schema]
    if query.kind == "timeseries":
        assert query.target["queryType"] == "timeseries"
        assert rows.column_names[0] == "time"
        assert _is_time(kinds[0])
        assert sum(_is_name(kind) for kind in kinds) <= 1
        numbers = [kind for kind in kinds[1:] if not _is_name(kind)]
        assert numbers
        assert all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in numbers)
    elif query.kind == "annotation":
        assert rows.column_names == ["time", "timeEnd", "title", "text", "tags"]
        assert all(_is_time(kind) for kind in kinds[:2])
        assert all(row["time"] <= row["timeEnd"] for row in rows.to_pylist())
    elif query.kind == "variable":
        assert len(kinds) == 1
        assert _is_name(kinds[0])
    else:
        assert query.kind == "table"
        assert query.target["queryType"] == "table"


@EVERY
def test_another_flow_sees_nothing(asked: Face, story: World, query: Query) -> None:
    """The flow that a viewer chose filters every panel but those about collectors, which belong to no flow."""
    if "flow" in query.text and query.where not in STAY_EMPTY:
        assert _ask(asked, story, query, flows=["nobody's"]).num_rows == 0
    else:
        assert "reports" in query.text or query.where in STAY_EMPTY


PANELS = [
    (board.json()["uid"], panel)
    for board in DASHBOARDS.values()
    for panel in grafana.panels(board.json())
    if "rawSql" in panel["targets"][0]
]


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}: {panel['title']}" for uid, panel in PANELS])
def test_links_stand_on_columns_that_come_back(asked: Face, story: World, uid: str, panel: dict[str, Any]) -> None:
    """A link or a unit on a column, and every field that a link's address uses, is a column of the answer."""
    target = panel["targets"][0]
    columns = set(_ask(asked, story, Query(panel["title"], panel["type"], target["rawSql"], target)).column_names)
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            if each["id"] in ("links", "unit"):
                assert override["matcher"]["options"] in columns
            if each["id"] == "links":
                used = {name for link in each["value"] for name in re.findall(r"__data\.fields\.(\w+)", link["url"])}
                assert used <= columns


def _panel(face: Face, story: World, where: str, message: str = "m-10") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _ask(
        face, story, next(query for query in QUERIES if query.where == where), message
    ).to_pylist()
    return rows


def test_the_overview_shows_what_happened(asked: Face, story: World) -> None:
    """Counts per verdict, incidents with their numbers."""
    verdicts: dict[str, int] = {}
    for row in _panel(asked, story, "overview: Verdicts by creation time A"):
        verdicts[row["verdict"]] = verdicts.get(row["verdict"], 0) + row["messages"]
    assert verdicts == {
        "delivered": 13, "late": 2, "lost": 1, "unacknowledged": 1, "divergent": 1, "under_replicated": 1,
        "dead_lettered": 1,
    }  # fmt: skip
    open_ = {(row["hop"], row["kind"]) for row in _panel(asked, story, "overview: Incidents with open findings A")}
    assert open_ == {
        ("kafka-eu", "lost"), ("billing", "unacknowledged"), ("kafka-us", "divergent"),
        ("kafka-us", "under_replicated"), ("billing", "dead_lettered"),
    }  # fmt: skip


def test_the_flow_is_shown_hop_by_hop(asked: Face, story: World) -> None:
    """Messages per hop, what was sent again, which message came twice, where the time went."""
    hops = {row["hop"]: row for row in _panel(asked, story, "flow: Hops A") if row["stage"] != "dead_letter"}
    assert {hop: row["messages"] for hop, row in hops.items()} == {
        "checkout": 20, "kafka-eu": 19, "kafka-us": 18, "billing": 17
    }  # fmt: skip
    assert hops["billing"]["sent_again"] == 1
    [twice] = _panel(asked, story, "flow: Delivered most often A")
    assert (twice["message_id"], twice["hop"], twice["deliveries"]) == ("m-8", "billing", 2)
    took = _panel(asked, story, "flow: To each hop from the one before it: p99 A")
    assert max(row["p99"] for row in took if row["place"] == "billing:ack") == pytest.approx(20, rel=0.02)
    assert max(row["p99"] for row in took if row["place"] == "kafka-us:replicate") < 0.1


def test_a_message_is_shown_with_its_way(asked: Face, story: World) -> None:
    """Verdict, timeline in order with the time since it was first seen, findings, and who went with it."""
    [verdict] = _panel(asked, story, "message: Verdict A")
    assert (verdict["verdict"], verdict["flags"]) == ("late", "replayed")
    way = _panel(asked, story, "message: Timeline A")
    assert [(row["hop"], row["after"]) for row in way][-1] == ("billing", 20.0)
    [finding] = _panel(asked, story, "message: Findings of this message A")
    assert (finding["kind"], finding["status"], finding["by"]) == ("unacknowledged", "recovered", "replay")
    went = _panel(asked, story, "message: Messages of the same correlation or trace A")
    assert {row["message_id"] for row in went} == {"m-1", "m-10"}


def test_recovery_and_coverage_are_shown(asked: Face, story: World) -> None:
    """How long finding and recovering took, what is lost for good, and the span for which nobody vouched."""
    assert all(0 <= row["p99"] < 3 for row in _panel(asked, story, "recovery: Time to detect A"))
    back = _panel(asked, story, "recovery: Time to recover A")
    assert {row["by"] for row in back} == {"itself", "replay"}
    assert all(0 < row["p90"] < 30 for row in back)
    lost = _panel(asked, story, "recovery: Lost for good, by when it was found A")
    assert [(row["ended"], row["findings"]) for row in lost] == [("open, no copy is left", 1)]
    holes = _panel(asked, story, "coverage: Holes A")
    assert {row["hop"] for row in holes} == {hop for hop, _ in PLACES}
    assert all(row["lasted"] == pytest.approx(1.0) for row in holes)
    sources = _panel(asked, story, "coverage: Sources A")
    assert {(row["hop"], row["state"], row["runs"]) for row in sources} == {(hop, "open", 2) for hop, _ in PLACES}
