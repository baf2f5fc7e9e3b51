"""A client of the API: one method per verb, problems as errors that say what to do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from tracker.cli.errors import UNAVAILABLE, USAGE, CommandError
from tracker.cli.settings import client_settings


class Api:
    """Talks to one service over one connection."""

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON. Raises CommandError."""
        return self._ask("GET", path, params=_asked(query)).json()

    def text(self, path: str, **query: Any) -> str:
        """The answer as it is. Raises CommandError."""
        return self._ask("GET", path, params=_asked(query)).text

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come, however many. Raises CommandError."""
        with _said(self.url), self._http.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
            yield _good(answer).iter_lines()

    def send(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """A write, under an idempotency key of its own, so that a retry on the way does nothing twice."""
        headers = {"Idempotency-Key": str(uuid.uuid4()), **options.pop("headers", {})}
        answer = self._ask(method, path, json=json, headers=headers, **options)
        return answer.json() if answer.content else None

    def pages(self, path: str, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
        """Items of a list, page after page, at most `limit`."""
        cursor = None
        while limit > 0:
            page = self.get(path, cursor=cursor, limit=min(limit, 1000), **query)
            yield from page["items"]
            limit -= len(page["items"])
            cursor = page["next"]
            if not cursor:
                return

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with _said(self.url):
            return _good(self._http.request(method, path, **options))


@contextmanager
def _said(url: str) -> Iterator[None]:
    """What goes wrong on the way becomes a CommandError."""
    try:
        yield
    except httpx.TimeoutException:
        raise CommandError(f"the tracker at {url} did not answer in time (TRACKER_TIMEOUT_S)", UNAVAILABLE) from None
    except httpx.HTTPError as error:
        told = f"no tracker answers at {url} ({error}): is `tracker serve` running, is TRACKER_URL right?"
        raise CommandError(told, UNAVAILABLE) from None


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    code = UNAVAILABLE if answer.status_code in (429, 500, 502, 503, 504) else USAGE
    raise CommandError(_problem(answer), code)


def _asked(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value not in (None, "", [], ())}


def _problem(answer: httpx.Response) -> str:
    try:
        said: Mapping[str, Any] = answer.json()
        detail = said["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"{answer.request.url} answered {answer.status_code}, and not as a tracker does: is TRACKER_URL right?"
    if answer.status_code == 401:
        detail = f"{detail}; set TRACKER_TOKEN"
    return str(detail)


def api() -> Api:
    """The service that TRACKER_URL and TRACKER_TOKEN name."""
    settings = client_settings()
    return Api(settings.url, settings.token.get_secret_value(), settings.timeout_s)


def segment(text: str) -> str:
    """A part of a path, whatever it is made of."""
    return quote(text, safe="")
