"""Addresses may hold a login, `http://user:password@host`. Nobody is to read it in a log or a probe. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_LOGIN = re.compile(r"(?<=//)\S*@")
_AUTHORITY = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/?#]*)@", re.IGNORECASE)
"""RFC 3986, section 3.2: the login ends at the last `@` before the path."""


class Address(NamedTuple):
    """A URL without its login, and that: (user, password), None where there is none."""

    url: str
    login: tuple[str, str] | None


def apart(url: str) -> Address:
    """The login, percent-decoded, taken out of a URL."""
    found = _AUTHORITY.match(url)
    if found is None:
        return Address(url, None)
    user, _, password = found[2].partition(":")
    return Address(found[1] + url[found.end() :], (unquote(user), unquote(password)))


def without_logins(text: str) -> str:
    """A text whose addresses tell no user and no password."""
    return _LOGIN.sub("***@", text)
