"""What was read and not settled yet, kept in a stream of our own: so the next process can name it.

Each commit appends what it adds; of what came and was settled within one commit nothing is written. When what was
written is more than twice what still counts, all that counts is written anew. Which records count is part of the
cursor: those behind its last one belong to a commit that was not finished, and come again. The stream forgets its
oldest, which count no more, by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from collectors.base import Raw
from collectors.nats.cursor import keep
from collectors.nats.feed import Feed, Stands
from collectors.nats.link import Link
from collectors.nats.memory import Memory
from collectors.nats.records import Gone, Known, Place, Said
from collectors.nats.unread import ALL, Unread

CHUNK = 128 << 10
"""Bytes of a record, about: far below what a server takes (1 MB)."""
SLACK = 1 << 20
"""Bytes that are written before it is asked what still counts."""
AT_ONCE = 64
"""Records that are asked for at the same time."""
SPARE = 4
"""The stream may hold so many times what may count: twice that, all of it anew, and as much to spare."""


class Record(msgspec.Struct, array_like=True):
    """Of `stream`, made at `life`: messages with the consumers that owe an ack, and what was settled since: consumer
    (empty: each), from, to (not among them)."""

    stream: str
    life: str
    opened: list[tuple[int, list[str], Known]] = []
    settled: list[tuple[str, int, int]] = []


NOTHING = Record("", "")
_decoder = msgspec.msgpack.Decoder(Record)


class Journal:
    """Of the collector `name`. `memory`: what of a message there is to remember. After `load` that which is open when
    the cursor was kept is in it, too."""

    def __init__(self, name: str, memory: Memory, replicas: int) -> None:
        self.stream = "TRACKED_" + name.replace(".", "=")  # no stream's name has a dot, no collector's this sign
        self._subject, self._memory, self._replicas = f"$TRACKED.{name}", memory, replicas
        self._kept: dict[str, tuple[str, Unread]] = {}
        self._forgotten: list[tuple[str, str, int]] = []
        self._life, self._end = "", 0
        self._first = self._last = self._written = 0
        """The first record that counts (0: all has to be written anew), the last, and the bytes of what lies there."""

    def made(self, link: Link) -> None:
        """The stream. One that was made again, or came back with less, begins with all that counts. Raises
        `Refused`."""
        room = SPARE * self._memory.most_bytes * self._memory.streams
        info = keep(
            link,
            self.stream,
            {
                "subjects": [self._subject], "discard": "old", "max_bytes": room,
                "num_replicas": self._replicas, "duplicate_window": 0,
            },
        )  # fmt: skip
        self._end = int(info["state"]["last_seq"])
        if info["created"] != self._life or self._end < self._last:
            self._life, self._first = info["created"], 0

    def load(self, link: Link, stands: Mapping[str, Stands]) -> None:
        """What counts by the cursor, which is where each stream stands. Raises `Unavailable`."""
        own, feed = stands.get(self.stream), Feed(self.stream)
        if own is None or own.life != self._life:
            return
        self._first, self._last = own.first if own.seq <= self._end else 0, own.seq
        for start in range(own.first, own.seq + 1, AT_ONCE):
            for stored in feed.get(link, range(start, min(start + AT_ONCE, own.seq + 1))):
                content = stored.data if stored else b""
                self._written += len(content)
                try:
                    record = _decoder.decode(content)
                except msgspec.MsgspecError:
                    continue  # forgotten by the stream, or somebody else's: less is known
                if record.stream in stands and stands[record.stream].life == record.life:
                    self._apply(record)
        for stream, (_, unread) in self._kept.items():
            for seq, one in unread.items():
                self._memory.restored(stream, seq, one)

    def forget(self, stream: str, consumer: str = "", end: int = ALL) -> None:
        """Nobody knows what the consumer (empty: any of them) said of messages before `end`; kept with the next
        commit."""
        self._forgotten.append((stream, consumer, end))

    def write(self, link: Link, raws: Sequence[Raw], lives: Mapping[str, str], at: int) -> dict[str, Stands]:
        """Append what a commit of these changes; what the cursor has to say of it. `lives`: of each stream; `at`: now,
        µs. Raises `Unavailable`."""
        records = [record for record in self._changes(raws, lives) if record.opened or record.settled]
        for record in records:
            self._apply(record)
        self._forgotten.clear()
        counts = sum(unread.bytes for _, unread in self._kept.values())
        anew = not self._first or self._written > 2 * counts + SLACK
        if anew:
            self._written = 0
            records = [
                Record(stream, life, [(seq, sorted(one.owed), one.known) for seq, one in unread.items()])
                for stream, (life, unread) in self._kept.items()
            ]
        if records or anew:
            first, self._first = self._first, 0  # unless all of it is written
            seqs = [self._append(link, part) for record in records or [NOTHING] for part in _parts(record)]
            self._first, self._last = seqs[0] if anew else first, seqs[-1]
        return {self.stream: Stands(self._life, self._last, self._first, at)}

    def _append(self, link: Link, record: Record) -> int:
        """Its number."""
        content = msgspec.msgpack.encode(record)
        self._written += len(content)
        (answer,) = link.send([(self._subject, content, None)])
        return int(link.read(answer, self._subject)["seq"])

    def _apply(self, record: Record) -> None:
        life, unread = self._kept.get(record.stream, ("", None))
        if unread is None or life != record.life:
            unread = self._memory.empty()
            self._kept[record.stream] = record.life, unread
        for seq, owed, known in record.opened:
            unread.stored(seq, known, owed)
        for consumer, start, end in record.settled:
            unread.settled(start, end, consumer)

    def _changes(self, raws: Sequence[Raw], lives: Mapping[str, str]) -> Iterator[Record]:
        """Per stream. What was forgotten goes before, as it is of what was read before."""
        opened: dict[str, dict[int, tuple[set[str], Known]]] = {}
        settled: dict[str, list[tuple[str, int, int]]] = {}
        for stream, consumer, end in self._forgotten:
            if stream in self._kept:
                yield Record(stream, self._kept[stream][0], [], [(consumer, 0, end)])
        for position in (raw.position for raw in raws):
            place = position if isinstance(position, Place) else position.place
            if isinstance(position, Place):
                known = self._memory.find(place.stream, place.seq)
                owed = set(self._memory.owed(place.stream, place.seq, place.subject))
                if known and known.weight <= CHUNK and owed and lives.get(place.stream) == place.life:
                    opened.setdefault(place.stream, {})[place.seq] = owed, known
            elif isinstance(position, Gone):
                settled.setdefault(place.stream, []).append(("", position.start, position.end))
            elif isinstance(position, Said) and position.settles:
                new = opened.get(position.stream, {}).get(position.seq)
                if new:
                    new[0].discard(position.consumer)
                elif self._owes(position):
                    settled.setdefault(position.stream, []).append((position.consumer, position.seq, position.seq + 1))
        for stream in opened.keys() | settled.keys():
            new_ones = [(seq, sorted(owed), known) for seq, (owed, known) in opened.get(stream, {}).items() if owed]
            yield Record(stream, lives.get(stream, ""), new_ones, settled.get(stream, []))

    def _owes(self, said: Said) -> bool:
        _, unread = self._kept.get(said.stream, ("", None))
        found = unread.find(said.seq) if unread else None
        return found is not None and said.consumer in found.owed


def _parts(record: Record) -> Iterator[Record]:
    """The same in records that are not too large."""
    opened: list[tuple[int, list[str], Known]] = []
    weight = 0
    for one in record.opened:
        opened.append(one)
        weight += one[2].weight
        if weight >= CHUNK:
            yield Record(record.stream, record.life, opened)
            opened, weight = [], 0
    settled = record.settled
    while len(settled) > CHUNK >> 6:
        yield Record(record.stream, record.life, opened, settled[: CHUNK >> 6])
        opened, settled = [], settled[CHUNK >> 6 :]
    yield Record(record.stream, record.life, opened, settled)
