"""The commands that a replica is told, as entries in the books. Pure.

Source: `t_stream.c` of Redis 7.0, and what its replication stream was seen to carry:
- each delivery (XREADGROUP, XCLAIM, XAUTOCLAIM) is one `XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n FORCE
  JUSTID LASTID id`; so is the removal of a pending entry that the stream holds no more, when somebody wants to take it
  over;
- a read with NOACK is `XGROUP SETID`, and nothing tells it from an operator who skips entries;
- XADD has its real id, approximate trimming is told as exact, an expired key as DEL, and so is one that moved to
  another node of a cluster (`migrateCommand` of `cluster.c`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from collectors.redis.books import DELETED, Books, Said
from collectors.redis.entry import NO_ID, id_of, pairs

_HARMLESS = frozenset({b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT", b"PERSIST", b"TOUCH"})
_REPLACING = frozenset({b"RENAME", b"RENAMENX", b"COPY", b"MOVE", b"RESTORE"})


class Commands:
    """Of `books`."""

    def __init__(self, books: Books) -> None:
        self.clustered = False
        """Whether a DEL may mean that another node of the cluster has the stream now."""
        self._books = books
        self._keys = {key.encode(): key for key in books.streams}
        self._handlers: dict[bytes, Callable[[str, Sequence[bytes]], Iterator[Said]]] = {
            b"XADD": self._xadd, b"XCLAIM": self._xclaim, b"XACK": self._xack, b"XDEL": self._xdel,
            b"XTRIM": self._xtrim, b"XGROUP": self._xgroup, b"XSETID": self._xsetid,
        }  # fmt: skip

    def apply(self, words: Sequence[bytes], here: bool) -> list[Said]:
        """What a command says. `here`: it came in the watched database."""
        name = words[0].upper()
        if name in (b"FLUSHALL", b"FLUSHDB", b"SWAPDB"):
            return self._emptied(name, here)
        if name in _REPLACING and (here or name == b"MOVE" or b"DB" in map(bytes.upper, words)):
            self._books.doubt(*(self._keys[word] for word in words[1:3] if word in self._keys))
        if not here or len(words) < 2 or name in _REPLACING:
            return []
        if name in (b"DEL", b"UNLINK"):
            keys = [self._keys[word] for word in words[1:] if word in self._keys]
            if self.clustered:
                self._books.doubt(*keys)
                return []
            return [one for key in keys for one in self._books.deleted(key)]
        key = self._keys.get(words[2] if name == b"XGROUP" and len(words) > 2 else words[1])
        handler = self._handlers.get(name)
        if handler is not None:
            return [] if key is None else list(handler(key, words))
        if key is not None and name not in _HARMLESS:
            self._books.doubt(key)
        return []

    def _xadd(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        at, trim = 2, None
        while words[at].upper() in (b"NOMKSTREAM", b"MAXLEN", b"MINID", b"LIMIT"):
            option = words[at].upper()
            at += 1
            if option == b"NOMKSTREAM":
                continue
            at += words[at] in (b"=", b"~")
            trim = (option, words[at]) if option != b"LIMIT" else trim
            at += 1
        entry = id_of(words[at])
        if entry > self._books.streams[key].last:  # else a look came first
            yield self._books.added(key, entry, pairs(words[at + 1 :]))
        if trim is not None:
            yield from self._trim(key, *trim)

    def _xtrim(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        at = 3 + (words[3] in (b"=", b"~"))
        yield from self._trim(key, words[2].upper(), words[at])

    def _trim(self, key: str, how: bytes, bound: bytes) -> Iterator[Said]:
        if how == b"MINID":
            yield from self._books.cut(key, id_of(bound))
        else:
            self._books.trimmed.add(key)

    def _xdel(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        for word in words[2:]:
            yield from self._books.gone(key, id_of(word), DELETED)

    def _xack(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        group = words[2].decode("utf-8", "backslashreplace")
        for word in words[3:]:
            entry = id_of(word)
            found = self._books.streams[key].entries.get(entry)
            if found is not None and group in found.pending:  # else the server did nothing, either
                yield from self._books.acked(key, entry, group)

    def _xclaim(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        group, consumer = (word.decode("utf-8", "backslashreplace") for word in words[2:4])
        if group not in self._books.streams[key].groups:
            return
        options = {words[at].upper(): words[at + 1] for at in range(6, len(words) - 1)}
        if b"LASTID" in options:
            self._books.given(key, group, id_of(options[b"LASTID"]))
        attempt = int(options.get(b"RETRYCOUNT", b"1"))
        yield from self._books.taken(key, id_of(words[5]), group, consumer, attempt)

    def _xgroup(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        what, group = words[1].upper(), words[3].decode("utf-8", "backslashreplace")
        stream = self._books.streams[key]
        if group not in stream.groups:
            return
        if what in (b"CREATE", b"SETID"):
            to = stream.last if words[4] == b"$" else NO_ID if words[4] == b"-" else id_of(words[4])
            if what == b"CREATE":
                self._books.begun(key, group, to)
            else:
                yield from self._books.moved(key, group, to)
        elif what == b"DESTROY":
            yield from self._books.left(key, group, None)
            stream.groups[group] = None
            self._books.changed.add((key, None))
        elif what == b"DELCONSUMER":
            yield from self._books.left(key, group, words[4].decode("utf-8", "backslashreplace"))

    def _xsetid(self, key: str, words: Sequence[bytes]) -> Iterator[Said]:
        self._books.streams[key].last = id_of(words[2])
        self._books.changed.add((key, None))
        yield from ()

    def _emptied(self, name: bytes, here: bool) -> list[Said]:
        if name == b"SWAPDB":
            self._books.doubt(*self._books.streams)
            return []
        return (
            [one for key in self._books.streams for one in self._books.deleted(key)]
            if here or name == b"FLUSHALL"
            else []
        )
