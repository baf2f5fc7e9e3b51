"""Times in which nothing was judged are known as such before any count of the time after them is."""

from __future__ import annotations

from tests.store.test_crash import whole
from tests.store.test_settled import Told, installed, told
from tracker.model.units import SECOND
from tracker.reconcile.judged import until

__all__ = ["installed", "told"]


def dark(told: Told) -> list[int]:
    """The minutes without a pass, counted from the flow's own hour on, but for the first two: these may be of the time
    since another test."""
    base = told.base // SECOND
    return sorted((minute - base) // 60 for minute in told.store.unjudged(base + 120, base + 4000))


def test_a_time_without_passes_is_known(told: Told) -> None:
    """Whatever came in it is counted in one minute after it. Passes that follow each other leave none."""
    told.passed(115, *whole("a"))
    told.passed(150, *whole("b", 146))
    assert dark(told) == []
    told.passed(450, *whole("c", 200))
    assert dark(told) == [2, 3, 4, 5, 6, 7]
    assert until(told.world.control) == told.base + 450 * SECOND


def test_where_nothing_is_to_be_judged_nothing_is_missed(told: Told) -> None:
    """A quiet installation has no passes, and is judged all the same; not so once nobody looks whether there is."""
    told.passed(115, *whole("a"))
    for at in range(240, 600, 15):
        told.world.now = told.base + at * SECOND
        told.world.run_pass()
        if at == 240:
            before = dark(told)
            number = told.world.control.passes.last()
    assert told.world.control.passes.last() == number, "a test of idle time, but there were passes"
    assert dark(told) == before
    assert until(told.world.control) >= told.base + 580 * SECOND
    told.world.restarted()
    told.passed(900, *whole("b", 896))
    assert dark(told) == [*before, 9, 10, 11, 12, 13, 14], "known to a process that began later, too"


def test_a_pass_done_again_says_the_same(told: Told) -> None:
    """When the process is killed before the end of the pass after such a time."""
    told.passed(115, *whole("a"))
    told.passed(450, *whole("b", 200))
    before = dark(told)
    told.world.cut_short()
    assert until(told.world.control) == told.base + 115 * SECOND, "no look goes beyond a pass that is not finished"
    told.world.run_pass()
    assert dark(told) == before == [2, 3, 4, 5, 6, 7]
