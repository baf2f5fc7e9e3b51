"""An effect once per message, whatever comes twice: a redelivery, a producer's retry, a replay.

    once = Once(store, consumer="billing", flow="orders", unknown="again", lease="30s", keep="7d")
    with once.doing(once.name(message.headers())) as claim:
        if claim:
            charge(message)

What is promised depends on the store: docs/idempotency.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

from collectors.carried import Headers
from collectors.idempotency.answers import Answer, Busy, Claim, Done, Unknown, answer
from collectors.idempotency.errors import BusyElsewhere, InDoubt, Late, StoreUnavailable
from collectors.idempotency.store import Store
from collectors.idempotency.terms import Counts, Policy, terms
from tracker.model.carry import MESSAGE_ID

P = ParamSpec("P")


class Once:
    """One consumer of one flow. Safe to be shared by threads where its store is (all of ours are).

    `unknown`: what `doing` and `guard` do about a message whose last worker never said how it ended. `lease`: longer
    than the effect ever takes. `keep`: longer than anything may come again, replays included.
    """

    def __init__(
        self,
        store: Store,
        *,
        consumer: str,
        flow: str,
        unknown: Policy,
        lease: str | float = "30s",
        keep: str | float = "7d",
        identity_header: str = MESSAGE_ID,
    ) -> None:
        self._store = store
        self._terms = terms(consumer, flow, lease, keep, unknown, identity_header)

    @property
    def counts(self) -> Counts:
        """What was answered so far."""
        return self._terms.counts

    def name(self, headers: Headers, message_id: str = "") -> str:
        """The id that a message carries: AMQP's own property where it is given, else the header. Raises
        `NoMessageId`."""
        return self._terms.name(headers, message_id)

    def begin(self, message_id: str) -> Answer:
        """Whose turn it is. Raises `StoreUnavailable` (nothing was executed), `NoMessageId`."""
        key, asked = self._terms.key(message_id), time.monotonic()
        told = self._store.claim(key, self._terms.lease, self._terms.keep)
        said = answer(key, told, asked + self._terms.lease / 1e6)
        self._terms.counts.add(said)
        return said

    def done(self, claim: Claim) -> None:
        """The effect happened. Raises `Late` when another worker has the message by now, `StoreUnavailable` when the
        store cannot be told, tried twice: then the next one is told `Unknown`."""
        try:
            counted = self._store.done(claim, self._terms.keep)
        except StoreUnavailable:  # mostly a connection that was cut while the effect ran
            counted = self._store.done(claim, self._terms.keep)
        if not counted:
            self._terms.counts.late += 1
            raise Late(claim.key, claim.token)

    def release(self, claim: Claim, *, doubt: bool = False) -> None:
        """The effect did not happen; with `doubt`: it may have. Raises `StoreUnavailable`: then the lease has to run
        out."""
        self._store.release(claim, doubt)

    @contextmanager
    def doing(self, message_id: str) -> Iterator[Claim | None]:
        """A claim, or None when there is nothing to do any more. Raises `BusyElsewhere`, and what `begin` and `done`
        raise.

        An exception from inside gives the message back: it says that the effect did not happen. `InDoubt`, and what is
        no `Exception` (an interrupt, a cancellation), says that it may have.
        """
        claim = self._turn(self.begin(message_id))
        if claim is None:
            yield None
            return
        try:
            yield claim
        except BaseException as error:
            self._let_go(claim, error)
            raise
        self.done(claim)

    def guard(self, named: Callable[P, str]) -> Callable[[Callable[P, object]], Callable[P, bool]]:
        """Makes a function do its effect once: `named` gives the message id of its arguments. The new one returns
        whether it did it now, and raises as `doing`."""

        def around(effect: Callable[P, object]) -> Callable[P, bool]:
            @wraps(effect)
            def run(*args: P.args, **kwargs: P.kwargs) -> bool:
                with self.doing(named(*args, **kwargs)) as claim:
                    if claim is not None:
                        effect(*args, **kwargs)
                return claim is not None

            return run

        return around

    def _turn(self, said: Answer) -> Claim | None:
        match said:
            case Done():
                return None
            case Busy(key, left):
                raise BusyElsewhere(key, left)
            case Unknown() if self._terms.unknown == "skip":
                self.done(said)
                return None
        return said

    def _let_go(self, claim: Claim, error: BaseException) -> None:
        """The application's error goes first; that the store could not be told is noted on it."""
        try:
            self.release(claim, doubt=isinstance(error, InDoubt) or not isinstance(error, Exception))
        except StoreUnavailable as second:
            error.add_note(f"{claim.key} stays claimed for {max(0.0, claim.left()):.1f} s: {second}")
