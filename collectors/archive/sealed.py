"""Files of an archive, sealed: a header that everybody may read, and a body that only who has the flow's key can.

    8 bytes   TRKARC01
    4 bytes   length of the header, little endian
    header    JSON: what it is, of which flow, under which name, how it is sealed
    body      AES-256-GCM of the content under a key of its own, tag included; the header is its associated data

The body's key is wrapped by the flow's (`collectors.archive.keys`) and stands in the header. So a header that was
changed, a file under another's name and a file that was cut off do not open. A file without a key ends in a SHA-256 of
all before it instead: that shows damage, not a forger.
"""

from __future__ import annotations

import hashlib
import os
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collectors.archive.keys import BYTES, KeyProvider, Keys, UnknownKey
from collectors.errors import Unreadable

MAGIC = b"TRKARC01"
_START = len(MAGIC) + 4
_HEADER_LIMIT = 64 * 1024
_SUM = 32


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name`: the file's path in the archive. `wrapped`, `nonce`: of a body that is encrypted."""

    flow: str
    name: str
    cipher: Literal["aes-256-gcm", "none"]
    key_id: str = ""
    wrapped: bytes = b""
    nonce: bytes = b""


_decoder = msgspec.json.Decoder(Header)


def seal(flow: str, name: str, content: bytes, keys: KeyProvider | None) -> bytes:
    """The file `name` of `flow`; without `keys` it is not encrypted. Raises what the key provider raises."""
    if keys is None:
        plain = _started(Header(flow, name, "none")) + content
        return plain + hashlib.sha256(plain).digest()
    data_key, nonce = os.urandom(BYTES), os.urandom(12)
    key_id, wrapped = keys.wrap(flow, data_key, _context(flow, name))
    start = _started(Header(flow, name, "aes-256-gcm", key_id, wrapped, nonce))
    return start + AESGCM(data_key).encrypt(nonce, content, start)


def unseal(flow: str, name: str, data: bytes, keys: Keys) -> bytes:
    """The content of the file `name` of `flow`. Raises `Unreadable` that names it and says why."""
    start, header = _header(name, data)
    if header.name != name or header.flow != flow:
        raise Unreadable(name, f"it was written as {header.name[:300]!r} of flow {header.flow[:100]!r}")
    provider = keys.of(flow)
    if header.cipher == "none":
        if provider is not None and not keys.plain_allowed:
            raise Unreadable(name, "it is not encrypted, and `unencrypted: true` is not written down")
        if hashlib.sha256(data[:-_SUM]).digest() != data[-_SUM:]:
            raise Unreadable(name, "it was changed or cut off")
        return data[len(start) : -_SUM]
    if provider is None:
        raise Unreadable(name, f"it is encrypted, and there is no key of flow {flow!r}")
    try:
        data_key = provider.unwrap(flow, header.key_id, header.wrapped, _context(flow, name))
        return AESGCM(data_key).decrypt(header.nonce, data[len(start) :], start)
    except UnknownKey as error:
        raise Unreadable(name, str(error)) from None
    except (InvalidTag, ValueError):
        raise Unreadable(name, "it was changed or cut off") from None


def _started(header: Header) -> bytes:
    told = msgspec.json.encode(header)
    return MAGIC + len(told).to_bytes(4, "little") + told


def _header(name: str, data: bytes) -> tuple[bytes, Header]:
    """The first bytes up to the body, and what they say."""
    if data[: len(MAGIC)] != MAGIC:
        raise Unreadable(name, "it is no file of an archive")
    length = int.from_bytes(data[len(MAGIC) : _START], "little")
    start = data[: _START + length]
    if length > _HEADER_LIMIT or len(start) < _START + length:
        raise Unreadable(name, "it was changed or cut off")
    try:
        return start, _decoder.decode(start[_START:])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable(name, "its header was changed") from None


def _context(flow: str, name: str) -> bytes:
    return f"{flow}\0{name}".encode()
