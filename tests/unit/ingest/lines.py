"""Lines as clients send them."""

import json
from typing import Any

from tracker.ingest.asked import KnownFlow
from tracker.ingest.batch import Batch
from tracker.ingest.lines.decode import decode
from tracker.ingest.prepare import Context, prepare
from tracker.store.columns import EVENTS

NOW = 1_800_000_000_000_000
CONTEXT = Context({"orders": KnownFlow(), "open": KnownFlow(plain=True)}, salt=7, source="test", now=NOW)


def event(**changes: Any) -> dict[str, Any]:
    """A good event, with changes; None leaves a field out."""
    good = {"flow": "orders", "message_id": "m-1", "hop": "kafka-eu", "stage": "persist", "observed_at": NOW}
    return {name: value for name, value in (good | changes).items() if value is not None}


def moved(**changes: Any) -> dict[str, Any]:
    """A good range, with changes."""
    where = {"flow": "orders", "hop": "billing", "stage": "ack", "log": "kafka-eu", "partition": "orders/0"}
    good = {**where, "evidence": "range", "offset": 0, "offset_to": 10, "observed_from": NOW - 5, "observed_at": NOW}
    return {name: value for name, value in (good | changes).items() if value is not None}


def body(*lines: dict[str, Any] | bytes) -> bytes:
    """Objects as NDJSON; bytes as they are."""
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)


NOTHING = {"origin_at": 0, "observed_span": 0, "offset": -1, "digest": 0, "size": 0, "key_hash": 0, "attempt": 0,
           "attributes": [], "backfill": False, "clock_offset": 0, "clock_error": -1}  # fmt: skip
"""What the store has in a column that was left out, or was null; an empty text (tests/store/test_inserts.py)."""


def stored(got: Batch) -> list[dict[str, Any]]:
    """The rows of a batch as the store will have them."""
    nothing = dict.fromkeys(EVENTS.names, "") | NOTHING
    return [nothing | {k: v for k, v in row.items() if v is not None} for row in got.events.to_pylist()]


def batch(*lines: dict[str, Any] | bytes, header: str = "") -> Batch:
    """What these lines become."""
    return prepare(decode(body(*lines)), header, CONTEXT)
