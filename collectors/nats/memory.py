"""What is remembered of messages that were read, where consumers are followed: enough to name what is said of them
later, also when the stream holds them no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from collectors.nats.config import NatsConfig
from collectors.nats.consumer import Consumer
from collectors.nats.feed import Stored
from collectors.nats.records import Decoder, Known, Said, headers_of
from collectors.nats.unread import Open, Unread


class Memory:
    """Of the streams that `consumers` are of. Settled messages are remembered among the newest, others as long as there
    is room (`remember` and `remember_mb`, for each of the two)."""

    def __init__(self, config: NatsConfig, consumers: Iterable[Consumer]) -> None:
        self._decoder, self._most, self.most_bytes = Decoder(config), config.remember, config.remember_mb << 20
        self._consumers: dict[str, list[Consumer]] = {}
        for each in consumers:
            self._consumers.setdefault(each.followed.stream, []).append(each)
        self._newest: OrderedDict[tuple[str, int], Known] = OrderedDict()
        self._bytes = 0
        self._unread = {stream: self.empty() for stream in self._consumers}
        self._heard_from: dict[tuple[str, str], int] = {}

    @property
    def streams(self) -> int:
        """How many are followed."""
        return len(self._consumers)

    def empty(self) -> Unread:
        """With our bounds, for one stream."""
        return Unread(self._most, self.most_bytes)

    def owed(self, stream: str, seq: int, subject: str) -> Iterator[str]:
        """The consumers that such a message is for, but those of which nobody knows what they said of it."""
        names = (each.followed.consumer for each in self._consumers.get(stream, ()) if each.wants(subject))
        return (name for name in names if seq >= self._heard_from.get((stream, name), 0))

    def restored(self, stream: str, seq: int, one: Open) -> None:
        """This was open when the last process ended. Of consumers that are not followed any more nothing is owed."""
        followed = {each.followed.consumer for each in self._consumers.get(stream, ())}
        if followed:
            self._unread[stream].stored(seq, one.known, one.owed & followed)
            self._remember(stream, seq, one.known)

    def forget(self, stream: str, consumer: str, end: int) -> None:
        """Nobody knows what the consumer said of messages before `end`. Empty: none of the stream is what it was."""
        if stream in self._unread:
            self._unread[stream].settled(0, end, consumer)
        if consumer:
            self._heard_from[stream, consumer] = end
            return
        for each in self._consumers.get(stream, ()):
            self._heard_from.pop((stream, each.followed.consumer), None)
        for key in [key for key in self._newest if key[0] == stream]:
            self._bytes -= self._newest.pop(key).weight

    def stored(self, stream: str, stored: Stored, headers: Mapping[str, bytes]) -> None:
        """This was read."""
        if stream in self._consumers and self._most:
            known = self._known(stored, headers)
            self._unread[stream].stored(stored.seq, known, self.owed(stream, stored.seq, stored.subject))
            self._remember(stream, stored.seq, known)

    def find(self, stream: str, seq: int) -> Known | None:
        """What is remembered of it."""
        found = self._newest.get((stream, seq))
        if found is None and stream in self._unread:
            one = self._unread[stream].find(seq)
            return one.known if one else None
        return found

    def meant(self, said: Said) -> Known | None:
        """The message of which that was said, where it is remembered."""
        found = self.find(said.stream, said.seq)
        return found if said.of(found) else None

    def shown(self, said: Said, stored: Stored) -> Known | None:
        """The same, where it is this one, of the same number."""
        found = self._known(stored, headers_of(stored.hdrs))
        return found if said.of(found) else None

    def said(self, said: Said) -> None:
        """A consumer said this."""
        if said.settles:
            self._unread[said.stream].settled(said.seq, said.seq + 1, said.consumer)
        elif said.works:
            self._unread[said.stream].heard(said.seq)

    def gone(self, stream: str, first: int, now: int) -> Iterator[tuple[int, int]]:
        """What it forgot, holding none before `first` now, and some consumer will never get: see `Unread.gone`."""
        given = {each.followed.consumer: each.given for each in self._consumers.get(stream, ()) if each.given}
        return self._unread[stream].gone(first, given, now) if given else iter(())

    def _remember(self, stream: str, seq: int, known: Known) -> None:
        before = self._newest.pop((stream, seq), None)
        self._newest[stream, seq] = known
        self._bytes += known.weight - (before.weight if before else 0)
        while len(self._newest) > self._most or self._bytes > self.most_bytes:
            self._bytes -= self._newest.popitem(last=False)[1].weight

    def _known(self, stored: Stored, headers: Mapping[str, bytes]) -> Known:
        return self._decoder.known(stored.subject, stored.at, headers, stored.data)
