"""Rows that are deleted, and there again when their transaction ends: they were not relayed.

A row of a partitioned table that moves to another partition is in the log as a deletion and a new row
(ExecCrossPartitionUpdate), and nothing marks the two as one. So a deletion that would say "relayed" waits until its
transaction ends, or until the same row is written again in it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

EACH = 300
"""Bytes that a deletion takes beside what it is, about."""


class Leaving:
    """Messages of one stream go in as they come, and out as they are to be read. `key`: of which row a change is, where
    a deletion of it would say that it was relayed; else None. `most`: bytes of deletions that wait; of a transaction
    that deletes more the oldest are told before it ends. Pure."""

    def __init__(self, key: Callable[[bytes], Hashable | None], most: int) -> None:
        self._key, self._most, self._size = key, most, 0
        self._waiting: OrderedDict[Hashable, bytes] = OrderedDict()
        self._out: deque[bytes] = deque()

    def put(self, payload: bytes) -> None:
        """The next message of the stream."""
        kind = payload[:1]
        key = self._key(payload) if kind == b"D" or (kind == b"I" and self._waiting) else None
        if key is not None:
            self._drop(key)
        if key is not None and kind == b"D":
            self._waiting[key] = payload
            self._size += len(payload) + EACH
            while self._size > self._most:
                self._out.append(self._drop(next(iter(self._waiting))))
            return
        if kind == b"C":
            self._out.extend(self._waiting.values())
            self._waiting.clear()
            self._size = 0
        self._out.append(payload)

    def get(self) -> bytes | None:
        """What comes next; None: put in more."""
        return self._out.popleft() if self._out else None

    def _drop(self, key: Hashable) -> bytes:
        payload = self._waiting.pop(key, b"")
        self._size -= len(payload) + EACH if payload else 0
        return payload
