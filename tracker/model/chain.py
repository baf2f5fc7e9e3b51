"""A hash chain over JSON: each link's hash covers the one before, so no entry can be changed or taken out unseen.

What it cannot show by itself is a tail cut off: whoever must be sure keeps a copy of the newest hash elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

ORIGIN = "0" * 64
"""What the first link names as the one before it."""


def canonical(value: object) -> str:
    """The one text of a JSON value: keys sorted, no spaces, ASCII. Raises `ValueError` for NaN, `TypeError` for
    what is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def link(previous: str, body: Mapping[str, object]) -> str:
    """The hash of the next link: sha256, hex, over the canonical JSON of `body` with the hash before it."""
    text = canonical({**body, "previous": previous})
    return hashlib.sha256(text.encode("ascii")).hexdigest()
