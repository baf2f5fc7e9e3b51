"""How many questions are asked at once, and what becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import pytest

from tracker.api.routes import clickhouse
from tracker.api.routes.clickhouse import Desk
from tracker.store.readonly import Answer, Bounds, Question, Refused

DONE = Answer(b"1\n", "TSV", 1, 0)


class Slow:
    """A reader whose answers come when they may, or when they are stopped."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.bounds = Bounds(seconds=seconds, questions=1)
        self.begun, self.may = threading.Event(), threading.Event()
        self.stopped: list[str] = []
        self.asked: list[str] = []

    def ask(self, question: Question) -> Answer:
        """Waits."""
        self.asked.append(question.statement)
        self.begun.set()
        assert self.may.wait(10)
        return DONE

    def stop(self, mark: str) -> None:
        """What waits goes on."""
        self.stopped.append(mark)
        self.may.set()


async def never() -> None:
    """An asker who stays."""
    await anyio.sleep_forever()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """On an event loop of its own, bounded."""

    async def bounded() -> Any:
        with anyio.fail_after(10):
            return await work()

    return anyio.run(bounded)


async def _waiting(desk: Desk, number: int) -> None:
    while desk._waiting != number:  # nothing outside tells
        await anyio.sleep(0.01)


def test_one_has_the_place_one_waits_the_next_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are answered in their order; the third is refused at once, with a status that clients try again."""
    monkeypatch.setattr(clickhouse, "WAITING", 1)
    reader, answers = Slow(), []
    desk = Desk(cast(Any, reader))

    async def ask(statement: str) -> None:
        answers.append((statement, await desk.ask(Question(statement=statement), never)))

    async def story() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "first")
            await anyio.to_thread.run_sync(reader.begun.wait)
            tasks.start_soon(ask, "second")
            await _waiting(desk, 1)
            with pytest.raises(Refused) as busy:
                await desk.ask(Question(statement="third"), never)
            assert (busy.value.code, busy.value.status) == (202, 503)
            reader.may.set()

    run(story)
    assert answers == [("first", DONE), ("second", DONE)]
    assert reader.asked == ["first", "second"]


def test_who_waits_longer_than_a_question_may_take_is_told_so() -> None:
    """503, too; the place is given on all the same."""
    reader = Slow(seconds=0.05)
    desk = Desk(cast(Any, reader))

    async def story() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.ask, Question(statement="first"), never)
            await anyio.to_thread.run_sync(reader.begun.wait)
            with pytest.raises(Refused, match="TOO_MANY_SIMULTANEOUS"):
                await desk.ask(Question(statement="second"), never)
            reader.may.set()
        assert await desk.ask(Question(statement="third"), never) == DONE

    run(story)


def test_a_question_that_nobody_waits_for_is_stopped() -> None:
    """By its mark; there is no answer then."""
    reader = Slow()
    desk = Desk(cast(Any, reader))

    async def left() -> None:
        await anyio.to_thread.run_sync(reader.begun.wait)

    question = Question(statement="first")
    assert run(lambda: desk.ask(question, left)) is None
    assert reader.stopped[0] == question.mark


def test_an_error_of_the_engine_is_the_askers() -> None:
    """It comes as it was raised, not in a group."""

    class Wrong(Slow):
        def ask(self, question: Question) -> Answer:
            raise Refused(60, "no such table")

    with pytest.raises(Refused, match="UNKNOWN_TABLE"):
        run(lambda: Desk(cast(Any, Wrong())).ask(Question(statement="x"), never))
