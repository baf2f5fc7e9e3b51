from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from collectors.delivery import LONGEST_WAIT, Delivery, Outcome, answer_of, retry_after
from tracker.model.coverage import Report


def response(status, **more):
    """An answer of a tracker."""
    return httpx.Response(status, request=httpx.Request("POST", "http://tracker/v1/events"), **more)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.stored), (202, Outcome.stored), (204, Outcome.stored), (207, Outcome.stored),
        (301, Outcome.refused), (400, Outcome.refused), (401, Outcome.refused), (403, Outcome.refused),
        (404, Outcome.refused), (422, Outcome.refused),
        (408, Outcome.again), (429, Outcome.again), (500, Outcome.again), (502, Outcome.again), (503, Outcome.again),
        (413, Outcome.too_large),
    ],
)  # fmt: skip
def test_what_a_status_means(status, outcome):
    """Stored, try again, somebody has to act, or smaller; the reason quotes the tracker."""
    answer = answer_of(response(status, text="said so"))
    assert answer.outcome is outcome
    assert outcome is Outcome.stored or "said so" in answer.reason


def test_retry_after_in_seconds_and_as_a_date():
    """Both forms of RFC 9110; nonsense and the past are no wait; an hour is cut."""
    assert retry_after("1.5") == 1.5
    assert 50 < retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)) == 0
    assert [retry_after(text) for text in ("", "soon", "-1", "nan")] == [0, 0, 0, 0]
    assert retry_after("3600") == retry_after("inf") == LONGEST_WAIT


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://tracker", "http://tracker:port"])
def test_a_url_that_is_none_is_named(url):
    """No exception of the client leaves; the reason names the URL."""
    delivery = Delivery(url)
    answer = delivery.send(b"", Report(collector="c", epoch=1, sequence=1))
    delivery.close()
    assert answer.outcome is Outcome.refused
    assert url in answer.reason
