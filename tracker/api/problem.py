"""Every error as problem details (RFC 9457): status, title, and a detail that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from tracker.control import errors as control
from tracker.ingest import errors as ingest
from tracker.model import errors as model
from tracker.slo.metrics import REFUSED, Metrics

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"
"""Seconds after which a sender that was told 429 or 503 may come back."""

log = structlog.get_logger()

STATUS: Mapping[type[Exception], int] = {
    control.NotFound: 404,
    control.Unauthenticated: 401,
    control.Forbidden: 403,
    control.Conflict: 409,
    control.Exhausted: 409,
    control.Invalid: 422,
    control.Unavailable: 503,
    control.Broken: 500,
    ingest.TooLarge: 413,
    ingest.Unsupported: 415,
    ingest.Unreadable: 400,
    model.Invalid: 422,
    model.Unavailable: 503,
}
"""By the nearest class in the error's own line of ancestors."""


class Problem(Exception):
    """An answer that is no success. `more` are further members of the problem object; `cause` a word for who counts."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, cause: str = "", **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more
        self.cause = cause


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The problem as a response; 401, 429 and 503 say how to go on in their headers."""
    said = dict(headers or {})
    if status in (429, 503):
        said.setdefault("Retry-After", RETRY_AFTER)
    if status == 401:
        said.setdefault("WWW-Authenticate", 'Bearer realm="tracker"')
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, said, MEDIA_TYPE)


def status_of(error: Exception) -> int:
    """The status that an error of ours stands for; 500 for any other."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def turned_away(metrics: Metrics, error: Exception) -> int:
    """The status of a request on the way in that stored nothing. It is counted, with the reason."""
    status = error.status if isinstance(error, Problem) else status_of(error)
    metrics.count(REFUSED, 1, str(status), _reason(error, status))
    return status


def _reason(error: Exception, status: int) -> str:
    """One of few: docs/runbooks/ingest-refused.md says what each means."""
    if isinstance(error, Problem | ingest.Busy) and error.cause:
        return error.cause
    if status < 500:
        return "request"
    return "control" if isinstance(error, control.ControlError) else "store"


def install(app: FastAPI) -> None:
    """From now on every error of the app, expected or not, is answered as a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(control.ControlError, _ours)
    app.add_exception_handler(model.TrackerError, _ours)
    app.add_exception_handler(Exception, _unexpected)


def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return answer(error.status, error.detail, error.headers, **error.more)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"nothing is at {request.url.path}; /docs lists what there is"
    if error.status_code == 405:
        detail = f"{request.method} is not for {request.url.path}; /docs lists what is"
    return answer(error.status_code, detail, error.headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{"field": ".".join(str(p) for p in e["loc"][1:]), "reason": e["msg"]} for e in error.errors()]
    first = found[0] if found else {"field": "", "reason": "the request cannot be read"}
    return answer(422, f"{first['field']}: {first['reason']}", errors=found)


def _ours(request: Request, error: Exception) -> JSONResponse:
    status = status_of(error)
    if status >= 500:
        log.error("request_failed", path=request.url.path, status=status, error=str(error))
    if isinstance(error, model.SpecError):
        return answer(status, str(error), line=error.line, reason=error.reason)
    return answer(status, str(error))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """The traceback goes to the log; the caller is told that it is our fault."""
    log.error("request_failed", path=request.url.path, status=500, exc_info=error)
    return answer(500, "an error of the tracker's own; its log has the details under this path and time")
