"""Copies of messages from an archive, for a replay. Implements `Source` and `Finder` of `tracker.model.carry`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from collectors.archive.config import Place
from collectors.archive.index import BYTES, Index, Search
from collectors.archive.names import Segment, parsed, safe
from collectors.archive.shelves import Shelves
from collectors.carried import digest_of
from collectors.errors import Unreadable
from collectors.logs import logger
from collectors.part import settings
from tracker.model.carry import Copy, Locator, Missing

_TAKEN = ["message_id", "key", "value", "headers", "digest", "native"]


class SourceConfig(Place):
    """The `config` of an archive as a source. `hop`: the one that it archives. `cache_mb`: indices held in memory."""

    hop: str
    cache_mb: int = Field(64, ge=0)


def source(config: Mapping[str, Any]) -> ArchiveSource:
    """A source as configured: `{url, key, hop}`, and `unencrypted`, `options`, `cache_mb`. Raises `ConfigInvalid`."""
    return ArchiveSource(settings(SourceConfig, config, "archive source"))


class ArchiveSource:
    """A place is a segment (`partition`, its path) and a row of it (`offset`). One thread at a time."""

    def __init__(self, config: SourceConfig) -> None:
        self._hop = config.hop
        self._shelves = Shelves(config)
        self._indices = _Cache(config.cache_mb * 2**20)

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Where the newest copy of each message is. Raises `Unavailable`, and `Unreadable` when not one segment can be
        read; one that alone cannot be is logged and passed over."""
        found = self._shelves.segments(flow, self._hop) if safe(flow) and safe(self._hop) else []
        found.sort(key=lambda segment: -segment.last)
        search, wrong = Search(message_ids), list[Unreadable]()
        for number, segment in enumerate(found):
            if search.settled(segment.last):
                break  # what is left is older than what was found
            try:
                search.look(number, self._index(segment))
            except Unreadable as error:
                logger("collectors.archive").warning("segment passed over", error=str(error))
                wrong.append(error)
        if wrong and len(wrong) == len(found):
            raise wrong[0]
        return [Locator(name, self._hop, found[number].path, row) for name, number, row in search.found()]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """One answer per locator; each segment is read once. Raises `Unavailable`."""
        answers: list[Copy | Missing] = []
        wanted: dict[Segment, list[Locator]] = {}
        for locator in locators:
            segment = parsed(locator.partition)
            if segment is None or segment.hop != self._hop or not 0 <= locator.offset < segment.rows:
                answers.append(
                    Missing(locator, f"{locator.partition!r} row {locator.offset} is no place in this archive")
                )
            else:
                wanted.setdefault(segment, []).append(locator)
        for segment, some in sorted(wanted.items()):
            try:
                answers += self._fetched(segment, some)
            except Unreadable as error:
                answers += [Missing(locator, str(error)) for locator in some]
        return answers

    def close(self) -> None:
        """Let go of connections."""
        self._shelves.close()

    def _index(self, segment: Segment) -> Index:
        known = self._indices.get(segment)
        if known is None:
            known = self._shelves.index(segment)
            self._indices.put(segment, known)
        return known

    def _fetched(self, segment: Segment, locators: list[Locator]) -> Iterable[Copy | Missing]:
        table = self._shelves.table(segment).select(_TAKEN).take([locator.offset for locator in locators])
        return [
            _answer(segment, locator, *cells)
            for locator, *cells in zip(locators, *(column.to_pylist() for column in table.columns), strict=True)
        ]


def _answer(
    segment: Segment, locator: Locator, message_id: str, key: bytes | None, value: bytes | None,
    headers: list[tuple[str, bytes]], digest: str, native: bytes | None,
) -> Copy | Missing:  # fmt: skip
    if message_id != locator.message_id:
        return Missing(locator, f"{segment.path}: another message is in that row")
    if digest_of(value) != digest:
        return Missing(locator, f"{segment.path}: the payload has another digest than when it was archived")
    if value is None:
        return Missing(locator, "a tombstone: it carries no payload to send again")
    return Copy(locator, key, value, dict(headers), digest, native, message_id)


class _Cache:
    """Indices, at most `limit` bytes; the one longest not used goes first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._held: OrderedDict[Segment, Index] = OrderedDict()

    def get(self, segment: Segment) -> Index | None:
        found = self._held.get(segment)
        if found is not None:
            self._held.move_to_end(segment)
        return found

    def put(self, segment: Segment, found: Index) -> None:
        self._held[segment] = found
        self._size += segment.rows * BYTES
        while self._size > self._limit:
            old, _ = self._held.popitem(last=False)
            self._size -= old.rows * BYTES
