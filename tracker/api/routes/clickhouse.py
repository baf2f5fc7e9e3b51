"""`/clickhouse`: the ledger's views for whatever speaks ClickHouse's HTTP protocol; read only (docs/clickhouse.md)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse

from tracker.api import clickhouse
from tracker.api.auth import known, service_of
from tracker.api.clickhouse import Asked
from tracker.api.problem import Problem
from tracker.api.reading import body_of
from tracker.control.errors import ControlError, Forbidden, Unauthenticated
from tracker.ingest.body import inflate
from tracker.model.errors import TrackerError
from tracker.slo.metrics import QUESTION_SECONDS, QUESTIONS
from tracker.store.readonly import Answer, Question, Reader, Refused

WAITING = 64
"""Questions that may wait for others; a dashboard asks with all of its panels at once."""
AGAIN_S = 0.2
"""Seconds after which a question that nobody waits for is stopped once more: it may not have begun when it was."""
Gone = Callable[[], Awaitable[None]]


class Desk:
    """Lets so many questions be asked at once, in threads of their own, and stops those that nobody waits for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._places = anyio.Semaphore(reader.bounds.questions)
        self._threads = anyio.CapacityLimiter(reader.bounds.questions)
        self._waiting = 0

    async def ask(self, question: Question, gone: Gone) -> Answer | None:
        """The answer; None when nobody waits for it any more, which `gone` waits for. Raises Refused."""
        await self._place()
        try:
            return await self._asked(question, gone)
        finally:
            self._places.release()

    async def _place(self) -> None:
        """Returns when it is this question's turn. One whose asker leaves meanwhile is stopped as soon as it begins."""
        if self._waiting >= WAITING:
            raise Refused(202, f"{WAITING} statements wait already; ask again in a moment")
        self._waiting += 1
        try:
            with anyio.fail_after(self._reader.bounds.seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Refused(202, "the statements before this one take too long; ask again in a moment") from None
        finally:
            self._waiting -= 1

    async def _asked(self, question: Question, gone: Gone) -> Answer | None:
        outcome = _Outcome()

        async def stop() -> None:
            await gone()
            outcome.wanted = False
            while True:
                await run_in_threadpool(self._reader.stop, question.mark)
                await anyio.sleep(AGAIN_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            try:
                outcome.answer = await anyio.to_thread.run_sync(self._reader.ask, question, limiter=self._threads)
            except Refused as refused:  # kept, for a group of tasks would wrap it
                outcome.refused = refused
            tasks.cancel_scope.cancel()
        if outcome.refused and outcome.wanted:
            raise outcome.refused
        return outcome.answer if outcome.wanted else None


@dataclass
class _Outcome:
    answer: Answer | None = None
    refused: Refused | None = None
    wanted: bool = True


def router(reader: Reader) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["clickhouse"])
    desk = Desk(reader)

    @routes.get("/clickhouse/ping", response_class=PlainTextResponse)
    async def clickhouse_ping() -> PlainTextResponse:
        """`Ok.`, as a ClickHouse server says; nobody is asked for a token."""
        return PlainTextResponse("Ok.\n")

    @routes.get("/clickhouse", response_class=Response, operation_id="clickhouse_get")
    @routes.get("/clickhouse/", response_class=Response, include_in_schema=False)
    @routes.post("/clickhouse", response_class=Response, operation_id="clickhouse_post")
    @routes.post("/clickhouse/", response_class=Response, include_in_schema=False)
    async def ask_clickhouse(request: Request) -> Response:
        """One SELECT over the ledger's views, by ClickHouse's HTTP protocol: `query` in the URL or the body,
        `param_NAME`, `default_format`, settings. The password is an access token with scope `read`; the user does not
        matter. Errors are worded as ClickHouse words them. docs/clickhouse.md has the views and the limits."""
        metrics = service_of(request).metrics
        began = time.monotonic()
        outcome, query_id = "refused", ""
        try:
            asked = await _understood(request, reader)
            query_id = asked.query_id
            await run_in_threadpool(_admitted, request, asked)
            answer = await desk.ask(asked.question, lambda: _gone(request))
            if answer is None:
                outcome = "gone"
                return Response(status_code=499)
            accepted = request.headers.get("accept-encoding", "")
            response = await run_in_threadpool(clickhouse.answered, asked, answer, accepted)
            outcome = "answered"
            return response
        except Refused as refused:
            outcome = "busy" if refused.status == 503 else "refused"
            return clickhouse.failed(refused, query_id)
        finally:
            metrics.count(QUESTIONS, 1, outcome)
            metrics.observe(QUESTION_SECONDS, time.monotonic() - began)

    return routes


async def _understood(request: Request, reader: Reader) -> Asked:
    try:
        body = await body_of(request)
        limit = service_of(request).limits.body
        inflated = inflate(body, request.headers.get("content-encoding", ""), limit)
    except (Problem, TrackerError) as error:
        raise Refused(62, str(error)) from None
    return clickhouse.understood(request.url.query, request.headers, inflated, reader.names)


def _admitted(request: Request, asked: Asked) -> None:
    """The caller has the scope `read`. Raises Refused. Blocks."""
    try:
        known(service_of(request), asked.authorization, "read")
    except Unauthenticated as error:
        sent = asked.authorization.removeprefix("Bearer").strip()
        raise Refused(516 if sent else 194, f"{error}; here it is sent as the password") from None
    except Forbidden as error:
        raise Refused(497, str(error)) from None
    except ControlError as error:
        raise Refused(210, str(error)) from None


async def _gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
