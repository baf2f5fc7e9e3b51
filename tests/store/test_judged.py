"""Times in which nothing was judged are known as such before any count of the time after them is."""

from __future__ import annotations

from tests.store.test_crash import whole
from tests.store.test_settled import Told, installed, told
from tracker.model.units import SECOND
from tracker.reconcile.judged import until

__all__ = ["installed", "told"]


def dark(told: Told) -> list[int]:
    """The minutes without a pass, counted from the flow's own hour on."""
    base = told.base // SECOND
    return sorted((minute - base) // 60 for minute in told.store.unjudged(base, base + 4000))


def test_a_time_without_passes_is_known(told: Told) -> None:
    """Whatever came in it is counted in one minute after it. Passes that follow each other leave none."""
    told.passed(4, *whole("a"))
    told.passed(40, *whole("b", 36))
    assert dark(told) == []
    told.passed(340, *whole("c", 100))
    assert dark(told) == [0, 1, 2, 3, 4, 5]
    assert until(told.world.control) == told.base + 340 * SECOND


def test_where_nothing_is_to_be_judged_nothing_is_missed(told: Told) -> None:
    """A quiet installation has no passes, and is judged all the same; not so once nobody looks whether there is."""
    told.passed(4, *whole("a"))
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
    told.passed(4, *whole("a"))
    told.passed(340, *whole("b", 100))
    before = dark(told)
    told.world.cut_short()
    assert until(told.world.control) == told.base + 4 * SECOND, "no look goes beyond a pass that is not finished"
    told.world.run_pass()
    assert dark(told) == before == [0, 1, 2, 3, 4, 5]
