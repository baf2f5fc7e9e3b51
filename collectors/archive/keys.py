"""Keys by name: `env:NAME` and `file:PATH`, and others by the entry point group `message_tracker.archive_keys`.

A provider wraps the fresh key of each segment under the flow's own, and says under which id; it unwraps what it wrapped
as long as it knows that id. Whoever has the keys in a vault registers a provider that asks the vault.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from collectors.archive.config import Place
from collectors.errors import ConfigInvalid

GROUP = "message_tracker.archive_keys"
BYTES = 32
_NONCE = 12


class UnknownKey(Exception):
    """The provider does not know this id, or the key of this id does not open it."""


class KeyProvider(Protocol):
    """May be called from several threads. Raises `ConfigInvalid` when it has no key, `Unavailable` when it cannot be
    asked now. `context` says what the wrapped key is for and is authenticated with it; it is no secret."""

    def wrap(self, flow: str, data_key: bytes, context: bytes) -> tuple[str, bytes]:
        """The id of the flow's present key, and `data_key` wrapped under it."""
        ...

    def unwrap(self, flow: str, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """What was wrapped. Raises `UnknownKey`."""
        ...


class Secrets:
    """Keys of 32 bytes that stand in a text, in base64 or hex, separated by blanks or commas: the first is the present
    one, the others are old and open what was written under them. `read` gives the text, anew each time it is needed, so
    that a mounted secret may change. A flow's key is derived from it (HKDF-SHA256), so that no two flows share one."""

    def __init__(self, name: str, read: Callable[[], str]) -> None:
        self._name, self._read = name, read
        self._secrets()

    def wrap(self, flow: str, data_key: bytes, context: bytes) -> tuple[str, bytes]:
        """See `KeyProvider`."""
        key_id, secret = next(iter(self._secrets().items()))
        nonce = os.urandom(_NONCE)
        return key_id, nonce + AESGCM(_of_flow(secret, flow)).encrypt(nonce, data_key, context)

    def unwrap(self, flow: str, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyProvider`."""
        secret = self._secrets().get(key_id)
        if secret is None:
            raise UnknownKey(f"its key {key_id} is not known to {self._name}")
        try:
            return AESGCM(_of_flow(secret, flow)).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context)
        except (InvalidTag, ValueError):
            raise UnknownKey("its key was damaged") from None

    def _secrets(self) -> dict[str, bytes]:
        found = [self._decoded(word) for word in self._read().replace(",", " ").split()]
        if not found:
            raise ConfigInvalid(f"{self._name} is empty; make a key: openssl rand -base64 32")
        return {key_id(secret): secret for secret in found}

    def _decoded(self, word: str) -> bytes:
        try:
            secret = bytes.fromhex(word) if len(word) == 2 * BYTES else base64.b64decode(word, validate=True)
        except (ValueError, binascii.Error):
            secret = b""
        if len(secret) != BYTES:
            raise ConfigInvalid(f"{self._name}: a key is 32 bytes in base64 or hex; make one: openssl rand -base64 32")
        return secret


def key_id(secret: bytes) -> str:
    """What a secret is called where it was used: it tells nothing of it."""
    return hashlib.sha256(b"message-tracker archive key id\0" + secret).hexdigest()[:16]


def provider(name: str, environment: Mapping[str, str] = os.environ) -> KeyProvider:
    """The provider that `scheme:rest` names. Raises `ConfigInvalid`."""
    scheme, _, rest = name.partition(":")
    if scheme == "env" and rest:
        return Secrets(name, lambda: _variable(rest, environment))
    if scheme == "file" and rest:
        return Secrets(name, lambda: _file(rest))
    found = list(entry_points(group=GROUP, name=scheme))
    if not found:
        raise ConfigInvalid(f"key {scheme}: there is no such provider; name env:NAME or file:PATH, or install one")
    made: KeyProvider = found[0].load()(rest)
    return made


class Keys:
    """The providers of an archive, by flow. Each is made once."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[str, KeyProvider] = {}
        self.plain_allowed = place.unencrypted

    def of(self, flow: str) -> KeyProvider | None:
        """The provider of a flow; None where it has none. Raises `ConfigInvalid`."""
        name = self._place.key_of(flow)
        if name and name not in self._made:
            self._made[name] = provider(name)
        return self._made[name] if name else None


def _of_flow(secret: bytes, flow: str) -> bytes:
    info = b"message-tracker archive\0" + flow.encode()
    return HKDF(algorithm=SHA256(), length=BYTES, salt=None, info=info).derive(secret)


def _variable(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise ConfigInvalid(f"env:{name} is not set in the environment")
    return environment[name]


def _file(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError as error:
        raise ConfigInvalid(f"file:{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigInvalid(f"file:{path}: a key is 32 bytes in base64 or hex") from None
