"""Is this the copy that was observed, and what does it look like when it is sent again?"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
import xxhash

from tracker.model.carry import REPLAY_ATTEMPT, REPLAY_ID, REPLAY_OF, Copy, Missing

BURIAL = re.compile(r"x-death$|x-(first|last)-death-|kafka_dlt-|__connect\.errors\.", re.IGNORECASE)
"""Headers that a dead letter got on its way there: of RabbitMQ, Spring Kafka, Kafka Connect. They tell of the failure
that is mended now, and some count attempts by them."""


@lru_cache(10_000)
def _of_burial(header: str) -> bool:
    return BURIAL.match(header) is not None


def fault(found: Copy | Missing, digests: frozenset[str], identity: str) -> str:
    """Why this copy must not be sent, in words; empty when it may.

    `digests` as `routes.Digests` gives them; none means that there is nothing to compare with, which is no fault.
    `identity` is the header of the message id: without it, what arrives would count as another message.
    """
    place = f"{found.locator.hop} {found.locator.partition} offset {found.locator.offset}"
    if isinstance(found, Missing):
        return f"{place}: {found.reason or 'no longer there'}"
    carried = found.headers.get(identity, found.message_id.encode())
    if not carried:
        return f"{place}: the copy has no header {identity!r}; sent again it would be another message"
    if carried != found.locator.message_id.encode():
        return f"{place}: it holds message {carried.decode(errors='backslashreplace')!r} now: the log was made anew"
    digest = xxhash.xxh3_64_hexdigest(found.value)
    if len(digests) > 1:
        seen = ", ".join(sorted(digests))
        return f"{place}: it was observed with different digests ({seen}); nobody knows the right one"
    if digests and digest not in digests:
        return f"{place}: digest {digest} is not the one observed, {min(digests)}: a wrong copy"
    return ""


def attempts_carried(copy: Copy) -> int:
    """The attempt number that the copy itself carries: it is what an earlier replay sent. 0 when it is none."""
    digits = copy.headers.get(REPLAY_ATTEMPT, b"")
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0


def dressed(copy: Copy, replay_id: str, attempt: int, identity: str) -> Copy:
    """The copy as it is sent: value, key and headers as the application gave them, and the three of a replay; and the
    header of its id, where that stood elsewhere."""
    place = copy.locator
    own = {name: value for name, value in copy.headers.items() if not _of_burial(name)}
    added = {
        identity: own.get(identity, place.message_id.encode()),
        REPLAY_ID: replay_id.encode(),
        REPLAY_ATTEMPT: str(attempt).encode(),
        REPLAY_OF: f"{place.hop}/{place.partition}/{place.offset}".encode(),
    }
    return msgspec.structs.replace(copy, headers=own | added)
