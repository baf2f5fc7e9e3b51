import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.component.control.running import EACH_ROLLED_BACK, rolled_back, together
from tracker.control import Control
from tracker.control.errors import LeaseLost
from tracker.control.leases import Lease

STEPS = st.lists(
    st.tuples(
        st.integers(0, 6),  # how far the clock moves
        st.sampled_from(["acquire", "renew", "release"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(1, 10),  # ttl
    ),
    max_size=30,
)


class TestLeases:
    def test_one_owner_at_a_time(self, control: Control) -> None:
        """While the lease lasts nobody else gets it; from its last microsecond on, anybody does."""
        lease = control.leases.acquire("reconciler", "a", 100, 50)
        assert lease == Lease("reconciler", "a", 1, 150)
        assert control.leases.acquire("reconciler", "b", 149, 50) is None
        assert control.leases.acquire("reconciler", "b", 150, 50) == Lease("reconciler", "b", 2, 200)

    def test_names_do_not_meet(self, control: Control) -> None:
        """Each piece of work has a lease of its own."""
        control.leases.acquire("reconciler", "a", 100, 50)
        assert control.leases.acquire("slo", "b", 100, 50) is not None
        assert [lease.name for lease in control.leases.all()] == ["reconciler", "slo"]

    def test_asking_again_keeps_the_token(self, control: Control) -> None:
        """An owner that still holds it gets the same lease for longer, never a shorter one."""
        control.leases.acquire("r", "a", 100, 50)
        assert control.leases.acquire("r", "a", 120, 50) == Lease("r", "a", 1, 170)
        assert control.leases.acquire("r", "a", 120, 1) == Lease("r", "a", 1, 170)

    def test_renewing_in_time_keeps_it(self, control: Control) -> None:
        """The lease lasts from now on."""
        lease = control.leases.acquire("r", "a", 100, 50)
        assert lease is not None
        assert control.leases.renew(lease, 149, 50) == Lease("r", "a", 1, 199)

    def test_renewing_too_late_is_a_loss_even_if_nobody_took_it(self, control: Control) -> None:
        """Later work may overlap with another's, so the owner must stop; it comes back under a new token."""
        lease = control.leases.acquire("r", "a", 100, 50)
        assert lease is not None
        with pytest.raises(LeaseLost, match="expired"):
            control.leases.renew(lease, 150, 50)
        assert control.leases.acquire("r", "a", 150, 50) == Lease("r", "a", 2, 200)

    def test_an_old_token_is_refused(self, control: Control) -> None:
        """A process that slept through its lease is told who has it now."""
        old = control.leases.acquire("r", "a", 100, 50)
        control.leases.acquire("r", "b", 200, 50)
        assert old is not None
        for ask in (lambda: control.leases.check(old, 210), lambda: control.leases.renew(old, 210, 50)):
            with pytest.raises(LeaseLost, match=r"held by 'b' \(token 2\)"):
                ask()

    def test_releasing_frees_it_at_once(self, control: Control) -> None:
        """A graceful stop lets the next start at once; the token still grows."""
        lease = control.leases.acquire("r", "a", 100, 50)
        assert lease is not None
        control.leases.release(lease)
        control.leases.release(lease)
        with pytest.raises(LeaseLost):
            control.leases.check(lease, 101)
        assert control.leases.acquire("r", "b", 101, 50) == Lease("r", "b", 2, 151)

    def test_releasing_a_lost_lease_frees_nobody_elses(self, control: Control) -> None:
        """The new holder keeps it."""
        old = control.leases.acquire("r", "a", 100, 50)
        new = control.leases.acquire("r", "b", 200, 50)
        assert old is not None
        assert new is not None
        control.leases.release(old)
        control.leases.check(new, 201)

    def test_a_check_fences_the_work_of_its_transaction(self, control: Control) -> None:
        """What is written together with a check of a lost lease is not written at all."""
        old = control.leases.acquire("r", "a", 100, 50)
        control.leases.acquire("r", "b", 200, 50)
        assert old is not None

        def work() -> None:
            with control.transaction() as books:
                books.passes.begin(210, {})
                books.leases.check(old, 210)

        with pytest.raises(LeaseLost):
            work()
        assert control.passes.last() is None

    def test_of_many_at_once_one_gets_it(self, control: Control) -> None:
        """Eight threads ask at the same moment."""
        got = together(8, lambda number: control.leases.acquire("r", f"owner-{number}", 100, 50))
        assert sum(lease is not None for lease in got) == 1

    @EACH_ROLLED_BACK
    @given(steps=STEPS)
    def test_never_two_holders_and_tokens_only_grow(
        self, control: Control, steps: list[tuple[int, str, str, int]]
    ) -> None:
        """Whatever three owners do: each works only on what it was told, and no two may work at the same time."""
        with rolled_back(control) as books:
            now, newest, held = 1000, 0, dict[str, Lease]()
            for passed, act, owner, ttl in steps:
                now += passed
                if act == "acquire":
                    got = books.leases.acquire("r", owner, now, ttl)
                    if got is not None:
                        assert got.token >= newest
                        held[owner], newest = got, got.token
                elif owner in held and act == "renew":
                    try:
                        held[owner] = books.leases.renew(held[owner], now, ttl)
                    except LeaseLost:
                        del held[owner]
                elif owner in held:
                    books.leases.release(held.pop(owner))
                assert sum(lease.expires_at > now for lease in held.values()) <= 1
