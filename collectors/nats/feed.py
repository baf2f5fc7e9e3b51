"""Reading one stream by its sequence numbers: asked for one by one, many at a time. Nobody else notices.

A consumer of our own would be simpler, and would hold messages back in a stream whose retention is by interest, or not
be allowed where it is a work queue.
"""

from __future__ import annotations

import msgspec

from collectors.errors import Unavailable
from collectors.nats.link import NO_MESSAGE, Link
from tracker.model.units import instant

AT_ONCE = 500
"""Questions on their way at the same time."""


class Stored(msgspec.Struct, frozen=True):
    """A message as the API gives it (`STREAM.MSG.GET`)."""

    subject: str
    seq: int
    time: str
    hdrs: bytes = b""
    data: bytes = b""

    @property
    def at(self) -> int:
        """When it was stored, µs: of a mirror's message, when its original was."""
        return instant(self.time)


class _Error(msgspec.Struct, frozen=True):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    message: Stored | None = None
    error: _Error | None = None


class State(msgspec.Struct, frozen=True):
    """Of a stream."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: str = ""


class Limits(msgspec.Struct, frozen=True):
    """Of a stream's configuration, what says why it forgets. `max_age` in ns; 0 or less: no limit."""

    max_msgs: int = -1
    max_bytes: int = -1
    max_age: int = 0
    max_msgs_per_subject: int = -1


class Info(msgspec.Struct, frozen=True):
    """What the API says of a stream (`STREAM.INFO`). `created` tells one from another of its name."""

    created: str
    state: State
    config: Limits = Limits()


class Stands(msgspec.Struct, frozen=True):
    """Where reading stood: behind message `seq`, stored at `stored` (µs, 0: not known). `first`: of the journal, where
    what counts begins; `at`: when this was kept (µs)."""

    life: str
    seq: int
    first: int = 0
    at: int = 0
    stored: int = 0


_answer = msgspec.json.Decoder(_Answer)


class Feed:
    """One stream. `next`: to be read; `end`: the last that is known to be there; `life`: when the stream was made, and
    how often its numbers began anew since; `size`: of a message there, bytes."""

    def __init__(self, stream: str) -> None:
        self.stream, self.life = stream, ""
        self.next, self.end, self.size = 1, 0, 1
        self._read = 0, 0
        """The last that was read, and when it was stored (µs; 0: not known)."""

    @property
    def _created(self) -> str:
        return self.life.partition(" ")[0]

    @property
    def left(self) -> int:
        """How many are to be read up to `end`."""
        return max(0, self.end - self.next + 1)

    def begin(self, stands: Stands) -> None:
        """Go on behind what was read."""
        self.life, self.next, self._read = stands.life, stands.seq + 1, (stands.seq, stands.stored)

    def remade(self, link: Link, info: Info) -> bool:
        """Whether numbers stand for other messages than those that were read: the stream was made again, or the server
        came back without its newest. Then it may have been written on, and what was read last is another message."""
        if not self.life:
            return False
        seq, at = self._read
        if info.created != self._created or self.next > info.state.last_seq + 1:
            return True
        (found,) = self.get(link, [seq]) if at else (None,)
        return found is not None and found.at != at

    def found(self, info: Info, start: int, remade: bool) -> bool:
        """Take note of what it holds; whether something is missing that was not read. `start`: where to begin at the
        first time."""
        state, low = info.state, max(1, info.state.first_seq)
        if not self.life:
            self.life, self.next = info.created, max(low, start)
        elif remade:
            again = int(self.life.removeprefix(info.created) or 0) + 1 if info.created == self._created else 0
            self.life = f"{info.created} {again}" if again else info.created
            self.next, self._read = low, (0, 0)
        missed = remade or self.next < low
        self.next = max(self.next, low)
        self.end, self.size = state.last_seq, state.bytes // max(1, state.messages) + 1
        return missed

    def page(self, link: Link, limit: int, most: int) -> tuple[list[Stored], bool]:
        """The next messages, about `most` bytes of them, and whether some are missing. Raises `Unavailable`."""
        count = min(limit, AT_ONCE, self.left, max(1, most // self.size))
        found = self.get(link, range(self.next, self.next + count))
        read = [each for each in found if each is not None]
        self.next += count
        if read:
            self._read = read[-1].seq, read[-1].at
        else:
            self.next = self._jump(link)
        return read, len(read) < count

    def get(self, link: Link, seqs: range | list[int]) -> list[Stored | None]:
        """These messages; None for one that is not there. Raises `Unavailable`."""
        return self._asked(link, [b'{"seq":%d}' % seq for seq in seqs])

    def _jump(self, link: Link) -> int:
        """The next that is there: where much was deleted, to ask for each would take long."""
        (found,) = self._asked(link, [b'{"seq":%d,"next_by_subj":">"}' % self.next])
        return found.seq if found else max(self.next, self.end + 1)

    def _asked(self, link: Link, bodies: list[bytes]) -> list[Stored | None]:
        subject = f"STREAM.MSG.GET.{self.stream}"
        found: list[Stored | None] = []
        for data in link.ask_all(subject, bodies):
            try:
                answer = _answer.decode(data)
            except msgspec.MsgspecError as error:
                raise Unavailable(f"{link.what}: {subject}: not an answer: {error}") from None
            if answer.message is None and (answer.error is None or answer.error.err_code != NO_MESSAGE):
                raise Unavailable(f"{link.what}: {subject}: {answer.error and answer.error.description}")
            found.append(answer.message)
        return found
