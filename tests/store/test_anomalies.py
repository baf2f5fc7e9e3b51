"""Anomalies on the engine: seasons, minutes that nobody watched, one look after another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec import structs

from tests.benchmarks.anomalies import BEGIN, fill, sum_up
from tests.benchmarks.anomalies import SPEC as FLOW
from tests.component.api.talk import Client
from tracker.anomalies.look import usual
from tracker.anomalies.running import Open, Watching
from tracker.anomalies.watch import Watch
from tracker.api.app import create_app
from tracker.api.service import Service
from tracker.api.specs import Specs
from tracker.control import Control
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.model.errors import Invalid
from tracker.model.spec import FlowSpec, load_spec
from tracker.model.units import SECOND
from tracker.simulate.seasons import DAY, HOPS, MINUTE, Weeks, weeks
from tracker.slo.metrics import Metrics
from tracker.store import Store
from tracker.store.anomalies import HOUR, Anomaly

# --- seasons ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(embedded_folder: Path) -> Iterator[Store]:
    """One store for all: each test has a flow of its own."""
    opened = Store.open(f"chdb://{embedded_folder}?database=anomalies", durability="process")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def flow(request: pytest.FixtureRequest) -> str:
    """The test's own."""
    return re.sub(r"\W|_", "-", request.node.name).strip("-")


def hourly(store: Store, flow: str, per_hour: Any) -> int:
    """Write so many new messages per hour, from `BEGIN` on; the end of the last hour."""
    count = len(per_hour)
    at = pa.array(BEGIN + HOUR * np.arange(count), pa.uint32())
    columns = {"tenant": [""] * count, "flow": [flow] * count, "at": at, "since": at}
    store.engine.insert("settled_hours", pa.table(columns | {"begun": pa.array(per_hour, pa.float64()).cast("uint64")}))
    return BEGIN + HOUR * count


def season_of(hours: int) -> Any:
    """Messages per hour with a season of the day and a weekend."""
    t = np.arange(hours)
    return np.round(6000 * np.exp(0.5 * np.sin(2 * np.pi * t / 24)) * np.where(t % 168 >= 120, 0.5, 1.0))


@pytest.mark.parametrize(("hours", "period"), [(840, 168), (336, 168), (335, 24), (72, 24), (71, 1), (6, 1)])
def test_a_season_by_the_history_there_is(hours: int, period: int, store: Store, flow: str) -> None:
    """Two weeks make a season of the week, three days one of the day, six hours a level."""
    [found] = store.seasons("volume", [flow], hourly(store, flow, season_of(hours)))
    assert (found.hours, found.period, len(found.seasonal)) == (hours, period, period)


def test_without_history_nothing_is_usual(store: Store, flow: str) -> None:
    """Five hours are too few."""
    assert store.seasons("volume", [flow], hourly(store, flow, season_of(5))) == []


@pytest.mark.parametrize("weeks_", [2, 3, 5])
def test_the_season_knows_the_next_hours(weeks_: int, store: Store, flow: str) -> None:
    """Also after an hour of silence and a surge in the past: what lies far out does not count, in whichever week."""
    hours = weeks_ * 168
    was = season_of(hours)
    was[hours - 160], was[hours - 100] = 0, was[hours - 100] * 4
    [found] = store.seasons("volume", [flow], hourly(store, flow, was))
    expected = np.exp(np.array(found.seasonal) + found.short) * 60
    assert expected == pytest.approx(season_of(hours + 168)[-168:], rel=0.12)
    assert found.short == pytest.approx(found.long, abs=0.05)
    assert found.spread < 0.05


def test_a_new_level_is_known_after_half_a_day(store: Store, flow: str) -> None:
    """By the level of the last day, while that of the last week is still there beside it."""
    was = season_of(840)
    was[-14:] *= 2
    [found] = store.seasons("volume", [flow], hourly(store, flow, was))
    assert found.short - found.long == pytest.approx(np.log(2), abs=0.1)


def test_an_hour_that_nobody_watched_is_not_silence(store: Store, flow: str) -> None:
    """It is left out of the season: a collector that is off every Monday makes no quiet Mondays."""
    was, dark = season_of(504), np.arange(10, 504, 168)
    was[dark] = 0
    store.keep_unwatched([(flow, "", "", BEGIN + HOUR * int(h) + 60 * m, 60) for h in dark for m in range(60)])
    end = hourly(store, flow, was)
    [found] = store.seasons("volume", [flow], end)
    expected = np.exp(np.array(found.seasonal) + found.short) * 60
    assert expected[10] == pytest.approx(season_of(168)[10], rel=0.3)
    [dim] = store.seasons("coverage", [flow], end)
    assert np.argmax(dim.seasonal) == 10


# --- one look after another ---------------------------------------------------------------------------------------


def calm(seed: int) -> Weeks:
    """Sixteen days of a flow without anomalies."""
    made = weeks(seed, 200, 3, 3)
    cut = slice(0, 16 * DAY)
    parts = {name: getattr(made, name)[..., cut] for name in
             ("begun", "settled", "missing", "duplicated", "due", "seen", "took", "blind")}  # fmt: skip
    return replace(made, labels=(), **{name: part.copy() for name, part in parts.items()})


def spec_of(flow: str) -> FlowSpec:
    """Shop, log, billing."""
    return load_spec(FLOW.format(flow=flow))


def watched(store: Store, flow: str, start: int, end: int) -> list[Anomaly]:
    """What is kept after looks from minute `start` to `end`, ten minutes apart, by a watch of its own."""
    watch = Watch(store, lambda: {flow: spec_of(flow)}, lambda: 0.0)
    for minute in range(start, end + 1, 10):
        watch.look((BEGIN + minute * MINUTE + 30) * SECOND)
    return store.anomalies(flow=flow)


AT = 15 * DAY + 600
"""A minute with two weeks of history."""


def test_a_drop_is_told_once(store: Store, flow: str) -> None:
    """A flow at half its volume for 40 minutes: one anomaly, of the whole flow, with what was expected and came and
    since when; another process goes on with it, and ends it. The nights and weekends before were none."""
    made = calm(1)
    span = slice(AT, AT + 40)
    for name in ("begun", "settled", "missing"):
        getattr(made, name)[span] = np.round(getattr(made, name)[span] / 2)
    made.due[:, span], made.seen[:, span] = np.round(made.due[:, span] / 2), np.round(made.seen[:, span] / 2)
    fill(store, flow, made)
    sum_up(store, flow)
    [one] = watched(store, flow, AT - 120, AT + 20)
    assert (one.signal, one.direction, one.hop, one.until) == ("volume", "low", "", 0)
    assert abs(one.since - (BEGIN + AT * MINUTE)) <= 5 * MINUTE
    assert one.opened_at <= BEGIN + (AT + 10) * MINUTE
    assert one.came / one.expected == pytest.approx(0.5, abs=0.1)
    assert one.baseline == "hour_of_week"
    [over] = watched(store, flow, AT + 30, AT + 120)
    assert (over.key, over.since, over.ended_by) == (one.key, one.since, "usual")
    assert abs(over.until - (BEGIN + (AT + 40) * MINUTE)) <= 10 * MINUTE
    assert store.anomalies(flow=flow, open_=True) == []


def test_blind_is_not_quiet(store: Store, flow: str) -> None:
    """Nothing came because nobody looked, and then all of it at once: low coverage, and neither low nor high volume."""
    made = calm(2)
    made.blind[0, AT : AT + 30] = True
    for name in ("begun", "settled", "missing", "duplicated"):
        _kept_back(getattr(made, name))
    for hop in range(len(HOPS)):
        _kept_back(made.due[hop])
        _kept_back(made.seen[hop])
    fill(store, flow, made)
    sum_up(store, flow)
    found = watched(store, flow, AT - 60, AT + 120)
    assert {(one.signal, one.direction) for one in found} == {("coverage", "low")}
    [one] = found
    assert (one.hop, one.expected, one.came) == ("shop", 1, 0)


def _kept_back(counts: Any) -> None:
    counts[AT + 30] += counts[AT : AT + 30].sum()
    counts[AT : AT + 30] = 0


def test_a_flow_that_is_gone_is_unusual_no_more(store: Store, flow: str) -> None:
    """Its anomaly ends with it."""
    now = BEGIN + 600
    store.keep_anomalies([structs.replace(FOUND, flow=f"{flow}-before")], now * SECOND)
    watched(store, flow, 10, 20)
    [one] = store.anomalies(flow=f"{flow}-before")
    assert (one.until, one.ended_by) == (FOUND.last_at, "gone")


def test_what_is_usual_of_a_flow_that_loses_nothing(store: Store, flow: str) -> None:
    """Is nothing, as soon as it has a history; of a new flow it is not known."""
    assert usual(store, [spec_of(flow)], BEGIN + HOUR) == {}
    end = hourly(store, flow, season_of(200))
    assert usual(store, [spec_of(flow)], end)["loss", (flow, "", "")].season.seasonal == [0.0] * 24


# --- what is kept -------------------------------------------------------------------------------------------------

FOUND = Anomaly("orders", "billing", "ack", "latency", "high", 1000, 1300, 1600, 0, "", 0.2, 0.9, 7.5, "hour_of_day")


def test_anomalies_are_read_page_by_page(store: Store) -> None:
    """Each once, the newest first, by any filter; what is kept again replaces what was kept before."""
    store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
    many = [
        structs.replace(FOUND, flow=f"f{n % 3}", since=1000 + n // 2, hop=("", "log")[n % 2], until=n % 4)
        for n in range(20)
    ]
    store.keep_anomalies(many, 5)
    store.keep_anomalies([structs.replace(one, came=1.5) for one in many], 6)
    found, cursor = list[Anomaly](), None
    while page := store.anomalies(after=cursor, limit=3):
        found += page
        cursor = store.anomaly_cursor(page[-1])
    assert sorted(found, key=str) == sorted((structs.replace(one, came=1.5) for one in many), key=str)
    assert [one.since for one in found] == sorted((one.since for one in many), reverse=True)
    assert {one.flow for one in store.anomalies(flow="f1")} == {"f1"}
    assert {one.hop for one in store.anomalies(hop="")} == {""}
    assert store.anomalies(signal="volume") == []
    assert all(one.until == 0 for one in store.anomalies(open_=True))
    assert len(store.anomalies(open_=True)) + len(store.anomalies(open_=False)) == 20
    with pytest.raises(Invalid, match="none of ours"):
        store.anomalies(after="x")


def test_minutes_of_long_ago_are_dropped(store: Store, flow: str) -> None:
    """By months, once no season looks at them."""
    store.keep_unwatched([(flow, "", "", BEGIN, 60), (flow, "", "", BEGIN + 90 * 86_400, 60)])
    store.drop_unwatched(BEGIN + 90 * 86_400)
    assert store.unwatched([flow], BEGIN, BEGIN + 60, 60).num_rows == 0
    assert store.unwatched([flow], BEGIN, BEGIN + 100 * 86_400, HOUR).num_rows == 1


def test_the_api_tells_them_page_by_page(store: Store, flow: str, tmp_path: Path) -> None:
    """With what was expected and came, in words too; narrowed by what is asked for; no cursor but ours is taken."""
    store.keep_anomalies([structs.replace(FOUND, flow=flow, since=n, until=n % 2) for n in range(1, 6)], 5)
    with Control.open(f"sqlite:///{tmp_path}/control.db") as control, closing(Committer(store, Bounds())) as committer:
        specs = Specs(control)
        intake = Intake(committer, specs.at_ingest, salt=7, inflated=1 << 20)
        service = Service(store, control, intake, specs, Metrics(), lambda: 0, insecure=True)
        with closing(Client(create_app(service))) as client:
            first = client.request("GET", f"/v1/anomalies?flow={flow}&limit=3").json()
            second = client.request("GET", f"/v1/anomalies?flow={flow}&limit=3&cursor={first['next']}").json()
            assert [one["since"][17:19] for page in (first, second) for one in page["items"]] == [
                "05", "04", "03", "02", "01"
            ]  # fmt: skip
            assert second["next"] is None
            assert "0.9 s came" in first["items"][0]["why"]
            lasting = client.request("GET", f"/v1/anomalies?flow={flow}&open=true&hop=billing&signal=latency").json()
            assert [one["until"] for one in lasting["items"]] == [None, None]
            assert client.request("GET", f"/v1/anomalies?flow={flow}&hop=log").json()["items"] == []
            assert client.request("GET", "/v1/anomalies?cursor=x").status_code == 422
            assert client.request("GET", "/v1/anomalies?signal=weather").status_code == 422


def test_one_tracker_at_a_time_looks(store: Store, flow: str, tmp_path: Path) -> None:
    """By a lease; it shows what lasts, and the other one nothing."""
    now = [(BEGIN + 6000) * SECOND]
    store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
    store.keep_anomalies([structs.replace(FOUND, flow=flow)], 5)
    with Control.open(f"sqlite:///{tmp_path}/control.db") as control:
        shown: list[list[Open]] = [[], []]
        both = [Watching(store, control, lambda: {flow: spec_of(flow)}, told.append, lambda: now[0], lambda: 0.0)
                for told in shown]  # fmt: skip
        both[0].step(Event())
        both[0].step(Event())
        assert shown[0] == [{(flow, "billing", "latency"): 1}] * 2
        both[1].step(Event())
        assert shown[1] == [{(flow, "billing", "latency"): 1}], (
            "an embedded ledger has one owner, and that is the newest"
        )
        both[0].step(Event())
        assert shown[0][-1] == {}
