import pytest

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Conflict
from tracker.control.idempotency import Answer

DONE = Answer(201, '{"id":"r-1"}')


class TestKeys:
    def test_the_second_request_gets_the_first_answer(self, control: Control) -> None:
        """Status and body as they were."""
        assert control.idempotency.recall("k", "ann", "d", 100) is None
        control.idempotency.remember("k", "ann", "d", DONE, 100, 50)
        assert control.idempotency.recall("k", "ann", "d", 149) == DONE

    def test_the_same_key_with_another_body_is_refused(self, control: Control) -> None:
        """A key names one request."""
        control.idempotency.remember("k", "ann", "d", DONE, 100, 50)
        with pytest.raises(Conflict, match="'k' was used for another request"):
            control.idempotency.recall("k", "ann", "other", 110)

    def test_keys_of_two_principals_do_not_meet(self, control: Control) -> None:
        """Nobody reads another's answer by guessing a key."""
        control.idempotency.remember("k", "ann", "d", DONE, 100, 50)
        assert control.idempotency.recall("k", "bob", "other", 110) is None

    def test_an_expired_key_is_free_again(self, control: Control) -> None:
        """Also for another body."""
        control.idempotency.remember("k", "ann", "d", DONE, 100, 50)
        assert control.idempotency.recall("k", "ann", "other", 150) is None
        control.idempotency.remember("k", "ann", "other", DONE, 150, 50)
        assert control.idempotency.recall("k", "ann", "other", 160) == DONE

    def test_purging_forgets_the_expired(self, control: Control) -> None:
        """And only those."""
        control.idempotency.remember("old", "ann", "d", DONE, 100, 50)
        control.idempotency.remember("new", "ann", "d", DONE, 140, 50)
        assert control.idempotency.purge(150) == 1
        assert control.idempotency.recall("new", "ann", "d", 150) == DONE

    def test_work_that_fails_is_not_remembered(self, control: Control) -> None:
        """The next try does it."""

        def act() -> None:
            with control.transaction() as books:
                books.idempotency.remember("k", "ann", "d", DONE, 100, 50)
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            act()
        assert control.idempotency.recall("k", "ann", "d", 110) is None

    def test_requests_sent_at_the_same_moment_are_done_once(self, control: Control) -> None:
        """Five with one key: one does the work, all get its answer."""

        def handle(number: int) -> Answer:
            with control.transaction() as books:
                known = books.idempotency.recall("k", "ann", "d", 100)
                if known is not None:
                    return known
                books.audit.append(100, f"request-{number}", "create", "replay/r-1")
                answer = Answer(201, str(number))
                books.idempotency.remember("k", "ann", "d", answer, 100, 50)
                return answer

        assert len(set(together(5, handle))) == 1
        assert len(control.audit.entries().items) == 1
