"""Keys by name."""

from __future__ import annotations

import base64
import os
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from pydantic import ValidationError

from collectors.archive import keys
from collectors.archive.config import ArchiveConfig, Place
from collectors.archive.keys import Keys, Secrets, UnknownKey, provider
from collectors.errors import ConfigInvalid
from tests.unit.collectors.archiving import KEY


@pytest.mark.parametrize("text", [KEY, base64.b64decode(KEY).hex(), f"  {KEY}\n", f"{KEY},{KEY}"])
def test_a_key_is_base64_or_hex(text):
    """Both are the same key."""
    known = provider("env:K", {"K": text})
    key_id, wrapped = provider("env:K", {"K": KEY}).wrap("orders", b"d" * 32, b"context")
    assert known.unwrap("orders", key_id, wrapped, b"context") == b"d" * 32


@pytest.mark.parametrize("text", ["", " \n", "short", "aGVsbG8=", "z" * 64, "ä" * 44, KEY[:-2]])
def test_a_key_that_is_none(text):
    """It is refused, and not shown."""
    with pytest.raises(ConfigInvalid, match="openssl rand -base64 32") as raised:
        provider("env:K", {"K": text})
    assert not text.strip() or text.strip() not in str(raised.value)


def test_what_is_not_there(tmp_path):
    """A variable, a file, a provider."""
    with pytest.raises(ConfigInvalid, match="env:K is not set"):
        provider("env:K", {})
    with pytest.raises(ConfigInvalid, match="No such file"):
        provider(f"file:{tmp_path}/none")
    with pytest.raises(ConfigInvalid, match="no such provider"):
        provider("vault:orders")


def test_each_flow_has_its_own_key():
    """What was wrapped for one flow, or for something else, does not open for another."""
    known = provider("env:K", {"K": KEY})
    key_id, wrapped = known.wrap("orders", b"d" * 32, b"context")
    for flow, context in (("payments", b"context"), ("orders", b"another")):
        with pytest.raises(UnknownKey):
            known.unwrap(flow, key_id, wrapped, context)


def test_a_provider_of_ones_own(monkeypatch):
    """By an entry point: it is given what stands behind its name."""
    asked = []

    def made(rest):
        asked.append(rest)
        return Secrets("vault", lambda: KEY)

    monkeypatch.setattr(sys.modules[__name__], "vault", made, raising=False)
    point = EntryPoint("vault", f"{__name__}:vault", keys.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: made)
    monkeypatch.setattr(keys, "entry_points", lambda **which: EntryPoints([point]).select(**which))
    Keys(Place(url="x", key={"orders": "vault:team/orders"})).of("orders")
    assert asked == ["team/orders"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "unencrypted: true"),
        ({"key": {"orders": "env:K"}, "flows": ["orders", "payments"]}, "no key for payments"),
        ({"key": "env:K", "flows": ["../up"]}, "no name of a flow"),
        ({"key": "env:K", "flows": []}, "flows"),
        ({"key": "env:K", "keep": "forever"}, "keep"),
    ],
)
def test_nothing_is_kept_by_accident(said, why):
    """Without a key it has to be written down that there is none, flow by flow; names are names."""
    with pytest.raises(ValidationError, match=why):
        ArchiveConfig(**{"url": "file:///a", "flows": ["orders"], **said})


def test_a_key_never_repeats_itself():
    """Wrapped twice it is different bytes."""
    known = provider("env:K", {"K": KEY})
    data = os.urandom(32)
    assert known.wrap("orders", data, b"")[1] != known.wrap("orders", data, b"")[1]
