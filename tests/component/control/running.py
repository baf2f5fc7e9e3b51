"""Running something in several threads at once, or without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier
from typing import TypeVar

from hypothesis import HealthCheck, settings

from tracker.control import Books, Control

Result = TypeVar("Result")

EACH_ROLLED_BACK = settings(
    max_examples=40,
    deadline=None,
    # One database serves all examples, each rolled back; and the same classes run again on PostgreSQL.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
"""For properties that use the `control` fixture inside `rolled_back`."""


def together(count: int, work: Callable[[int], Result]) -> list[Result]:
    """`work(0)` to `work(count - 1)`, each in a thread, all let go at the same moment; raises what any raised."""
    barrier = Barrier(count)

    def run(number: int) -> Result:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@contextmanager
def rolled_back(control: Control) -> Iterator[Books]:
    """A transaction that leaves nothing behind: each example of a property starts from an empty database, and pays
    for no sync of the disk."""
    with suppress(_Undo), control.transaction() as books:
        yield books
        raise _Undo


class _Undo(Exception):
    pass
