import pytest

from tests.component.control.running import together
from tracker.control import Control, passes
from tracker.control.errors import Conflict, NotFound


class TestPasses:
    def test_nothing_is_unfinished_at_first(self, control: Control) -> None:
        """A new installation has no pass."""
        assert control.passes.last() is control.passes.unfinished() is control.passes.last_finished() is None

    def test_a_pass_keeps_its_now_and_bounds_until_it_is_finished(self, control: Control) -> None:
        """After a crash the same pass is found again, exactly as it was begun."""
        begun = control.passes.begin(1000, {"lane-1": [0, 17], "due": 1000})
        assert control.passes.unfinished() == begun
        assert (begun.number, begun.started_at, begun.bounds) == (1, 1000, {"lane-1": [0, 17], "due": 1000})
        control.passes.finish(1, 1500)
        assert control.passes.unfinished() is None
        assert control.passes.last() == control.passes.last_finished()
        assert control.passes.last().finished_at == 1500

    def test_a_second_pass_waits_for_the_first(self, control: Control) -> None:
        """An unfinished pass is done again before another begins."""
        control.passes.begin(1, {})
        with pytest.raises(Conflict, match="pass 1 is unfinished"):
            control.passes.begin(2, {})

    def test_the_last_finished_pass_is_found_behind_an_unfinished_one(self, control: Control) -> None:
        """Its bounds are where the unfinished one started."""
        control.passes.begin(1, {"to": 5})
        control.passes.finish(1, 2)
        control.passes.begin(3, {"to": 9})
        assert control.passes.last_finished().bounds == {"to": 5}

    def test_finishing_twice_changes_nothing(self, control: Control) -> None:
        """A retry after a lost answer keeps the first time."""
        control.passes.begin(1, {})
        control.passes.finish(1, 10)
        control.passes.finish(1, 20)
        assert control.passes.last().finished_at == 10

    def test_finishing_what_never_began_is_an_error(self, control: Control) -> None:
        """The number is named."""
        with pytest.raises(NotFound, match="no pass 7"):
            control.passes.finish(7, 1)

    def test_history_is_bounded_and_numbers_go_on(self, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
        """Old passes are forgotten; a number is never given twice."""
        monkeypatch.setattr(passes, "KEPT", 20)
        with control.transaction() as books:
            for number in range(1, 26):
                assert books.passes.begin(number, {}).number == number
                books.passes.finish(number, number)
        with pytest.raises(NotFound):
            control.passes.finish(5, 0)
        control.passes.finish(6, 0)

    def test_of_several_that_begin_at_once_one_does(self, control: Control) -> None:
        """The others are told of the unfinished pass."""

        def begin(number: int) -> int:
            try:
                return control.passes.begin(number, {}).number
            except Conflict:
                return 0

        assert sorted(together(6, begin)) == [0, 0, 0, 0, 0, 1]
