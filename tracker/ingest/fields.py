"""The fields of a line, and how large each may be. The words are those of `tracker.model.event`."""

from __future__ import annotations

NAMES = ("flow", "hop")
"""Names as in flow specs."""
TIMES = ("observed_at", "observed_from", "origin_at")
INTEGERS = {"size": 2**63 - 1, "offset": 2**63 - 1, "offset_to": 2**63 - 1, "attempt": 2**16 - 1}
"""Whole numbers, from 0 to this."""
TEXTS = {
    "message_id": 512,
    "delivery": 512,
    "key": 1024,
    "partition": 256,
    "node": 256,
    "region": 128,
    "group": 256,
    "reason": 256,
    "log": 128,
    "trace_id": 64,
    "span_id": 64,
    "correlation_id": 512,
    "causation_id": 512,
    "replay_id": 128,
}
"""Free text, and how many bytes of UTF-8 it may have."""
ATTRIBUTES = 8192
"""Bytes of all attributes of an event together, as JSON."""
RAW = 4096
"""Bytes of a bad line that quarantine keeps."""

WIRE = (*NAMES, "stage", *TIMES, *INTEGERS, *TEXTS, "digest", "attributes", "backfill", "evidence")
"""Everything that is read from a line; what else is there is left out."""
