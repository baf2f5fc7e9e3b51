"""What an installation decides once and must remember, as the salt under which message keys are hashed."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from tracker.control import tables
from tracker.control.database import Transactions, lock

_SALT = "key.salt"
_INSTALLATION = "installation"


class Settings:
    """Names to texts."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def get(self, name: str) -> str | None:
        """The value, or None."""
        with self._transactions.read() as session:
            row = session.get(tables.Setting, name)
            return None if row is None else row.value

    def put(self, name: str, value: str) -> None:
        """Set the value."""
        with self._transactions.write() as session:
            lock(session, f"setting:{name}")
            session.merge(tables.Setting(name=name, value=value))

    def once(self, name: str, make: Callable[[], str]) -> str:
        """The value; where there is none, what `make` gives is kept for ever. All trackers get the same."""
        found = self.get(name)
        if found is not None:
            return found
        with self._transactions.write() as session:
            lock(session, f"setting:{name}")
            row = session.get(tables.Setting, name)
            if row is None:
                row = tables.Setting(name=name, value=make())
                session.add(row)
            return row.value

    def salt(self) -> bytes:
        """32 random bytes of this installation: the key of the hash in which message keys are stored."""
        return bytes.fromhex(self.once(_SALT, lambda: secrets.token_hex(32)))

    def key_salt(self) -> int:
        """The first 64 bits of `salt`: the seed of xxh3-64 by which keys are stored."""
        return int.from_bytes(self.salt()[:8], "big")

    def installation(self) -> str:
        """The word that the ledger of this installation has, too."""
        return self.once(_INSTALLATION, lambda: secrets.token_hex(6))

    def adopt(self, installation: str) -> None:
        """From now on this is the control database of that installation's ledger."""
        self.put(_INSTALLATION, installation)
