"""The way of a replica to its server: PSYNC, the empty snapshot, then every write command in order, with its offset.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/ ("How Redis replication works"), and
`replication.c` of Redis 7.0:
- `REPLCONF rdb-filter-only ""` (7.0) leaves the data out of the snapshot of a full resync; the server forks for it all
  the same.
- The stream begins only after a `REPLCONF ACK` that comes when the server has noticed that its snapshot is done, and
  one has to come within `repl-timeout` (60 s). But while the snapshot is not begun, each word of ours sets back the
  clock of `repl-diskless-sync-delay`.
- We always ack offset 0. What we have acked would count for `WAIT`, as if a copy of the data were here, and it is not.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from collectors.errors import ConfigInvalid, Unavailable
from collectors.redis.resp import Damaged, command, parsed

ACK_EVERY = 10.0
"""Seconds between two words of ours."""
ACK_AT_FIRST = 0.2
"""The same until the stream has begun."""
CHUNK = 1 << 18
ALIVE = 60.0
"""Seconds without a byte from the server, which sends a PING each ten (`repl-ping-replica-period`): it is gone."""
_DENIED = ("WRONGPASS", "NOAUTH", "DENIED")
_REFUSED = ("NOPERM", "ERR unknown command", "ERR unknown subcommand", "ERR command not allowed")


class Refused(Exception):
    """The server lets nobody be its replica; the text is its own."""


class Position(NamedTuple):
    """In which history of writes, up to which byte of it, and in which database the next command is."""

    history: str
    offset: int
    db: int


class Answer(NamedTuple):
    """`whole`: reading begins anew at `position`, and what was before it is not told. Else it goes on."""

    position: Position
    whole: bool


class Link:
    """Connects at once, as `at` says (the keywords of redis-py's `parse_url`). Raises `Unavailable`, `ConfigInvalid`,
    `Refused`."""

    def __init__(self, at: Mapping[str, Any], after: Position | None, timeout: float = 5.0) -> None:
        self.offset = 0
        self.ended = False
        """Whether the server closed the connection, and all that it had sent was read."""
        self._after = after
        self._buffer, self._at = bytearray(), 0
        self._state = "asked"
        self._mark, self._begun = b"", False
        self._spoke = self._heard = time.monotonic()
        self._socket = _connected(at, timeout)
        try:
            self._login(at)
            self._ask("PING")
            self._ask("REPLCONF", "capa", "eof", "capa", "psync2")
            if after is None:
                self._ask("REPLCONF", "rdb-filter-only", "")
            history, offset = (after.history, after.offset + 1) if after else ("?", -1)
            self._socket.sendall(command("PSYNC", history, offset))
        except OSError as error:
            self.close()
            raise Unavailable(f"the connection was lost while it began: {error}") from None
        except BaseException:
            self.close()
            raise

    def answer(self, wait: float) -> Answer | None:
        """What became of PSYNC; None while the server has not answered, or sends its snapshot."""
        until = time.monotonic() + wait
        while (found := self._answered()) is None:
            left = until - time.monotonic()
            if left <= 0 or not self.pump(left):
                return None
        return found

    def pump(self, wait: float) -> bool:
        """Take in what has come, waiting so long for it at most; whether something did. Raises `Unavailable`."""
        now = time.monotonic()
        if self._state == "online" and now - self._spoke >= (ACK_EVERY if self._begun else ACK_AT_FIRST):
            self._ack()
        if now - self._heard > ALIVE:
            raise Unavailable(f"nothing came for {ALIVE:.0f} s")
        self._socket.settimeout(max(wait, 0.0001))
        try:
            content = self._socket.recv(CHUNK)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        except ConnectionResetError:
            content = b""
        except OSError as error:
            raise Unavailable(f"the connection was lost: {error}") from None
        self._heard = time.monotonic()
        if content:
            self._begun = self._state == "online"
            self._buffer += content
            return True
        self.ended = True
        return False

    def next(self) -> list[bytes] | None:
        """The next command of those that were taken in; `offset` is behind it then. Raises `Unavailable`."""
        try:
            found = parsed(self._buffer, self._at)
        except Damaged as error:
            raise Unavailable(f"the stream is damaged: {error}") from None
        if found is None:
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            return None
        words, end = found
        self.offset += end - self._at
        self._at = end
        if self._at > 1 << 20:
            del self._buffer[: self._at]
            self._at = 0
        return words

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def _login(self, at: Mapping[str, Any]) -> None:
        password, user = at.get("password"), at.get("username")
        if password:
            self._ask("AUTH", *((user,) if user else ()), password)

    def _ask(self, *words: str) -> None:
        self._socket.sendall(command(*words))
        while (line := self._line()) is None or not line:
            data = self._socket.recv(CHUNK)
            if not data:
                raise Unavailable("the server closed the connection while it began")
            self._buffer += data
        if line.startswith(b"-"):
            self._wrong(line[1:].decode(errors="replace"), words[0])

    def _wrong(self, text: str, asked: str) -> None:
        if text.startswith(_DENIED):
            raise ConfigInvalid("the server does not accept the login of `url`")
        if text.startswith(_REFUSED) or asked == "REPLCONF":
            raise Refused(f"{asked}: {text}")
        raise Unavailable(f"{asked}: {text}")

    def _line(self) -> bytes | None:
        """Take a line from the buffer; blank ones only say that the server is there."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                return None
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            if line:
                return line

    def _answered(self) -> Answer | None:
        if self.ended:
            raise Unavailable("the server closed the connection while it began")
        if self._state == "asked" and (line := self._line()):
            self._understood(line.decode(errors="replace").split())
        if self._state == "snapshot" and (line := self._line()):
            self._mark = line
            self._state = "skipping"
        if self._state == "skipping" and not self._skipped():
            return None
        if self._state != "begun":
            return None
        self._state = "online"
        self._ack()
        return self._answer

    def _understood(self, words: list[str]) -> None:
        if words[0] == "+FULLRESYNC":
            self.offset = int(words[2])
            self._answer = Answer(Position(words[1], self.offset, -1), whole=True)
            self._state = "snapshot"
        elif words[0] == "+CONTINUE" and self._after is not None:
            self.offset = self._after.offset
            history = words[1] if len(words) > 1 else self._after.history
            self._answer = Answer(self._after._replace(history=history), whole=False)
            self._state = "begun"
        else:
            self._wrong(" ".join(words).lstrip("-"), "PSYNC")

    def _skipped(self) -> bool:
        """Leave the snapshot out: `$EOF:` and forty bytes that end it, or `$` and its length."""
        if self._mark.startswith(b"$EOF:"):
            mark = self._mark[5:]
            end = self._buffer.find(mark)
            if end < 0:
                del self._buffer[: max(0, len(self._buffer) - len(mark) + 1)]
                return False
            del self._buffer[: end + len(mark)]
        else:
            left = int(self._mark[1:])
            taken = min(left, len(self._buffer))
            del self._buffer[:taken]
            if taken < left:
                self._mark = b"$%d" % (left - taken)
                return False
        self._state = "begun"
        return True

    def _ack(self) -> None:
        self._spoke = time.monotonic()
        try:
            self._socket.settimeout(5.0)
            self._socket.sendall(command("REPLCONF", "ACK", 0))
        except OSError:
            return  # the next read tells


def _connected(at: Mapping[str, Any], timeout: float) -> socket.socket:
    try:
        if at.get("path"):
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(timeout)
            found.connect(at["path"])
            return found
        host = at.get("host", "localhost")
        found = socket.create_connection((host, at.get("port", 6379)), timeout)
        if "ssl_context" in at:
            found = at["ssl_context"].wrap_socket(found, server_hostname=host)
        return found
    except OSError as error:
        raise Unavailable(f"cannot connect: {error}") from error


def listening(at: Mapping[str, Any], timeout: float = 5.0) -> bool:
    """Whether anybody takes connections there. Raises `Unavailable` where that is not known."""
    try:
        _connected(at, timeout).close()
    except Unavailable as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            return False
        raise
    return True
