from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from collectors.delivery import LONGEST_WAIT, Delivery, Outcome, answer_of, retry_after
from collectors.errors import ConfigInvalid
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


LOGIN = "http://operator:s3cr%40t@"


def said(url, caplog):
    """Everything that a request to this address leaves behind in words: the answer's reason, and what is logged, by the
    HTTP library too."""
    caplog.set_level("DEBUG")
    delivery = Delivery(url)
    answer = delivery.send(b"", Report(collector="c", epoch=1, sequence=1))
    delivery.close()
    assert answer.outcome is not Outcome.stored
    assert answer.reason
    return answer.reason + caplog.text


@pytest.mark.parametrize(
    "rest",
    ["127.0.0.1:9", "127.0.0.1:port", "[::1", "127.0.0.1:9/p@th"],
)
def test_a_login_in_the_url_is_never_told(rest, caplog):
    """Nobody answers there, or it is no address at all: what is said names the place and neither user nor password."""
    told = said(LOGIN + rest, caplog)
    assert "operator" not in told
    assert "s3cr" not in told
    assert rest.partition("/")[0] in told


@pytest.mark.parametrize("url", ["http://operator:s3/cr@127.0.0.1:9", "ftp://operator:s3cr@tracker"])
def test_a_login_that_no_url_takes_is_not_told_either(url, caplog):
    """Not even the part of it that looks like a port."""
    told = said(url, caplog)
    assert "operator" not in told
    assert "s3" not in told


@pytest.mark.parametrize("token", ["two words", "first\nsecond", "schlüssel", "\x7f"])
def test_a_token_that_no_header_takes_is_refused_untold(token):
    """At once, not in the background, and without a word of it."""
    with pytest.raises(ConfigInvalid) as refused:
        Delivery("http://127.0.0.1:9", token)
    assert not any(word in str(refused.value) for word in token.split())
