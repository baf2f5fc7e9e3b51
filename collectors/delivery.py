"""One request to the tracker and what its answer means. Nothing here waits or tries again."""

from __future__ import annotations

import gzip
import json
import re
import time
from email.utils import parsedate_to_datetime
from enum import Enum, auto

import httpx
import msgspec

from collectors.clock import Clock
from collectors.errors import ConfigInvalid
from collectors.logins import apart, without_logins
from collectors.node_clock import Exchange, ticks
from tracker.model.clock import ANSWER_HEADER, answered
from tracker.model.coverage import Report

COVERAGE_HEADER = "Tracker-Coverage"
HEADER_LIMIT = 6 * 1024
"""A longer report goes alone, after its lines: proxies refuse header lines beyond 8 KiB."""
LONGEST_WAIT = 300.0
"""Seconds; a Retry-After beyond that is cut."""
_SMALL = 512
_TOKEN = re.compile(r"[\x21-\x7e]*")


class Outcome(Enum):
    """What the sender does next."""

    stored = auto()
    again = auto()
    """Overloaded or unreachable: try again, with backoff."""
    refused = auto()
    """Wrong token, wrong URL or a request it does not like: a person has to act; keep the data, try slowly."""
    too_large = auto()
    """Send fewer lines at once."""


class Answer(msgspec.Struct, frozen=True):
    """`wait` is the tracker's Retry-After in seconds. `quarantined` lines were kept by the tracker, not stored;
    `errors` are the first of its reasons."""

    outcome: Outcome
    reason: str = ""
    wait: float = 0.0
    quarantined: int = 0
    errors: list[str] = []


class Delivery:
    """Talks to one tracker over a kept-alive connection. Used by one thread. `timeout` in seconds; `steady` times
    the requests. A login in `url` goes into a header (RFC 7617), in place of the token: no reason, and no log line of
    the HTTP library, shows it. Raises `ConfigInvalid` for a token that no header takes."""

    def __init__(self, url: str, token: str = "", timeout: float = 10.0, steady: Clock = ticks) -> None:
        headers = {"Authorization": f"Bearer {usable(token)}"} if token else {}
        address = apart(url.rstrip("/"))
        self.url = address.url
        self.round_trip = 0.0
        """Seconds that the last request took."""
        self.exchange: Exchange | None = None
        """When the last request was sent, received, answered and back; None where the answer did not tell."""
        self._ticks = steady
        self._http = httpx.Client(headers=headers, auth=address.login, timeout=timeout)

    def send(self, lines: bytes, report: Report) -> Answer:
        """Post NDJSON `lines` with their report; without lines, or with a report too long for a header, the report
        goes alone (`POST /v1/coverage`), after the lines that it counts."""
        as_header = _ascii(report)
        if not lines:
            return self._alone(report)
        fits = len(as_header) <= HEADER_LIMIT
        answer = self._post("/v1/events", lines, "application/x-ndjson", {COVERAGE_HEADER: as_header} if fits else {})
        if fits or answer.outcome is not Outcome.stored:
            return answer
        # What went into quarantine is a hole in coverage; with a report in the header the tracker declares it itself.
        alone = self._alone(msgspec.structs.replace(report, dropped=report.dropped + answer.quarantined))
        return answer if alone.outcome is Outcome.stored else alone

    def probe(self) -> Answer:
        """Ask for nothing but the time, twice: the first request may have to connect, the second shows the way."""
        answer = self._request("GET", "/healthz", b"", {})
        return self._request("GET", "/healthz", b"", {}) if self.exchange else answer

    def _alone(self, report: Report) -> Answer:
        answer = self._post("/v1/coverage", msgspec.json.encode(report), "application/json", {})
        if answer.outcome is Outcome.too_large:  # there is nothing to halve: a person has to raise that limit
            return msgspec.structs.replace(answer, outcome=Outcome.refused)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, path: str, body: bytes, content_type: str, headers: dict[str, str]) -> Answer:
        sent = {**headers, "Content-Type": content_type}
        if len(body) > _SMALL:
            body, sent["Content-Encoding"] = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
        return self._request("POST", path, body, sent)

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.exchange = None
        began = self._ticks()
        try:
            response = self._http.request(method, self.url + path, content=body, headers=headers)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            shown = without_logins(self.url)
            why = f": {error}" if shown == self.url else ""  # else it may quote a part of the login
            return Answer(Outcome.refused, f"tracker URL {shown!r} cannot be used{why}")
        except (httpx.TransportError, httpx.DecodingError) as error:
            reason = str(error) or type(error).__name__
            return Answer(Outcome.again, f"tracker at {self.url} does not answer: {reason}")
        finally:
            back = self._ticks()
            self.round_trip = (back - began) / 1_000_000
        told = answered(response.headers.get(ANSWER_HEADER, ""))
        self.exchange = Exchange(began, *told, back) if told else None
        return answer_of(response)


def usable(token: str) -> str:
    """A token that a header takes. Raises `ConfigInvalid`, without it, for another one."""
    if not _TOKEN.fullmatch(token):
        raise ConfigInvalid("the tracker's token holds spaces, line ends or letters that no header takes")
    return token


def answer_of(response: httpx.Response) -> Answer:
    """What a response means (DESIGN 8: 200/207 stored, 429/503 with Retry-After, 401/403, 413)."""
    status = response.status_code
    if 200 <= status < 300:
        return _stored(response)
    reason = f"{response.request.url} answered {status}: {response.text[:300]}"
    if status == 413:
        return Answer(Outcome.too_large, reason)
    if status in (408, 429) or (status >= 500 and status != 501):
        return Answer(Outcome.again, reason, wait=retry_after(response.headers.get("Retry-After", "")))
    return Answer(Outcome.refused, reason)


def retry_after(value: str) -> float:
    """Seconds to wait by a Retry-After header: a number of seconds or an HTTP date; 0.0 when it is neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else 0.0


def _stored(response: httpx.Response) -> Answer:
    """A 2xx means stored even where its body cannot be read: then nothing is known of quarantined lines."""
    try:
        body = response.json()
        quarantined, errors = int(body.get("quarantined", 0)), list(body.get("errors", []))
    except (ValueError, AttributeError, TypeError):
        return Answer(Outcome.stored)
    return Answer(Outcome.stored, quarantined=quarantined, errors=[json.dumps(e) for e in errors[:5]])


def _ascii(report: Report) -> str:
    """The report as JSON that may stand in a header: other letters escaped."""
    return json.dumps(msgspec.to_builtins(report), ensure_ascii=True, separators=(",", ":"))
