from types import SimpleNamespace
from typing import Any, cast

import pytest

from collectors.metrics import section
from tracker.api.reading import moment, span
from tracker.api.routes.reconciliation import finest
from tracker.api.snapshot import Snapshot
from tracker.api.together import Failed, asked
from tracker.console import looks
from tracker.console.overview import bar
from tracker.control.errors import Invalid
from tracker.model.errors import Unavailable
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND
from tracker.model.verdict import Verdict
from tracker.slo.metrics import ALL, OBJECTIVE_MET, Metrics, page

NOW = 1_800_000_000 * SECOND


def test_times_in_queries():
    """RFC 3339, epoch, now, and a span before now are understood; anything else names the parameter."""
    assert moment("now", NOW, "from") == NOW
    assert moment("-15m", NOW, "from") == NOW - 900 * SECOND
    assert moment("2027-01-15T08:00:00Z", NOW, "from") == NOW
    assert span("10s", "step") == 10 * SECOND
    with pytest.raises(Invalid, match="from: 'noon'"):
        moment("noon", NOW, "from")
    with pytest.raises(Invalid, match="step"):
        span("wide", "step")


@pytest.mark.parametrize("length", [1, 10 * SECOND, 3600 * SECOND, 86_400 * SECOND, 31 * 86_400 * SECOND + 1])
def test_windows_are_as_fine_as_fits(length):
    """By default a span is cut into at most 1,000 windows, of whole multiples of ten seconds."""
    width = finest(length)
    assert width % (10 * SECOND) == 0
    assert length / width <= 1000


def test_one_lost_message_is_visible_in_a_bar_of_a_million():
    """Segments keep the order of verdicts, fill the bar, and none vanishes."""
    segments = bar({"lost": 1, "delivered": 1_000_000})
    assert [s.verdict for s in segments] == ["delivered", "lost"]
    assert sum(s.width for s in segments) == pytest.approx(1000, abs=0.1)
    assert segments[1].width > 5
    assert bar({}) == []


def test_every_verdict_has_a_place_on_the_page():
    """No verdict is left out of bars and colours."""
    assert set(looks.TONES) == {verdict.value for verdict in Verdict}
    styles = (looks.__file__).replace("looks.py", "static/console.css")
    with open(styles, encoding="utf-8") as file:
        text = file.read()
    assert all(f".v-{verdict}" in text and f".b-{verdict}" in text for verdict in looks.TONES)


class Looked(Snapshot):
    """A snapshot whose counts take as long as it is told, by its own stopwatch."""

    def __init__(self):
        super().__init__(cast(Any, SimpleNamespace(metrics=Metrics())), lambda: self.time)
        self.time, self.takes, self.counts, self.fails = 1000.0, 0.0, 0, False
        self.findings, self.away = 0, False

    def _messages(self, now):
        self.time += self.takes
        self.counts += 1
        self.refresh(now + 10 * SECOND)  # somebody else looks meanwhile
        if self.fails:
            raise Unavailable("the store is down")

    def _ping(self, now):
        if self.away:
            raise Unavailable("the store is down")

    def _findings(self, now):
        self.findings += 1
        if self.fails:
            raise Unavailable("it takes too long")

    def _nothing(self, now):
        pass

    _threads = _owners = _store = _control = _flows = _recovery = _clocks = _burning = _objectives = _nothing

    def told(self, name):
        """What a gauge shows."""
        return self._service.metrics.registry.get_sample_value(name)


def test_counting_takes_a_small_share_of_the_time():
    """However often somebody looks and however long it takes; by one at once, and others do not wait for it. Findings
    are counted each time: somebody is woken by them."""
    looked = Looked()
    for second in range(100):
        looked.time = 1000 + 10 * second
        looked.refresh(NOW + 20 * second * SECOND)
    assert looked.counts == 100
    looked.takes, looked.counts = 30, 0
    for second in range(130):
        looked.time = 3000 + 10 * second
        looked.refresh(NOW + 20_000 * SECOND + 20 * second * SECOND)
    assert looked.counts == 5
    assert looked.findings >= 230


def test_one_slow_count_says_nothing_of_the_next():
    """The machine was busy for a moment: what is counted is not left to grow old for that."""
    looked = Looked()
    for takes in (0, 30, 0):
        looked.takes = takes
        looked.refresh(NOW + looked.counts * 20 * SECOND)
    assert looked.counts == 3


def test_counting_that_fails_is_tried_again():
    """At the next look; when it was done last is said meanwhile. The store is not to blame: it answers."""
    looked = Looked()
    looked.takes, looked.fails = 30, True
    looked.refresh(NOW)
    assert (looked.told("tracker_store_up"), looked.told("tracker_read_timestamp_seconds")) == (1, 0)
    looked.fails = False
    looked.refresh(NOW + 20 * SECOND)
    assert (looked.counts, looked.told("tracker_store_up")) == (2, 1)
    assert looked.told("tracker_read_timestamp_seconds") >= NOW / SECOND + 20


def test_a_store_that_is_away_is_not_asked():
    """Each question would wait for it."""
    looked = Looked()
    looked.away = True
    looked.refresh(NOW)
    assert (looked.told("tracker_store_up"), looked.findings, looked.counts) == (0, 0, 0)


def test_a_flow_that_cannot_be_asked_about_hides_no_other():
    """After a few in a row it is the store. All at once is tried first, as far as they have few messages."""
    specs = [cast(FlowSpec, SimpleNamespace(flow=flow)) for flow in "abcde"]
    said: list[str] = []

    def ask(failing):
        def work(some):
            said.append("".join(spec.flow for spec in some))
            if failing & set(said[-1]):
                raise Unavailable("too slow")

        said.clear()
        return asked(specs, {"d": 2_000_001}, work, lambda: False)

    failed = ask({"b"})
    assert (said, list(failed)) == (["abc", "a", "b", "c", "d", "e"], ["b"])
    with pytest.raises(Unavailable, match="1 flows could not be asked about, such as 'b': too slow"):
        failed.told()
    ask(set()).told()
    assert said == ["abc", "d", "e"]
    with pytest.raises(Unavailable, match=r"^too slow$"):
        ask(set("abcde"))
    assert said == ["abc", "a", "b", "c"]


def test_a_flow_that_failed_keeps_what_is_shown_of_it():
    """Others, and flows that are gone, are as they were found."""
    looked = Looked()
    shown: dict[tuple[str, ...], float] = {(flow, "freshness"): 0.0 for flow in "bc"}
    looked._replace(OBJECTIVE_MET, shown, Failed())
    looked._replace(OBJECTIVE_MET, {("a", "freshness"): 1.0}, Failed(b=Unavailable("too slow")))
    met = {flow: looked._service.metrics.registry.get_sample_value(
        "tracker_objective_met", {"flow": flow, "objective": "freshness"}) for flow in "abc"}  # fmt: skip
    assert met == {"a": 1, "b": 0, "c": None}


def test_ids_of_any_kind_make_links():
    """Slashes, dots and marks in an id are encoded, so that the link leads to that very message."""
    assert looks.message_path("orders", "a/../b?c#d é") == "/flows/orders/messages/a%2F..%2Fb%3Fc%23d%20%C3%A9"


@pytest.mark.parametrize(
    ("at", "said"),
    [(0, "never"), (NOW, "just now"), (NOW - 90 * SECOND, "90 s ago"), (NOW + 3600 * SECOND, "60 min ahead")],
)
def test_how_long_ago(at, said):
    """Ages are told in the largest unit that fits; a clock that is ahead is told, too."""
    assert looks.ago(at, NOW) == said


def test_the_metrics_page_is_up_to_date():
    """docs/metrics.md is what the definitions say; names are unique and begin with tracker_."""
    with open("docs/metrics.md", encoding="utf-8") as file:
        assert file.read() == page() + section()
    assert len({metric.name for metric in ALL}) == len(ALL)
    assert all(metric.name.startswith("tracker_") for metric in ALL)
