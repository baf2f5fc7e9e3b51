"""Ids in as many questions as a server takes them: one form field of a request holds 128 KiB by default
(`http_max_field_value_size`), and the embedded engine is asked the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MOST = 100_000
"""Bytes of ids in one question, as they are sent."""
_ESCAPED = re.compile(r"[\\'\x00-\x1f\x7f]")


def bundles(ids: Sequence[str], most: int = MOST) -> Iterator[list[str]]:
    """The ids in order, in lists that fit; none when there are no ids."""
    bundle: list[str] = []
    size = 0
    for ident in ids:
        # Quotes and a comma; a control character, quote or backslash is escaped, and its backslashes once more.
        needs = len(ident.encode()) + 3 + 4 * len(_ESCAPED.findall(ident))
        if bundle and size + needs > most:
            yield bundle
            bundle, size = [], 0
        bundle.append(ident)
        size += needs
    if bundle:
        yield bundle
