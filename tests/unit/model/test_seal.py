from __future__ import annotations

import pytest

from tracker.model import seal
from tracker.model.errors import Invalid


def test_a_key_survives_its_file_and_keeps_its_name() -> None:
    """What is read is what was written; the id belongs to the public part."""
    key = seal.Key.new()
    again = seal.Key.read(key.pem())
    assert (again.id, again.public, again.sign({"a": 1})) == (key.id, key.public, key.sign({"a": 1}))
    assert seal.key_id(key.public) == key.id
    assert seal.Key.new().id != key.id


def test_a_key_shows_its_name_and_nothing_of_its_secret() -> None:
    """It may stand in a log or a traceback."""
    key = seal.Key.new()
    assert repr(key) == str(key) == f"Key({key.id})"


def test_a_signature_is_of_one_body_by_one_key() -> None:
    """Another body, another key and another text are no signature; nor is what is no base64."""
    key, other = seal.Key.new(), seal.Key.new()
    signature = key.sign({"a": 1})
    assert seal.signed(key.public, {"a": 1}, signature)
    assert not seal.signed(key.public, {"a": 2}, signature)
    assert not seal.signed(other.public, {"a": 1}, signature)
    for text in ("", "?", "é", signature[:-4], signature + "AAAA"):
        assert not seal.signed(key.public, {"a": 1}, text)


@pytest.mark.parametrize("pem", ["", "x", seal.Key.new().public])
def test_what_is_no_private_key_is_refused(pem: str) -> None:
    """The error says what was expected and shows nothing of the file."""
    with pytest.raises(Invalid, match="private key"):
        seal.Key.read(pem.encode())


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_what_is_no_public_key_is_refused(pem: str) -> None:
    """Whichever question it is asked for."""
    with pytest.raises(Invalid, match="public key"):
        seal.key_id(pem)
    with pytest.raises(Invalid, match="public key"):
        seal.signed(pem, {}, "")
