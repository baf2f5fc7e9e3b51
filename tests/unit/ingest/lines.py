"""Lines as clients send them."""

import json
from typing import Any

from tracker.ingest.batch import Batch
from tracker.ingest.prepare import Context, prepare

NOW = 1_800_000_000_000_000
CONTEXT = Context({"orders": False, "open": True}, salt=7, source="test", now=NOW)


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


def batch(*lines: dict[str, Any] | bytes, header: str = "") -> Batch:
    """What these lines become."""
    return prepare(body(*lines), header, CONTEXT)
