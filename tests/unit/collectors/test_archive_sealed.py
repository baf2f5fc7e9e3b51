"""Sealed files: what was put in comes out, or a clear error; never something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.archive.config import Place
from collectors.archive.keys import Keys, provider
from collectors.archive.sealed import seal, unseal
from collectors.errors import Unreadable
from tests.unit.collectors.archiving import KEY, OTHER, key_file

NAME = "orders/log/0-1-2-3-one.segment"
SECRET = b"the payload of somebody"


@pytest.fixture
def keys(tmp_path):
    """Of an archive with a key."""
    return Keys(Place(url="file:///nowhere", key=key_file(tmp_path)))


@given(content=st.binary(max_size=2000))
def test_what_is_sealed_comes_out(content, tmp_path_factory):
    """With a key and without, and with a key nothing of it can be read in the file."""
    name, content = key_file(tmp_path_factory.mktemp("key")), SECRET + content
    sealed = seal("orders", NAME, content, provider(name))
    assert unseal("orders", NAME, sealed, Keys(Place(url="x", key=name))) == content
    assert SECRET not in sealed
    plain = Place(url="x", unencrypted=True)
    assert unseal("orders", NAME, seal("orders", NAME, content, None), Keys(plain)) == content


@pytest.mark.parametrize("encrypted", [True, False])
def test_every_byte_counts(keys, encrypted):
    """A file in which any one byte was changed, or that was cut off anywhere, does not open; the error names it, and
    tells nothing of what is in it."""
    reader = keys if encrypted else Keys(Place(url="x", unencrypted=True))
    sealed = seal("orders", NAME, SECRET, keys.of("orders") if encrypted else None)
    damaged = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    damaged += [sealed[:at] for at in range(len(sealed))] + [sealed + b"\0"]
    for each in damaged:
        with pytest.raises(Unreadable) as raised:
            unseal("orders", NAME, each, reader)
        assert str(raised.value).startswith(f"{NAME}: ")
        assert SECRET.decode() not in str(raised.value)


@pytest.mark.parametrize(
    ("flow", "name"), [("orders", NAME.replace("0-1", "0-2")), ("payments", NAME), ("orders", "orders/us/x.segment")]
)
def test_a_file_is_not_taken_for_another(keys, flow, name):
    """Under another name, at another hop, for another flow: it says whose it is."""
    with pytest.raises(Unreadable, match=r"it was written as 'orders/log/.* of flow 'orders'"):
        unseal(flow, name, seal("orders", NAME, SECRET, keys.of("orders")), keys)


def test_a_header_that_lies_does_not_help(keys):
    """Renamed inside as well: the name is part of what is authenticated."""
    other = NAME.replace("0-1", "9-9")
    forged = seal("orders", NAME, SECRET, keys.of("orders")).replace(NAME.encode(), other.encode())
    with pytest.raises(Unreadable, match=r"its key was damaged|changed"):
        unseal("orders", other, forged, keys)


def test_a_header_that_was_written_anew_does_not_open(keys):
    """Also when it says the same: all of its bytes are authenticated with the body."""
    sealed = seal("orders", NAME, SECRET, keys.of("orders"))
    length = int.from_bytes(sealed[8:12], "little")
    header = sealed[12 : 12 + length].replace(b'{"flow":', b'{"flow": ')
    forged = sealed[:8] + len(header).to_bytes(4, "little") + header + sealed[12 + length :]
    with pytest.raises(Unreadable, match="changed or cut off"):
        unseal("orders", NAME, forged, keys)


def test_another_key_does_not_open_it(keys, tmp_path):
    """The error names the file and the id of the key that is missing; neither key."""
    sealed = seal("orders", NAME, SECRET, keys.of("orders"))
    key_file(tmp_path, OTHER)
    with pytest.raises(Unreadable, match=r"its key [0-9a-f]{16} is not known to file:") as raised:
        unseal("orders", NAME, sealed, keys)
    assert KEY not in str(raised.value)
    assert OTHER not in str(raised.value)


def test_keys_can_be_rotated(keys, tmp_path):
    """What was written under the old one opens as long as it stands behind the new one; new files take the new one."""
    old = seal("orders", NAME, SECRET, keys.of("orders"))
    key_file(tmp_path, OTHER, KEY)
    new = seal("orders", NAME, SECRET, keys.of("orders"))
    assert unseal("orders", NAME, old, keys) == unseal("orders", NAME, new, keys) == SECRET
    key_file(tmp_path, OTHER)
    assert unseal("orders", NAME, new, keys) == SECRET
    with pytest.raises(Unreadable):
        unseal("orders", NAME, old, keys)


def test_who_has_a_key_takes_no_file_without_one(keys):
    """Whoever may write there cannot slip one in; unless `unencrypted` is written down as well."""
    plain = seal("orders", NAME, SECRET, None)
    with pytest.raises(Unreadable, match="not encrypted"):
        unseal("orders", NAME, plain, keys)
    with pytest.raises(Unreadable, match="no key of flow"):
        unseal("orders", NAME, seal("orders", NAME, SECRET, keys.of("orders")), Keys(Place(url="x", unencrypted=True)))


@given(data=st.binary(max_size=300), start=st.booleans())
def test_any_bytes_are_refused(data, start):
    """Whatever stands in a file: an error of ours."""
    with pytest.raises(Unreadable):
        unseal("orders", NAME, b"TRKARC01" + data if start else data, Keys(Place(url="x", unencrypted=True)))
