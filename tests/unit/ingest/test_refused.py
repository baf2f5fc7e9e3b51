"""Where refused lines may be from, as the report of our own on them says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from tests.unit.ingest.lines import CONTEXT, batch, body, event
from tests.unit.ingest.spans import ORDERS
from tests.unit.ingest.test_arrow import read, stream
from tracker.ingest.asked import KnownFlow
from tracker.ingest.lines.decode import decode
from tracker.ingest.prepare import prepare
from tracker.ingest.refused import MOST, Place, told
from tracker.model.coverage import Report, SourceRef
from tracker.model.spec import load_spec
from tracker.store.columns import REPORTS

FULL = ("orders", "kafka-eu", "persist")


def places(reports: pa.Table) -> list[Place]:
    """What the one report says."""
    assert reports.schema == REPORTS
    [row] = reports.to_pylist()
    assert (row["collector"], row["sequence"], row["received_at"]) == ("", CONTEXT.now, CONTEXT.now)
    assert row["signed_off"] == []
    return [(source["flow"], source["hop"], source["stage"]) for source in row["sources"]]


def test_a_place_is_told_as_far_as_the_line_does() -> None:
    """What breaks a rule of its own says nothing; lines of one place, and of flows that nobody knows, once or never."""
    bad = {"digest": "none"}
    assert places(batch(event(), event(**bad), event(**bad)).reports) == [FULL]
    assert places(batch(event(stage="sent"), event(hop="a b", **bad)).reports) == [
        ("orders", "", "persist"),
        ("orders", "kafka-eu", ""),
    ]
    assert places(batch(event(flow=None), b"x").reports) == [("", "", ""), ("", *FULL[1:])]
    assert places(batch(event(hop=None), event(stage={"a": 1})).reports) == [
        ("orders", "", "persist"),
        ("orders", "kafka-eu", ""),
    ]
    assert batch(event(), event(flow="nope")).reports.num_rows == 0


@pytest.mark.parametrize("stage", ["drop", "dead_letter"])
def test_what_ends_a_message_is_missed_everywhere(stage: str) -> None:
    """Whoever waits for the message behind that place waits because of this line, too."""
    assert places(batch(event(stage=stage, reason=None, digest="none")).reports) == [("orders", "", "")]


def test_a_hop_that_no_flow_has_may_be_any() -> None:
    """It is misspelt, or made up: told apart it would concern nobody, and be kept for ever."""
    context = replace(CONTEXT, flows={"orders": KnownFlow.of(load_spec(ORDERS))})
    lines = [event(hop=hop, flow=flow, digest="none") for hop in ("billing", "biling") for flow in ("orders", None)]
    assert places(prepare(decode(body(*lines)), "", context).reports) == [
        ("", "", "persist"),
        ("", "billing", "persist"),
        ("orders", "", "persist"),
        ("orders", "billing", "persist"),
    ]


def test_of_very_many_places_only_the_flow_is_kept() -> None:
    """A report is no longer than a few thousand places, whatever is sent."""
    lines = [event(hop=f"h{n}", digest="none") for n in range(MOST + 1)]
    assert places(batch(*lines).reports) == [("orders", "", "")]
    assert len(places(batch(*lines[1:]).reports)) == MOST


@pytest.mark.parametrize("worded", [False, True])
def test_columns_tell_it_too(worded: bool) -> None:
    """Arrow, its texts as they are or as places in a dictionary."""
    columns = pa.Table.from_pylist([event(digest="none"), event()])
    if worded:
        for name in ("flow", "hop", "stage"):
            at = columns.schema.get_field_index(name)
            columns = columns.set_column(at, name, columns[name].dictionary_encode())
    assert places(read(stream(columns)).reports) == [FULL]


def test_a_collectors_report_keeps_what_is_not_concerned() -> None:
    """It vouches for other places, with its own count of what it dropped; of those it says only that it signed off."""
    here, there = SourceRef(*FULL, "s"), SourceRef("orders", "shop", "produce", "s")
    report = Report(collector="c", epoch=1, sequence=2, dropped=1, sources=[here, there], signed_off=[here])
    ours, rest, broken = told(report, 2, [FULL], 7)
    assert (ours.collector, ours.dropped, ours.sources) == ("", 2, [SourceRef(*FULL, "")])
    assert (rest.dropped, rest.sources, rest.signed_off) == (1, [there], [])
    assert (broken.dropped, broken.sources, broken.signed_off) == (3, [], [here])
    assert told(report, 0, [], 7) == [report]
    assert told(None, 0, [], 7) == []


class Counted(list[Place]):
    """Places that note how often all of them were looked at."""

    looked = 0

    def __iter__(self) -> Iterator[Place]:
        self.looked += 1
        return super().__iter__()


@pytest.mark.parametrize("flow", [FULL[0], ""])
@pytest.mark.parametrize("hop", [FULL[1], ""])
@pytest.mark.parametrize("stage", [FULL[2], ""])
def test_what_a_place_leaves_open_fits_any(flow: str, hop: str, stage: str) -> None:
    """Only what it tells has to be the same."""
    report = Report(collector="c", epoch=1, sequence=1, sources=[SourceRef(*FULL, "s")])
    assert len(told(report, 1, [(flow, hop, stage)], 7)) == 2, "nothing is left that it vouches for"
    for other in (("x", hop, stage), (flow, "x", stage), (flow, hop, "ack")):
        assert len(told(report, 1, [other], 7)) == 3


def test_places_are_looked_up() -> None:
    """They are not all held against every source: there may be thousands of either."""
    sources = [SourceRef("orders", f"h{n}", "ack", "s") for n in range(50)]
    many = Counted(("orders", f"x{n}", "ack") for n in range(MOST))
    told(Report(collector="c", epoch=1, sequence=1, sources=sources), 1, many, 7)
    assert many.looked <= 2
