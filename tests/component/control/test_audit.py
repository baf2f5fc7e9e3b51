import pytest
from sqlalchemy import text

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import ControlError, Invalid
from tracker.model import chain


def _write(control: Control, count: int = 5) -> None:
    with control.transaction() as books:
        for number in range(count):
            books.audit.append(100 + number, "ann", "approve", f"replay/r-{number % 2}", "billing", {"n": number})


def _tamper(control: Control, statement: str) -> None:
    """As somebody would who owns the database: the guard is taken away first."""
    engine = control._database.engine
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER ALL"))
        else:
            for act in ("UPDATE", "DELETE"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS audit_log_{act}"))
        connection.execute(text(statement))


class TestLog:
    def test_entries_are_chained_and_sound(self, control: Control) -> None:
        """Each names the hash before it; the first names the origin."""
        _write(control)
        entries = control.audit.entries().items
        assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
        assert entries[0].previous == chain.ORIGIN
        assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
        assert control.audit.verify() is None
        assert control.audit.head() == entries[-1]
        assert (entries[2].who, entries[2].why, entries[2].detail) == ("ann", "billing", {"n": 2})

    def test_an_empty_log_is_sound(self, control: Control) -> None:
        """A new installation has nothing to hide."""
        assert control.audit.verify() is None
        assert control.audit.head() is None

    def test_pages_and_subjects(self, control: Control) -> None:
        """Oldest first, cursor after cursor, of one subject or all."""
        _write(control)
        first = control.audit.entries(limit=3)
        rest = control.audit.entries(limit=3, cursor=first.cursor)
        assert [entry.number for entry in first.items + rest.items] == [1, 2, 3, 4, 5]
        assert [entry.number for entry in control.audit.entries(subject="replay/r-1").items] == [2, 4]

    def test_an_act_and_its_entry_exist_together_or_not_at_all(self, control: Control) -> None:
        """In one transaction, a failure after the entry takes it back."""

        def act() -> None:
            with control.transaction() as books:
                books.settings.put("a", "b")
                books.audit.append(1, "ann", "set", "setting/a")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            act()
        assert control.settings.get("a") is None
        assert control.audit.head() is None

    def test_writers_at_once_make_one_chain(self, control: Control) -> None:
        """No number twice, no fork."""
        together(6, lambda n: [control.audit.append(1, f"w-{n}", "x", "y") for _ in range(4)])
        assert [entry.number for entry in control.audit.entries().items] == list(range(1, 25))
        assert control.audit.verify() is None

    def test_any_json_is_kept_as_it_was(self, control: Control) -> None:
        """Also what a database would not take bare: NUL, a lone surrogate, a large integer."""
        detail = {"b": ["\0", "\ud800", 2**70, 0.1, None, True], "a": {"ü": "ü"}}
        assert control.audit.append(1, "ann", "x", "y", detail=detail).detail == detail
        assert control.audit.entries().items[0].detail == detail
        assert control.audit.verify() is None

    @pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"x"])
    def test_what_is_no_json_is_refused(self, control: Control, value: object) -> None:
        """Before anything is written."""
        with pytest.raises(Invalid, match="is not JSON"):
            control.audit.append(1, "ann", "x", "y", detail={"value": value})
        assert control.audit.head() is None


class TestTampering:
    @pytest.mark.parametrize("statement", ["UPDATE audit_log SET who = 'bob'", "DELETE FROM audit_log"])
    def test_the_database_refuses_to_change_the_past(self, control: Control, statement: str) -> None:
        """Not by convention: the statement fails."""
        _write(control, 1)
        with pytest.raises(ControlError, match="append-only"), control._database.write() as session:
            session.execute(text(statement))
        assert len(control.audit.entries().items) == 1

    @pytest.mark.parametrize("column", ["at", "who", "what", "why", "subject", "detail", "previous", "hash"])
    def test_a_changed_entry_is_found(self, control: Control, column: str) -> None:
        """Whatever column somebody edits."""
        _write(control)
        value = "7" if column == "at" else "'{}'"
        _tamper(control, f'UPDATE audit_log SET "{column}" = {value} WHERE number = 3')
        assert control.audit.verify() == 3

    def test_an_entry_taken_out_is_found(self, control: Control) -> None:
        """By its number."""
        _write(control)
        _tamper(control, "DELETE FROM audit_log WHERE number = 3")
        assert control.audit.verify() == 3

    def test_the_first_entry_taken_out_is_found(self, control: Control) -> None:
        """Numbers start at 1."""
        _write(control)
        _tamper(control, "DELETE FROM audit_log WHERE number = 1")
        assert control.audit.verify() == 1

    def test_a_tail_cut_off_is_found_by_a_head_kept_elsewhere(self, control: Control) -> None:
        """Without one, a shorter log is a sound log."""
        _write(control)
        head = control.audit.head()
        assert head is not None
        assert control.audit.verify(head.number, head.hash) is None
        _tamper(control, "DELETE FROM audit_log WHERE number >= 4")
        assert control.audit.verify() is None
        assert control.audit.verify(head.number, head.hash) == 4

    def test_a_log_written_anew_is_found_by_a_head_kept_elsewhere(self, control: Control) -> None:
        """A whole new chain is sound by itself, but is not the one that was seen."""
        _write(control)
        _tamper(control, "DELETE FROM audit_log")
        _write(control, 4)
        control.audit.append(1, "mallory", "nothing", "y")
        assert control.audit.verify() is None
        assert control.audit.verify(3, "0" * 64) == 3
