"""Ed25519 signatures over canonical JSON: who holds the public key can tell that nothing was changed, and by whom.

The signed bytes are `chain.canonical(body)`, so that any Ed25519 tool can check a signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tracker.model.chain import canonical
from tracker.model.errors import Invalid


class Key:
    """A private key. Its own text leaves it through `pem` alone; `repr` shows the public part."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = _pem(private.public_key())
        self.id = key_id(self.public)

    @classmethod
    def new(cls) -> Key:
        """A key that nobody had before."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, pem: bytes) -> Key:
        """A key out of its PEM file (PKCS 8, not encrypted). Raises Invalid for anything else."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Invalid("no Ed25519 private key in PEM without a password") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise Invalid("the private key is of another kind than Ed25519")
        return cls(private)

    def pem(self) -> bytes:
        """The secret itself, for its file."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, body: object) -> str:
        """The signature of a JSON value, base64."""
        return base64.b64encode(self._private.sign(canonical(body).encode("ascii"))).decode("ascii")

    def __repr__(self) -> str:
        return f"Key({self.id})"


def key_id(public: str) -> str:
    """A short name of a public key (PEM): the first 16 hex digits of the sha256 of its 32 bytes. Raises Invalid."""
    return hashlib.sha256(_public(public).public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def signed(public: str, body: object, signature: str) -> bool:
    """True when `signature` (base64) of this JSON value was made with the private part of `public` (PEM).

    Raises Invalid when `public` is no key.
    """
    try:
        _public(public).verify(base64.b64decode(signature, validate=True), canonical(body).encode("ascii"))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _public(pem: str) -> Ed25519PublicKey:
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Invalid("no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    if not isinstance(public, Ed25519PublicKey):
        raise Invalid("the public key is of another kind than Ed25519")
    return public


def _pem(public: Ed25519PublicKey) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
