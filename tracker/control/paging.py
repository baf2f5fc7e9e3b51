"""Cursors: a page says where the next one starts, so rows that come meanwhile neither repeat nor shift others."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from tracker.control.errors import Invalid

LARGEST = 1000
"""Rows on a page, whatever was asked for."""

Item = TypeVar("Item")
Key = TypeVar("Key")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """`cursor` asks for the next page; empty on the last one."""

    items: list[Item]
    cursor: str = ""


def encode(key: tuple[int | str, ...]) -> str:
    """The cursor after the row with this sort key; opaque to clients, safe in a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode(cursor: str, shape: type[Key]) -> Key:
    """The sort key, of type `shape` (a tuple type). Raises `Invalid` for a cursor that is not ours."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=shape)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError) as error:
        raise Invalid(f"{cursor!r} is not a cursor of this list; leave it out to start from the beginning") from error


def rows(limit: int) -> int:
    """How many rows to read for a page of `limit`: one more, to see whether another page follows."""
    return max(1, min(limit, LARGEST)) + 1


def cut(found: Sequence[Item], limit: int, key: Callable[[Item], tuple[int | str, ...]]) -> Page[Item]:
    """The page out of what `rows(limit)` rows gave; `key` is the sort key that the next page starts after."""
    size = rows(limit) - 1
    items = list(found[:size])
    return Page(items, encode(key(items[-1])) if len(found) > size else "")
