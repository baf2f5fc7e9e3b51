"""What messages are counted as: once each, when first settled, whatever passes are done again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tests.store.test_crash import ACK, LOG, MIRROR, moved_to, says, whole
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.event import Event
from tracker.model.units import SECOND
from tracker.store.settled import COUNTS, HOUR, Took

SPEC = """
flow: {flow}
owner: team
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: mirror, stage: replicate, after: log, within: 30s, same_payload: true}}
  - {{hop: billing, stage: ack, after: log, within: 20s, at_most: 1}}
"""
HOPS = (("shop", "produce"), ("log", "persist"), ("mirror", "replicate"), ("billing", "ack"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all: each test has a flow and hours of its own."""
    installation = Installation(tmp_path_factory.mktemp("settled"))
    yield installation
    installation.close()


class Told:
    """A flow whose times are seconds from a full hour on, which lies behind all that other tests did."""

    def __init__(self, world: Installation, flow: str, promises: str = "") -> None:
        self.world, self.flow, self.store = world, flow, world.store
        world.now = self.base = (world.now // SECOND // HOUR + 2) * HOUR * SECOND
        self.text = (SPEC + promises.lstrip()).format(flow=flow)
        world.put(self.text)
        self.vouch()

    def passed(self, at: float, *events: Event, vouched: bool = True) -> None:
        """A pass at `at`, after these events came and every collector reported."""
        self.world.now = self.base + round(at * SECOND)
        self.world.observe(moved_to(one, self.flow, self.base) for one in events)
        if vouched:
            self.vouch()
        self.world.run_pass()

    def vouch(self) -> None:
        """Every collector reports."""
        self.world.vouch([SourceRef(self.flow, hop, stage, "all") for hop, stage in HOPS])

    def counts(self, start: int = 0, end: int = 4000) -> dict[str, int]:
        """What was counted, but for what is 0."""
        since = self.base // SECOND
        found = self.store.settled_between([self.flow], since + start, since + end, 10**9)
        return {name: getattr(found[0], name) for name in COUNTS if getattr(found[0], name)} if found else {}

    def took(self, start: int = 0, end: int = 4000) -> list[Took]:
        """How long messages took."""
        return self.store.took(self.base // SECOND + start, self.base // SECOND + end, [self.flow])

    def good(self, windows: list[int]) -> list[int]:
        """Messages that were settled as good in the last so many seconds."""
        return self.store.burning(self.world.now, windows)[self.flow].good


@pytest.fixture
def told(installed: Installation, request: pytest.FixtureRequest) -> Told:
    """A flow of the test's own."""
    return Told(installed, re.sub(r"\W|_", "-", request.node.name).strip("-"))


def test_a_message_counts_once(told: Told) -> None:
    """When it is first settled, as what it was then: a recovery refunds nothing, and settles nothing again."""
    told.passed(4, *whole("fine"), *whole("unacked")[:3], *whole("slow")[:3])
    assert told.counts() == {"begun": 3, "delivered": 1, "complete": 1}
    told.passed(40)
    assert told.counts() == {"begun": 3, "delivered": 1, "unacknowledged": 2, "complete": 1}
    told.passed(60, says("unacked", ACK, 50), says("slow", ACK, 8, received=59 * SECOND))
    settled = {"begun": 3, "delivered": 1, "unacknowledged": 2, "complete": 3, "turned_good": 1}
    assert told.counts() == settled  # slow was acknowledged in time, and only told late
    told.passed(90, says("fine", ACK, 80, delivery="again"))
    assert told.counts() == settled | {"duplicated": 1}
    told.passed(100, says("fine", MIRROR, 95, digest="bb"))
    assert told.counts() == settled | {"duplicated": 1, "diverged": 1, "turned_bad": 1}


def test_lost_twice_counts_once(told: Told) -> None:
    """What was bad, then in flight again, then bad once more, is one message."""
    told.passed(4, *whole("m")[:1])
    told.passed(30)
    assert told.counts() == {"begun": 1, "lost": 1}
    told.passed(40, says("m", LOG, 39, replay_id="r"))
    told.passed(100)
    assert told.counts() == {"begun": 1, "lost": 1}


def test_a_replay_corrects_nothing(told: Told) -> None:
    """What a replay delivered within its deadline had been bad rightly."""
    parked = says("m", "billing:dead_letter", 3, reason="poison")
    told.passed(4, *whole("m")[:3], parked)
    assert told.counts() == {"begun": 1, "dead_lettered": 1}
    told.passed(9, says("m", ACK, 8, delivery="d2", replay_id="r"))
    assert told.counts() == {"begun": 1, "dead_lettered": 1, "complete": 1}


def test_blind_and_explained_are_neither(told: Told) -> None:
    """They are counted for themselves, and settled by what is known later."""
    filtered = [*whole("x")[:3], says("x", "billing:drop", 3, reason="filtered")]
    told.passed(4, *whole("b")[:3], *filtered, vouched=False)
    told.passed(2000, *whole("other", at=1990), vouched=False)
    assert told.counts() == {"begun": 3, "delivered": 1, "complete": 1, "blind": 1, "explained": 1}
    told.passed(2010, says("b", ACK, 5, received=2009))
    assert told.counts() == {"begun": 3, "delivered": 2, "complete": 2, "blind": 1, "explained": 1}


def test_a_pass_done_again_counts_the_same(told: Told) -> None:
    """Also when it has already kept its counts: a row is replaced by itself."""
    told.passed(4, *whole("fine"), *whole("unacked")[:3])
    told.passed(40, says("fine", ACK, 38, delivery="again"))
    before, took = told.counts(), told.took()
    assert before == {"begun": 2, "delivered": 1, "unacknowledged": 1, "complete": 1, "duplicated": 1}
    for _ in range(2):
        told.world.cut_short()
        told.world.run_pass()
    assert (told.counts(), told.took()) == (before, took)
    assert told.good([60]) == [1]


def test_hours_say_the_same_as_passes(told: Told) -> None:
    """Once an hour is over it is read from its sum; spans that begin or end within it, from its passes."""
    world, store = told.world, told.store
    for n, at in enumerate((100, 1900, 3500, 3700, 5000, 7300)):
        told.passed(at, *whole(f"m{n}", at - 4), *whole(f"u{n}", at - 400)[:3])
    spans = [(0, 8000), (200, 8000), (2000, 3600), (3400, 7200), (3600, 7200), (0, 7301), (1900, 5000), (101, 3500)]
    windows = [300, 1800, 3600, 7200, 21_600, 86_400]
    before = [told.counts(*span) for span in spans], [told.took(*span) for span in spans], told.good(windows)
    assert before[2] == [1, 1, 2, 5, 6, 6]  # at 7300: the last hour begins at 3700, not included
    assert store.keep_hours(world.now) >= 2
    assert store.keep_hours(world.now) == 0
    after = [told.counts(*span) for span in spans], [told.took(*span) for span in spans], told.good(windows)
    assert after == before


def test_passes_are_dropped_when_their_hours_are_kept(told: Told) -> None:
    """After four days; what was counted stays."""
    store, db, days = told.store, told.store.engine.database, 6 * 86_400
    day = f"SELECT count() AS n FROM {db}.settled WHERE toDate(at) = toDate(fromUnixTimestamp64Micro({{at:Int64}}))"
    told.passed(10, *whole("m"))
    store.drop_settled(told.base + days * SECOND)
    assert store.engine.rows(day, {"at": told.base})[0]["n"]
    for at in (days, days + HOUR):
        told.passed(at, *whole(f"m{at}", at - 4))
    store.keep_hours(told.world.now)
    store.drop_settled(told.world.now)
    assert not store.engine.rows(day, {"at": told.base})[0]["n"]
    assert told.counts() == {"begun": 1, "delivered": 1, "complete": 1}


def test_the_reconciler_keeps_hours_by_itself(told: Told) -> None:
    """When the first pass of a later hour is done."""
    told.passed(100, *whole("a", 90))
    told.passed(3700, *whole("b", 3690))
    told.world.reconciler._sum_up()
    assert told.store.keep_hours(told.world.now) == 0
    assert told.good([7200]) == [2]


def test_how_long_messages_took(told: Told) -> None:
    """From origin to the last required checkpoint, and from each to the next; within 1 %."""
    events = [one for n in range(100) for one in took_as_long(f"m{n}", 1 + n / 10)]
    told.passed(60, *events, *whole("unacked")[:3])
    found = {(t.hop, t.stage): t.took for t in told.took()}
    exact = np.quantile([1 + n / 10 + 1 for n in range(100)], [0.5, 0.95, 0.99], method="lower")
    assert found["", ""] == pytest.approx(exact, rel=0.011)
    assert found["log", "persist"] == pytest.approx([1, 1, 1], rel=0.01)
    assert found["billing", "ack"] == pytest.approx(exact - 1, rel=0.011)
    since = told.base // SECOND
    assert [(t.hop, t.stage) for t in told.store.took(since, since + 100)] == [("", ""), ("mirror", "replicate")]


def took_as_long(ident: str, seconds: float) -> list[Event]:
    """A message that is acknowledged so long after it lay in the log, a second after it was made."""
    return [says(ident, "shop:produce", 0, origin_at=0), says(ident, LOG, 1), says(ident, MIRROR, 1.5),
            says(ident, ACK, 1 + seconds)]  # fmt: skip


@pytest.mark.parametrize("tail", ["lognormal", "pareto"])
def test_sketches_of_a_thousand_windows(tail: str, told: Told) -> None:
    """Half a million heavy-tailed latencies in sketches of a thousand windows: merged, each quantile is within 1 %."""
    random, many, engine, db = np.random.default_rng(7), 500_000, told.store.engine, told.store.engine.database
    exact = {"lognormal": random.lognormal(10, 2, many), "pareto": (random.pareto(1.1, many) + 1) * 500}[tail]
    values = np.clip(exact, 0, 6e11).round()
    engine.command(f"CREATE TABLE {db}.{tail} (n UInt64, took Float64) ENGINE = Memory")
    engine.insert(tail, pa.table({"n": pa.array(np.arange(many), pa.uint64()), "took": values}))
    engine.command(
        f"INSERT INTO {db}.latencies (flow, at, pass, sketch) SELECT {{flow:String}}, "
        f"toDateTime({{start:UInt32}} + n % 1000, 'UTC'), n % 1000, quantilesDDState(0.01, 0.5, 0.95, 0.99)(took) "
        f"FROM {db}.{tail} GROUP BY n % 1000",
        {"flow": told.flow, "start": told.base // SECOND},
    )
    engine.command(f"DROP TABLE {db}.{tail}")
    [found] = told.took()
    for quantile, took in zip((0.5, 0.95, 0.99), found.took, strict=True):
        low, high = (float(np.quantile(values, quantile, method=how)) for how in ("lower", "higher"))
        assert low * 0.99 <= took * SECOND <= high * 1.01
