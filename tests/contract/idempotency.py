"""What every store of `collectors.idempotency` has to pass, asked through `Once`: sync and async ones by the same
cases.

A store gives hooks that age a record, so that no case waits for time.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest

from collectors.errors import ConfigInvalid
from collectors.idempotency import (
    BusyElsewhere,
    Claim,
    Done,
    First,
    InDoubt,
    Key,
    Late,
    NoMessageId,
    Unknown,
)
from collectors.idempotency.answers import Busy

LEASE = 30.0


class Place(Protocol):
    """One store, and ways to let time pass for a message in it."""

    def once(self, **terms: Any) -> Any:
        """A `Once`, or an `AsyncOnce` that is driven like one."""
        ...

    def lapse(self, key: Key) -> None:
        """The lease of this message has run out."""
        ...

    def expire(self, key: Key) -> None:
        """This message was kept for long enough."""
        ...


def name() -> str:
    """A message id of the test's own."""
    return f"m-{uuid.uuid4().hex}"


class OnceContract:
    """The fixture `place` gives the store."""

    @pytest.fixture
    def once(self, place: Place) -> Any:
        """Of consumer `billing`, flow `orders`; in doubt again."""
        return place.once()

    def test_the_first_does_it_and_the_others_do_not(self, once: Any) -> None:
        """`First`, then `Busy` while it is done, then `Done` for ever after."""
        message = name()
        claim = once.begin(message)
        assert isinstance(claim, First)
        assert 0 < claim.left() <= LEASE
        busy = once.begin(message)
        assert isinstance(busy, Busy)
        assert 0 < busy.left <= LEASE
        once.done(claim)
        assert [type(once.begin(message)) for _ in range(3)] == [Done] * 3
        assert (once.counts.first, once.counts.busy, once.counts.done) == (1, 1, 3)

    def test_others_have_their_own_turn(self, place: Place) -> None:
        """Another message, flow or consumer is another thing, however the names are cut."""
        message = name()
        parts = [("a", "b", ""), ("b", "a", ""), ("a:b", "c", ""), ("a", "b:c", ""), ("a", "b", "c:")]
        several = [place.once(consumer=one, flow=two).begin(f"{more}{message}") for one, two, more in parts]
        assert [type(said) for said in several] == [First] * 5

    def test_given_back_it_is_anybodys(self, once: Any) -> None:
        """Released, the next one is the first, with a higher token."""
        message = name()
        claim = once.begin(message)
        once.release(claim)
        again = once.begin(message)
        assert isinstance(again, First)
        assert again.token > claim.token

    def test_a_lease_that_ran_out_is_told(self, place: Place, once: Any) -> None:
        """The next one hears `Unknown`, has the turn with a higher token, and may end it."""
        claim = once.begin(name())
        place.lapse(claim.key)
        heir = once.begin(claim.key.message_id)
        assert isinstance(heir, Unknown)
        assert heir.token > claim.token
        assert isinstance(once.begin(claim.key.message_id), Busy)
        once.done(heir)
        assert isinstance(once.begin(claim.key.message_id), Done)

    def test_a_late_worker_is_refused_and_told(self, place: Place, once: Any) -> None:
        """While the heir works, and after it has ended; and giving back what is not its own changes nothing."""
        claim = once.begin(name())
        place.lapse(claim.key)
        heir = once.begin(claim.key.message_id)
        with pytest.raises(Late, match=claim.key.message_id):
            once.done(claim)
        once.release(claim)
        once.release(claim, doubt=True)
        assert isinstance(once.begin(claim.key.message_id), Busy)
        once.done(heir)
        with pytest.raises(Late):
            once.done(claim)
        once.release(claim)
        assert isinstance(once.begin(claim.key.message_id), Done)
        assert once.counts.late == 2

    def test_late_but_nobody_came(self, place: Place, once: Any) -> None:
        """Its claim still counts: the message is done."""
        claim = once.begin(name())
        place.lapse(claim.key)
        once.done(claim)
        assert isinstance(once.begin(claim.key.message_id), Done)

    def test_done_twice_is_done(self, once: Any) -> None:
        """As after an answer that was lost on its way."""
        claim = once.begin(name())
        once.done(claim)
        once.done(claim)
        once.release(claim)
        assert isinstance(once.begin(claim.key.message_id), Done)

    def test_doubt_is_passed_on(self, place: Place, once: Any) -> None:
        """A worker that takes over a doubtful message and fails before its effect settles nothing."""
        claim = once.begin(name())
        once.release(claim, doubt=True)
        for _ in range(2):
            heir = once.begin(claim.key.message_id)
            assert isinstance(heir, Unknown)
            once.release(heir)
        heir = once.begin(claim.key.message_id)
        place.lapse(heir.key)
        assert isinstance(once.begin(claim.key.message_id), Unknown)

    def test_what_was_forgotten_can_be_marked(self, place: Place, once: Any) -> None:
        """A store that lost the claim takes the mark: the effect happened, and nobody else has the message."""
        claim = once.begin(name())
        once.release(claim)
        once.done(claim)
        assert isinstance(once.begin(claim.key.message_id), Done)

    @pytest.mark.parametrize("end", ["done", "left"])
    def test_it_is_kept_for_so_long(self, place: Place, once: Any, end: str) -> None:
        """After `keep` the message is as if it had never come, done or not."""
        claim = once.begin(name())
        if end == "done":
            once.done(claim)
        place.expire(claim.key)
        again = once.begin(claim.key.message_id)
        assert isinstance(again, First)
        once.done(again)
        assert isinstance(once.begin(claim.key.message_id), Done)

    def test_doing_does_it_once(self, once: Any) -> None:
        """`with` gives a claim, and later None."""
        message, effects = name(), []
        for _ in range(3):
            with once.doing(message) as claim:
                if claim:
                    effects.append(claim.token)
        assert len(effects) == 1

    def test_doing_while_another_does(self, once: Any) -> None:
        """Raises, with the time that is left; the inside is not run."""
        message = name()
        with once.doing(message), pytest.raises(BusyElsewhere) as raised, once.doing(message):
            pytest.fail("run twice at a time")
        assert 0 < raised.value.left <= LEASE

    def test_an_exception_gives_it_back(self, once: Any) -> None:
        """The application's error comes out as it was, and the next one is the first."""
        message = name()
        with pytest.raises(ZeroDivisionError), once.doing(message):
            _ = 1 / 0
        assert isinstance(once.begin(message), First)

    @pytest.mark.parametrize("error", [InDoubt, KeyboardInterrupt, SystemExit])
    def test_who_cannot_know_says_so(self, once: Any, error: type[BaseException]) -> None:
        """`InDoubt`, and what interrupts: the next one is told at once, without waiting for the lease."""
        message = name()
        with pytest.raises(error), once.doing(message):
            raise error
        assert isinstance(once.begin(message), Unknown)

    @pytest.mark.parametrize(("policy", "effects"), [("again", 2), ("skip", 1)])
    def test_doubt_is_settled_as_was_agreed(self, place: Place, policy: str, effects: int) -> None:
        """`again`: at least once. `skip`: at most once. Either way it is done then."""
        once, message, found = place.once(unknown=policy), name(), []

        def act() -> None:
            found.append(1)
            raise InDoubt

        with pytest.raises(InDoubt), once.doing(message):
            act()
        for _ in range(2):
            with once.doing(message) as claim:
                if claim:
                    found.append(1)
        assert len(found) == effects
        assert isinstance(once.begin(message), Done)

    def test_a_mark_that_comes_late_is_told_by_doing(self, place: Place, once: Any) -> None:
        """The lease ran out inside, and another one took over: `Late` comes out of the `with`."""
        message, heirs = name(), []

        def outlive(key: Key) -> None:
            place.lapse(key)
            heirs.append(once.begin(message))

        with pytest.raises(Late), once.doing(message) as claim:
            outlive(claim.key)
        assert [type(heir) for heir in heirs] == [Unknown]

    def test_a_function_does_it_once(self, once: Any) -> None:
        """The decorator: True when it did it now; its name and text stay."""
        effects = []

        @once.guard(lambda message: message)
        def charge(message: str) -> None:
            """Charges."""
            effects.append(message)

        message = name()
        assert [charge(message), charge(message)] == [True, False]
        assert effects == [message]
        assert (charge.__name__, charge.__doc__) == ("charge", "Charges.")

    def test_of_many_at_once_one_is_first(self, once: Any) -> None:
        """However the others come between."""
        for _ in range(5):
            message = name()
            said = once.begin_at_once([message] * 8) if hasattr(once, "begin_at_once") else self._threads(once, message)
            assert sorted(type(each).__name__ for each in said) == ["Busy"] * 7 + ["First"]

    @staticmethod
    def _threads(once: Any, message: str) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(once.begin, [message] * 8))

    @pytest.mark.parametrize("message", ["ü-1", "a b\n", "x" * 1024, "'; DROP TABLE message_once; --", "{}", "%s"])
    def test_ids_are_taken_as_they_are(self, once: Any, message: str) -> None:
        """Whatever they hold."""
        claim = once.begin(message)
        if isinstance(claim, Claim):
            once.done(claim)
        assert isinstance(once.begin(message), Done)

    @pytest.mark.parametrize("message", ["", "x" * 1025, "a\0b", "\ud800", b"m-1", None])
    def test_ids_that_cannot_be_kept_are_refused(self, once: Any, message: Any) -> None:
        """And nothing is executed."""
        with pytest.raises(NoMessageId), once.doing(message):
            pytest.fail("executed")

    @pytest.mark.parametrize(
        "terms",
        [{"consumer": ""}, {"flow": "x" * 257}, {"lease": "soon"}, {"lease": 0}, {"keep": "1s"}, {"unknown": "?"}],
    )
    def test_terms_that_cannot_be_kept_are_refused(self, place: Place, terms: dict[str, Any]) -> None:
        """When it is made, not when the first message comes."""
        with pytest.raises(ConfigInvalid):
            place.once(**terms)
