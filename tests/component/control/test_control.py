import pytest

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Conflict, Invalid, Unavailable


class TestTransactions:
    def test_what_is_done_together_is_kept_together(self, control: Control) -> None:
        """All at the end of the block, and visible within it before."""
        with control.transaction() as books:
            books.settings.put("a", "1")
            books.audit.append(1, "ann", "set", "setting/a")
            assert books.settings.get("a") == "1"
        assert control.settings.get("a") == "1"
        assert control.audit.head() is not None

    def test_an_error_takes_back_everything(self, control: Control) -> None:
        """The caller's own error comes out as it was."""

        def act() -> None:
            with control.transaction() as books:
                books.settings.put("a", "1")
                raise OverflowError("mine")

        with pytest.raises(OverflowError, match="mine"):
            act()
        assert control.settings.get("a") is None

    def test_a_refusal_within_can_be_handled_and_the_rest_kept(self, control: Control) -> None:
        """Errors of ours that no statement failed on leave the transaction usable."""
        with control.transaction() as books:
            books.passes.begin(1, {})
            with pytest.raises(Conflict):
                books.passes.begin(2, {})
            books.settings.put("a", "1")
        assert control.settings.get("a") == "1"

    def test_the_books_of_a_transaction_see_what_others_committed(self, control: Control) -> None:
        """A counter that many threads read and write in transactions loses nothing."""

        def add(_number: int) -> None:
            for _ in range(3):
                with control.transaction() as books:
                    books.idempotency.recall("counter", "ann", "d", 1)  # takes a lock that all of them take
                    books.settings.put("n", str(int(books.settings.get("n") or 0) + 1))

        together(5, add)
        assert control.settings.get("n") == "15"


class TestEdges:
    def test_a_closed_control_says_so(self, control: Control) -> None:
        """Never a silent new connection after the end."""
        control.close()
        control.close()
        with pytest.raises(Unavailable, match="was closed"):
            control.ping()

    def test_ping_is_quiet_while_it_works(self, control: Control) -> None:
        """For the readiness check."""
        control.ping()

    def test_what_was_written_is_there_after_opening_again(self, control_url: str, control: Control) -> None:
        """The point of a database."""
        control.settings.put("a", "1")
        control.close()
        with Control.open(control_url) as again:
            assert again.settings.get("a") == "1"

    @pytest.mark.parametrize("value", [2**63, -(2**70)])
    def test_a_number_too_large_is_refused_by_us(self, control: Control, value: int) -> None:
        """No driver's exception comes through."""
        with pytest.raises(Invalid, match="cannot be stored"):
            control.audit.append(value, "ann", "x", "y")

    def test_text_that_is_no_unicode_is_refused_by_us(self, control: Control) -> None:
        """No driver's exception comes through."""
        with pytest.raises(Invalid, match="cannot be stored"):
            control.settings.put("a", "\ud800")

    def test_several_that_open_a_new_database_at_once_all_can(self, control_url: str) -> None:
        """One migrates, the others wait; the schema is there for all."""

        def use(number: int) -> None:
            with Control.open(control_url) as control:
                control.settings.put(f"n-{number}", "1")

        together(5, use)
        with Control.open(control_url) as control:
            assert all(control.settings.get(f"n-{number}") for number in range(5))
