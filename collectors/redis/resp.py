"""RESP, the protocol of Redis, as far as a replica reads it: commands as arrays of bulk strings. Pure.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ ("Sending commands to a Redis server").
"""

from __future__ import annotations

CRLF = b"\r\n"


class Damaged(ValueError):
    """What came is no command: the connection cannot be used any more."""


def command(*words: str | bytes | int) -> bytes:
    """A command as it is sent."""
    said = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(said) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in said)


def parsed(buffer: bytearray, at: int) -> tuple[list[bytes], int] | None:
    """The command that begins at `at`, and where it ends; None while it is not whole. Raises `Damaged`."""
    head = buffer.find(CRLF, at)
    if head < 0:
        return None
    if buffer[at] != 0x2A:  # '*'
        raise Damaged(f"no command: {bytes(buffer[at : min(head, at + 60)])!r}")
    count, at = _number(buffer, at, head), head + 2
    words = []
    for _ in range(count):
        head = buffer.find(CRLF, at)
        if head < 0:
            return None
        if buffer[at] != 0x24:  # '$'
            raise Damaged(f"no word of a command: {bytes(buffer[at : min(head, at + 60)])!r}")
        start = head + 2
        end = start + _number(buffer, at, head)
        if len(buffer) < end + 2:
            return None
        words.append(bytes(buffer[start:end]))
        at = end + 2
    return words, at


def _number(buffer: bytearray, at: int, head: int) -> int:
    try:
        return int(buffer[at + 1 : head])
    except ValueError:
        raise Damaged(f"no length: {bytes(buffer[at:head])[:60]!r}") from None
