"""Observed times are brought to the tracker's clock by what their collector measured."""

import json

import pytest

from tests.unit.ingest.lines import NOW, batch, event, moved, stored

REPORT = {"collector": "c", "epoch": 1, "sequence": 1, "events": 1}
DAY = 86_400_000_000


def reported(offset, error, *lines):
    """A batch whose collector measured its clock."""
    return batch(*lines, header=json.dumps({**REPORT, "offset_us": offset, "error_us": error}))


def times(got):
    """(observed_at, observed_span, origin_at, clock_offset, clock_error) of the only event."""
    [row] = stored(got)
    return [row[name] for name in ("observed_at", "observed_span", "origin_at", "clock_offset", "clock_error")]


def test_observed_times_are_corrected_and_say_so():
    """The interval moves as a whole; the origin time stays as it is carried, whoever stamped it."""
    line = event(observed_at=NOW - 50, observed_from=NOW - 90, origin_at=NOW - 100)
    assert times(reported(-7_000, 300, line)) == [NOW - 7_050, 40, NOW - 100, -7_000, 300]


def test_a_correction_smaller_than_its_error_is_none():
    """The clock was measured and found right: the error stays known."""
    assert times(reported(200, 300, event())) == [NOW, 0, 0, 0, 300]


@pytest.mark.parametrize("header", ["", json.dumps(REPORT), json.dumps({**REPORT, "offset_us": None})])
def test_an_unmeasured_clock_is_left_alone(header):
    """A reader sees by the broker's clock, somebody with curl by his own: nothing is added."""
    assert times(batch(event(), header=header)) == [NOW, 0, 0, 0, -1]


def test_ranges_are_corrected_too():
    """Polls are dated by the collector's clock; both ends move."""
    [row] = reported(5_000, 10, moved()).ranges.to_pylist()
    assert (row["observed_from"], row["observed_at"]) == (NOW - 5 + 5_000, NOW + 5_000)


def test_a_clock_days_ahead_is_measured_before_its_times_are_judged():
    """Uncorrected the line would lie too far ahead and go to quarantine; it is the corrected time that counts."""
    got = reported(-3 * DAY, 500, event(observed_at=NOW + 3 * DAY))
    assert (got.answer.quarantined, times(got)[0]) == (0, NOW)
    assert reported(3 * DAY, 500, event()).answer.quarantined == 1


@pytest.mark.parametrize(("offset", "error"), [(4 * 10**14, 5), (-4 * 10**14, 5), (7, -1)])
def test_an_absurd_offset_is_told_and_not_used(offset, error):
    """The events are stored as they came, the coverage counts, and the answer says why nothing was corrected."""
    got = reported(offset, error, event())
    [told] = got.answer.errors
    assert (told.line, told.field) == (0, "Tracker-Coverage")
    assert "not used" in told.reason
    assert (got.answer.accepted, got.answer.quarantined, got.reports.num_rows) == (1, 0, 1)
    assert times(got) == [NOW, 0, 0, 0, -1]


def test_reports_keep_the_offset_as_measured():
    """Also where it is too small to correct anything: an operator wants to see it."""
    [row] = reported(200, 300, event()).reports.to_pylist()
    assert (row["clock_offset"], row["clock_error"]) == (200, 300)
    [row] = batch(event(), header=json.dumps(REPORT)).reports.to_pylist()
    assert (row["clock_offset"], row["clock_error"]) == (0, -1)
