"""Something that is asked of all flows: many in one question, and one by one where that fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tracker.model.errors import TrackerError, Unavailable
from tracker.model.spec import FlowSpec

MANY, MUCH = 500, 2_000_000
"""Flows, and messages of them, that one question is about."""
IN_A_ROW = 3
"""After so many flows in a row that could not be asked about it is not them."""


class Failed(dict[str, TrackerError]):
    """Flows that could not be asked about, and why."""

    def told(self) -> None:
        """Raise Unavailable when there are any."""
        for flow, first in self.items():
            raise Unavailable(f"{len(self)} flows could not be asked about, such as {flow!r}: {first}") from first


def asked(
    specs: Iterable[FlowSpec],
    sizes: Mapping[str, int],
    work: Callable[[Sequence[FlowSpec]], None],
    ending: Callable[[], bool],
) -> Failed:
    """Do the work for all of them, until it is `ending`; `sizes` are messages by flow. One flow whose question takes
    too long hides no other. Raises what work does after some flows in a row: then it is the store."""
    failed, in_a_row = Failed(), 0
    waiting = deque(_bundled(specs, sizes))
    while waiting:
        if ending():
            raise Unavailable("the tracker is about to stop")
        some = waiting.popleft()
        try:
            work(some)
            in_a_row = 0
        except TrackerError as error:
            if len(some) > 1:
                waiting.extendleft([spec] for spec in reversed(some))
                continue
            failed[some[0].flow] = error
            in_a_row += 1
            if in_a_row == IN_A_ROW:
                raise
    return failed


def _bundled(specs: Iterable[FlowSpec], sizes: Mapping[str, int]) -> Iterator[list[FlowSpec]]:
    some: list[FlowSpec] = []
    messages = 0
    for spec in specs:
        has = sizes.get(spec.flow, 0)
        if some and (len(some) == MANY or messages + has > MUCH):
            yield some
            some, messages = [], 0
        some.append(spec)
        messages += has
    if some:
        yield some
