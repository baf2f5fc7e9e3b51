"""Anomalies on the engine: seasons, minutes that nobody watched, one look after another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
from tracker.anomalies import watch as watch_
from tracker.anomalies.baseline import Baseline
from tracker.anomalies.look import usual
from tracker.anomalies.running import NAME, TTL, Open, Watching
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
from tracker.store.anomalies import HOUR, Anomaly, offset

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


def test_an_hour_in_which_nothing_was_judged_is_no_silence_either(new_store: Callable[[], Store], flow: str) -> None:
    """Of no flow; nor is the hour after it a surge, in which all of it is counted."""
    store, was, dark = new_store(), season_of(504), np.arange(10, 504, 168)
    for hour in dark:
        start = BEGIN + HOUR * int(hour) + 600
        store.keep_unjudged(start, start + 2400 + 600)
        was[hour], was[hour + 1] = was[hour] / 6, was[hour + 1] + was[hour] * 5 / 6
    [found] = store.seasons("volume", [flow], hourly(store, flow, was))
    expected = np.exp(np.array(found.seasonal) + found.short) * 60
    assert expected[[10, 11]] == pytest.approx(season_of(168)[[10, 11]], rel=0.3)


def test_hours_of_before_checkpoints_were_counted_are_not_learned_from(store: Store, flow: str) -> None:
    """Three weeks of a version that kept only how long messages took, then ten hours: these are the history."""
    seen = np.array([0] * 504 + [1200] * 10)
    at = pa.array(BEGIN + HOUR * np.arange(514), pa.uint32())
    columns = {"tenant": [""] * 514, "flow": [flow] * 514, "hop": ["log"] * 514, "stage": ["persist"] * 514, "at": at}
    store.engine.insert(
        "latency_hours", pa.table(columns | {name: pa.array(seen, pa.uint64()) for name in ("due", "seen")})
    )
    [found] = store.seasons("volume", [flow], BEGIN + HOUR * 514)
    assert (found.hours, found.period) == (10, 1)
    assert np.exp(found.short) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("zone", "days", "least", "most"),
    [("Europe/Berlin", 2, 0, 0.05), ("UTC", 2, 0.12, 1), ("UTC", 14, 0.12, 1), ("UTC", 28, 0, 0.05)],
)
def test_a_season_by_the_clock_that_people_live_by(
    zone: str, days: int, least: float, most: float, new_store: Callable[[], Store], flow: str
) -> None:
    """Some days after clocks were set forward hours are what they were, an hour of UTC earlier. By UTC they are not,
    until most of the weeks that are known are of after it."""
    store, hours = new_store(), 35 * 24
    changed = 1_806_282_000  # 2027-03-28T01:00:00Z
    start = changed + days * DAY * MINUTE - hours * HOUR
    at = start + HOUR * np.arange(hours + 24)
    shown = at + np.array([offset(one, "Europe/Berlin") for one in at.tolist()])
    was = season_of(24 * 400)[(shown - BEGIN) // HOUR]
    columns = {"tenant": [""] * hours, "flow": [flow] * hours, "at": pa.array(at[:hours], pa.uint32())}
    begun = pa.array(was[:hours], pa.float64()).cast("uint64")
    store.engine.insert("settled_hours", pa.table(columns | {"since": columns["at"], "begun": begun}))
    [found] = store.seasons("volume", [flow], start + HOUR * hours, zone)
    expected = np.exp(Baseline(found, start + HOUR * hours, 0, 1).expected(at[hours:])[1]) * 60
    assert least <= float(np.max(np.abs(expected / was[hours:] - 1))) <= most


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


def watched(store: Store, flow: str, start: int, end: int, step: int = 10) -> list[Anomaly]:
    """What is kept after looks from minute `start` to `end`, so many minutes apart, by a watch of its own."""
    watch = Watch(store, lambda: {flow: spec_of(flow)}, lambda: 1 << 60, lambda: 0.0)
    for minute in range(start, end + 1, step):
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


def test_an_outage_of_ours_is_no_quiet_flow(new_store: Callable[[], Store], flow: str) -> None:
    """Nothing was judged for six minutes, then all at once: where that is known nothing is told of any flow. The same
    counts of a tracker that judged all the time are low, and then high."""
    store, made = new_store(), calm(3)
    for counts in (made.begun, made.settled, made.missing, made.duplicated, *made.due, *made.seen):
        counts[AT + 6] += counts[AT : AT + 6].sum()
        counts[AT : AT + 6] = 0
    fill(store, flow, made)
    sum_up(store, flow)
    for known in (False, True):
        store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
        if known:
            store.keep_unjudged(BEGIN + AT * MINUTE, BEGIN + (AT + 6) * MINUTE)
        found = {one.direction for one in watched(store, flow, AT - 20, AT + 80) if one.signal == "volume"}
        assert found == (set() if known else {"low", "high"})


def test_minutes_are_looked_at_once_they_are_judged(store: Store, flow: str) -> None:
    """Not while the pass that counts what came in them is still to come; then all of them."""
    judged = [0]
    store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
    watch = Watch(store, lambda: {flow: spec_of(flow)}, lambda: judged[0])
    store.keep_anomalies([structs.replace(FOUND, flow=flow, last_at=BEGIN + 5 * MINUTE)], 5)
    assert watch.look((BEGIN + 5 * MINUTE) * SECOND) == [], "nothing was judged ever"
    judged[0] = (BEGIN + 5 * MINUTE) * SECOND
    assert watch.look((BEGIN + 20 * MINUTE) * SECOND) == []
    assert watch.look((BEGIN + 90 * MINUTE) * SECOND) == []
    judged[0] = (BEGIN + 90 * MINUTE) * SECOND
    [ended] = watch.look((BEGIN + 91 * MINUTE) * SECOND)
    assert ended.ended_by == "unwatched"


def test_a_look_each_minute_finds_what_one_look_at_all_of_them_does(store: Store, flow: str) -> None:
    """Each minute is decided by itself, by what was known then: not by the hour that ends with it."""
    made, span = calm(4), slice(AT + 38, AT + 58)
    made.seen[2, span] = np.round(made.seen[2, span] * 0.7)
    made.missing[span] = made.begun[span] - made.seen[2, span]
    fill(store, flow, made)
    sum_up(store, flow)
    found = []
    for step in (1, 25):
        store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
        found.append(watched(store, flow, AT + 35, AT + 60, step))
    assert found[0] == found[1]
    assert [one.signal for one in found[0]] == ["loss"]


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


def test_a_hop_that_left_its_flow_is_unusual_no_more(store: Store, flow: str) -> None:
    """Its anomaly ends when the spec names it no more, with the reason."""
    store.keep_anomalies([structs.replace(FOUND, flow=flow, hop="before", last_at=BEGIN)], 5)
    watched(store, flow, 10, 20)
    [one] = store.anomalies(flow=flow)
    assert (one.until, one.ended_by) == (BEGIN, "gone")


def test_what_has_no_history_any_more_is_not_unusual_for_ever(store: Store, flow: str) -> None:
    """Nothing is known of it, as where nobody watches: after an hour it ends."""
    store.keep_anomalies([structs.replace(FOUND, flow=flow, last_at=BEGIN)], 5)
    [one] = watched(store, flow, 10, 20)
    assert one.until == 0
    [one] = watched(store, flow, 60, 70)
    assert (one.until, one.ended_by) == (BEGIN, "unwatched")


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


class Resting(Event):
    """Ends a loop after some waits, each of which moves the clock, and calls for what happens meanwhile."""

    def __init__(self, now: list[int], waits: int, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._now, self._left, self._meanwhile = now, waits, meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        """No time passes but the test's."""
        self._now[0] += round((timeout or 0) * SECOND)
        self._left -= 1
        self._meanwhile()
        if not self._left:
            self.set()
        return self.is_set()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control database."""
    with Control.open(f"sqlite:///{tmp_path}/control.db") as opened:
        yield opened


def test_one_tracker_at_a_time_looks(
    store: Store, flow: str, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a lease; it shows what lasts, and the other one nothing. Who looks again has not forgotten what is usual."""
    now, learned = [(BEGIN + 6000) * SECOND], list[int]()

    def learn(*given: Any) -> Any:
        learned.append(1)
        return usual(*given)

    monkeypatch.setattr(watch_, "usual", learn)
    store.engine.command(f"TRUNCATE TABLE {store.engine.database}.anomalies")
    store.keep_anomalies([structs.replace(FOUND, flow=flow, last_at=BEGIN + 5400)], 5)
    shown: list[list[Open]] = [[], []]
    first, other = [watching(store, control, flow, told, now) for told in shown]
    first.step()
    first.step()
    assert shown[0] == [{(flow, "billing", "latency"): 1}] * 2
    other.step()
    assert shown[1] == [{(flow, "billing", "latency"): 1}], "an embedded ledger has one owner, and that is the newest"
    first.step()
    assert shown[0][-1] == {}
    first.step()
    assert shown[0][-1] == {}, "the other one still holds it"
    now[0] += TTL + 1
    first.step()
    assert shown[0][-1] == {(flow, "billing", "latency"): 1}
    assert len(learned) == 2, "once by each"
    other.step()
    assert shown[1][-1] == {}, "it was not renewed in time"


def test_who_rests_longer_than_a_lease_keeps_it(store: Store, flow: str, control: Control) -> None:
    """A look of half a minute rests for five; nobody else looks meanwhile, nor begins to learn."""
    now, asked = [(BEGIN + 6000) * SECOND], list[object]()

    def specs() -> dict[str, FlowSpec]:
        now[0] += 30 * SECOND  # so long takes a look
        return {flow: spec_of(flow)}

    def ask() -> None:
        if asked or control.leases.all():
            asked.append(control.leases.acquire(NAME, "another", now[0], TTL))

    one = Watching(store, control, specs, lambda found: None, lambda: now[0], lambda: 1 << 60, lambda: now[0] / SECOND)
    one.run(Resting(now, 40, ask))
    assert len(asked) > 30
    assert asked[:-1] == [None] * (len(asked) - 1)


def test_what_another_one_looks_for_is_shown_no_more(store: Store, flow: str, control: Control) -> None:
    """As soon as the lease is lost, in the middle of a rest; not at the next look."""
    now, shown = [(BEGIN + 6000) * SECOND], list[Open]()
    store.keep_anomalies([structs.replace(FOUND, flow=flow, last_at=BEGIN + 5400)], 5)

    def specs() -> dict[str, FlowSpec]:
        now[0] += 30 * SECOND
        return {flow: spec_of(flow)}

    def lose() -> None:
        if shown:
            control.leases.seize(NAME, "another", now[0], TTL)

    one = Watching(store, control, specs, shown.append, lambda: now[0], lambda: 1 << 60, lambda: now[0] / SECOND)
    one.run(Resting(now, 6, lose))
    assert shown == [{(flow, "billing", "latency"): 1}, {}]


def watching(store: Store, control: Control, flow: str, told: list[Open], now: list[int]) -> Watching:
    """One that looks at this flow."""
    return Watching(store, control, lambda: {flow: spec_of(flow)}, told.append, lambda: now[0], lambda: 1 << 60)
