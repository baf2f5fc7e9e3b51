"""What a store of claims and marks has to do. All waits in it are bounded."""

from __future__ import annotations

from typing import Protocol

from collectors.idempotency.answers import Claim, Key, Told


class Store(Protocol):
    """Raises `StoreUnavailable` when it does not answer, `ConfigInvalid` when trying again is no use."""

    def claim(self, key: Key, lease: int, keep: int) -> Told:
        """The turn for this message, for `lease` µs; the record of it stays for `keep` µs at least. One atomic step."""
        ...

    def done(self, claim: Claim, keep: int) -> bool:
        """Mark it as done, where the claim still counts: nobody took the message over. Saying it twice is saying it
        once. Where there is no record at all it is written anew."""
        ...

    def release(self, claim: Claim, doubt: bool) -> None:
        """Give the turn back. With `doubt`, or where the claim was `Unknown`, the next one is told `unknown`. A claim
        that does not count any more changes nothing."""
        ...


class AsyncStore(Protocol):
    """`Store` for event loops."""

    async def claim(self, key: Key, lease: int, keep: int) -> Told:
        """See `Store`."""
        ...

    async def done(self, claim: Claim, keep: int) -> bool:
        """See `Store`."""
        ...

    async def release(self, claim: Claim, doubt: bool) -> None:
        """See `Store`."""
        ...
