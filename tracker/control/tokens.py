"""Access tokens: `mt_<id>_<secret>`. The id is public and names the row; the secret is shown once and never kept.

Kept is HMAC-SHA256 of the secret under a salt of the token's own. A slow password hash would add nothing: the secret
is 32 random bytes, which no search finds, and tokens are checked on every request.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from tracker.control import tables
from tracker.control.database import Transactions, lock
from tracker.control.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable

SCOPES = ("ingest", "read", "replay", "audit", "admin")
"""`admin` includes the others. `audit` reads the audit log and nothing else: it names people, which `read`, that lies
in dashboards, should not."""
ADMIN, AUDIT = "admin", "audit"
SECRET_BYTES = 32
SLOWEST = 0.001
"""The lowest rate of a token, per second: less would be a slip."""
LAST_USED_STEP = 300_000_000
"""`last_used_at` is exact to five minutes, so that checking a token is a read."""

_NOBODY = bytes(32)
_REFUSED = "the access token is unknown, expired or revoked; make one with: tracker token create"


class Rates(msgspec.Struct, frozen=True):
    """What a token may send per second. 0: no limit; None: what the installation allows every token."""

    events: float | None = None
    bytes: float | None = None


USUAL = Rates()
"""What all tokens may send."""


class Principal(msgspec.Struct, frozen=True):
    """Who calls: what the audit log names, and what it may do."""

    id: str
    name: str
    scopes: frozenset[str]
    rates: Rates = USUAL

    def may(self, scope: str) -> bool:
        """Whether it has the scope, or `admin`."""
        return scope in self.scopes or ADMIN in self.scopes


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A token as shown in lists: everything but the secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    rate_events: float | None = None
    rate_bytes: float | None = None


class Tokens:
    """Who may talk to the tracker."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        now: int,
        by: str,
        expires_at: int | None = None,
        rates: Rates = USUAL,
    ) -> tuple[TokenInfo, str]:
        """A new token and its text, which nobody can read again. Raises `Invalid` for a scope that is none, or a rate
        below 0."""
        chosen = _chosen(scopes)
        if expires_at is not None and expires_at <= now:
            raise Invalid(f"token {name!r} would expire before it is made")
        with self._transactions.write() as session:
            return _create(session, name, chosen, now, by, expires_at, _sane(rates))

    def bootstrap(self, now: int) -> str | None:
        """The text of a first admin token, or None while a usable one exists: to be shown to who started the tracker.

        Also the way back in when every admin token has expired or was revoked.
        """
        with self._transactions.write() as session:
            lock(session, "tokens")
            rows = session.scalars(select(tables.Token).where(tables.Token.revoked_at.is_(None)))
            if any(ADMIN in row.scopes and _usable(row, now) for row in rows):
                return None
            return _create(session, "bootstrap", [ADMIN], now, "tracker", None)[1]

    def verify(self, token: str, scope: str, now: int) -> Principal:
        """Who this is. Raises `Unauthenticated` for a token that is not good, `Forbidden` when it lacks `scope`."""
        token_id, secret = _parts(token)
        with self._transactions.read() as session:
            row = session.get(tables.Token, token_id)
            # The same work for an unknown id, so that the time of the answer does not tell which ids exist.
            salt, expected = (row.salt, row.hash) if row is not None else (_NOBODY, _NOBODY)
            good = hmac.compare_digest(_hash(salt, secret), expected)
            if row is None or not good or not _usable(row, now):
                raise Unauthenticated(_REFUSED)
            principal = Principal(row.id, row.name, frozenset(row.scopes), Rates(row.rate_events, row.rate_bytes))
            stale = row.last_used_at is None or now - row.last_used_at >= LAST_USED_STEP
        if not principal.may(scope):
            raise Forbidden(f"token {principal.id} ({principal.name}) has no scope {scope!r}, only {_list(row.scopes)}")
        if stale:
            self._touch(token_id, now)
        return principal

    def revoke(self, token_id: str, now: int) -> None:
        """From now on it is refused; again changes nothing. Raises `NotFound`."""
        with self._transactions.write() as session:
            row = session.get(tables.Token, token_id)
            if row is None:
                raise NotFound(f"no token {token_id!r}; list them with: tracker token list")
            if row.revoked_at is None:
                row.revoked_at = now

    def limit(self, token_id: str, rates: Rates) -> TokenInfo:
        """From now on it may send so much. Raises `NotFound`, and `Invalid` for a rate below 0."""
        with self._transactions.write() as session:
            row = session.get(tables.Token, token_id)
            if row is None:
                raise NotFound(f"no token {token_id!r}; list them with: tracker token list")
            row.rate_events, row.rate_bytes = _sane(rates).events, rates.bytes
            return _value(row)

    def list(self) -> list[TokenInfo]:
        """Every token, revoked and expired ones too, oldest first."""
        with self._transactions.read() as session:
            rows = session.scalars(select(tables.Token).order_by(tables.Token.created_at, tables.Token.id))
            return [_value(row) for row in rows]

    def _touch(self, token_id: str, now: int) -> None:
        """Nobody is refused because this could not be written."""
        with suppress(Unavailable), self._transactions.write() as session:
            row = session.get(tables.Token, token_id)
            if row is not None:
                row.last_used_at = now


def _chosen(scopes: Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys(scopes))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown or not chosen:
        raise Invalid(f"a token needs scopes out of {_list(SCOPES)}; got {_list(unknown) or 'none'}")
    return chosen


def _sane(rates: Rates) -> Rates:
    for said in (rates.events, rates.bytes):
        if said is not None and said != 0 and not SLOWEST <= said < math.inf:
            raise Invalid(
                f"{said:g} is no rate; a token sends {SLOWEST:g} per second or more, 0 says that there is no limit"
            )
    return rates


def _create(
    session: Session,
    name: str,
    scopes: list[str],
    now: int,
    by: str,
    expires_at: int | None,
    rates: Rates = USUAL,
) -> tuple[TokenInfo, str]:
    token_id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(16)
    row = tables.Token(
        id=token_id,
        name=name,
        scopes=scopes,
        salt=salt,
        hash=_hash(salt, secret),
        created_at=now,
        created_by=by,
        expires_at=expires_at,
        rate_events=rates.events,
        rate_bytes=rates.bytes,
    )
    session.add(row)
    session.flush()
    return _value(row), f"mt_{token_id}_{secret}"


def _parts(token: str) -> tuple[str, str]:
    """The secret may hold `_`, the id does not."""
    match token.split("_", 2):
        case ["mt", token_id, secret] if token_id.isascii() and token_id.isalnum():
            return token_id, secret
    raise Unauthenticated(_REFUSED)


def _hash(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _usable(row: tables.Token, now: int) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def _list(words: Collection[str]) -> str:
    return ", ".join(words)


def _value(row: tables.Token) -> TokenInfo:
    return msgspec.convert(row, TokenInfo, from_attributes=True)
