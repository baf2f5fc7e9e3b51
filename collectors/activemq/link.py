"""A connection to ActiveMQ by STOMP 1.2 (https://stomp.github.io/stomp-specification-1.2.html), read by who asks it to.

Not by stomp.py: its thread reads ahead without a bound, connecting and closing may wait for ever, and a frame that it
cannot read is a line in a log. Here nothing is read before it is asked for, so TCP holds the broker back, and nothing
waits longer than it is told.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import field_validator

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.part import Part

TIMEOUT = 10.0
"""Seconds without any answer after which a broker counts as hung."""
SOON = 1.0
"""Seconds for a last word."""
BEAT = 5.0
"""Seconds: so often the broker says that it is there. We may be silent for six times as long."""
CHUNK = 1 << 18
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", ":": "\\c"}
_MEANT = {escaped: plain for plain, escaped in _ESCAPES.items()}
_PLAIN, _ESCAPED = re.compile(r"[\\\n\r:]"), re.compile(r"\\.")
_REFUSED = ("user name", "password", "not authorized", "authentication")


class Tls(Part):
    """Files, as paths. `ca_file` empty: the system's authorities."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Server(Part):
    """Where the broker is, and who we are there. `stomp+ssl://` for TLS."""

    url: str
    tls: Tls | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            wrong = parts.scheme not in ("stomp", "stomp+ssl") or not parts.hostname or parts.port == 0
        except ValueError:
            wrong = True
        if wrong:  # not shown: it may hold a password
            raise ValueError("write stomp://HOST:PORT or stomp+ssl://HOST:PORT; percent-encode its password")
        return value

    @property
    def parts(self) -> SplitResult:
        """The URL's."""
        return urlsplit(self.url)

    @property
    def what(self) -> str:
        """As texts name it, without the password."""
        return f"ActiveMQ {self.parts.netloc.rpartition('@')[2]}"


class Frame(NamedTuple):
    """What the broker sent."""

    command: str
    headers: dict[str, str]
    body: bytes


class Link:
    """A connection; made at once. Everything raises `Unavailable`, or `ConfigInvalid` where we are not let in; after
    either it is of no more use. One thread at a time."""

    def __init__(self, server: Server) -> None:
        self.what = server.what
        self._buffer, self._scanned = bytearray(), 0
        self._receipts, self._beats = 0, False
        self._heard = self._said = time.monotonic()
        self._socket = self._connect(server)
        try:
            self._login(server)
        except BaseException:
            self.close()
            raise

    def send(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """One frame, without waiting for anything."""
        lines = [command, *(f"{_escaped(name)}:{_escaped(value)}" for name, value in headers.items()), "\n"]
        self._send("\n".join(lines).encode() + body + b"\0")

    def sure(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> list[Frame]:
        """As `send`; returns when the broker has done it. What else came meanwhile is the answer."""
        self._receipts += 1
        number = str(self._receipts)
        self.send(command, {**headers, "receipt": number}, body)
        return self.until(number)

    def until(self, receipt: str, latest: float | None = None) -> list[Frame]:
        """What comes before this receipt, which has to come soon; before the moment `latest` (monotonic) at all."""
        meanwhile: list[Frame] = []
        began = time.monotonic()
        deadline = began + TIMEOUT if latest is None else min(began + TIMEOUT, latest)
        while True:
            frame = self.next(max(0.0, deadline - time.monotonic()))
            if frame is None:
                raise Unavailable(f"{self.what}: no answer within {max(0.0, deadline - began):.0f} s")
            if frame.command == "RECEIPT" and frame.headers.get("receipt-id") == receipt:
                return meanwhile
            meanwhile.append(frame)

    def next(self, wait: float) -> Frame | None:
        """The next frame; None where none came within so many seconds, or only a part of one."""
        until = time.monotonic() + wait
        while True:
            frame = self._parsed()
            if frame is not None:
                if frame.command == "ERROR":
                    raise self._error(frame)
                return frame
            left = until - time.monotonic()
            if not self._receive(max(0.0, left)) and left <= 0:
                return None

    def leave(self) -> None:
        """Close it when the broker has done what it was told, or soon. Who closes while there is something left to read
        takes back what he said last, for TCP resets the connection (RFC 1122, 4.2.2.13)."""
        with suppress(CollectorError):
            self.send("DISCONNECT", {"receipt": "end"})
            self.until("end", time.monotonic() + SOON)
        self.close()

    def close(self) -> None:
        """Close it, whatever state it is in. Closing again does nothing."""
        with suppress(OSError):
            self._socket.close()

    def _connect(self, server: Server) -> socket.socket:
        parts, tls = server.parts, server.tls or Tls()
        try:
            found = socket.create_connection((parts.hostname or "", parts.port or 61613), TIMEOUT)
        except OSError as error:
            raise Unavailable(f"{self.what} cannot be reached: {error}") from None
        if parts.scheme == "stomp" and not server.tls:
            return found
        try:
            context = ssl.create_default_context(cafile=tls.ca_file or None)
            if tls.cert_file:
                context.load_cert_chain(tls.cert_file, tls.key_file or None)
        except OSError as error:
            found.close()
            raise ConfigInvalid(f"{self.what}: tls: {error}") from None
        try:
            return context.wrap_socket(found, server_hostname=parts.hostname)
        except OSError as error:
            found.close()
            raise Unavailable(f"{self.what}: {error}") from None

    def _login(self, server: Server) -> None:
        parts, beats = server.parts, f"{6000 * BEAT:.0f},{1000 * BEAT:.0f}"
        headers = {"accept-version": "1.2", "host": parts.hostname or "", "heart-beat": beats}
        if parts.username:
            headers |= {"login": unquote(parts.username), "passcode": unquote(parts.password or "")}
        self.send("CONNECT", headers)  # escaped: ActiveMQ reads it so, where the specification escapes nothing
        frame = self.next(TIMEOUT)
        if frame is None or frame.command != "CONNECTED":
            raise Unavailable(f"{self.what}: it does not answer as a STOMP server does")
        self._beats = not frame.headers.get("heart-beat", "0").startswith("0,")

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(TIMEOUT)
            self._socket.sendall(data)
        except OSError as error:
            raise Unavailable(f"{self.what}: the connection was lost: {error}") from None
        self._said = time.monotonic()

    def _receive(self, wait: float) -> bool:
        """Whether something came."""
        if time.monotonic() - self._said > BEAT:
            self._send(b"\n")
        try:
            self._socket.settimeout(min(wait, BEAT) or 1e-6)
            data = self._socket.recv(CHUNK)
        except TimeoutError:
            if self._beats and time.monotonic() - self._heard > 3 * BEAT:
                raise Unavailable(f"{self.what}: silent for {3 * BEAT:.0f} s") from None
            return False
        except OSError as error:
            raise Unavailable(f"{self.what}: the connection was lost: {error}") from None
        if not data:
            raise Unavailable(f"{self.what}: it closed the connection")
        self._heard = time.monotonic()
        self._buffer += data
        return True

    def _parsed(self) -> Frame | None:
        """The first whole frame of what was received. Without `content-length` a NUL ends it, else the length does."""
        buffer, start = self._buffer, 0
        while start < len(buffer) and buffer[start] in b"\r\n":  # heart-beats, and what follows a frame
            start += 1
        if start:
            del buffer[:start]
        head = buffer.find(b"\n\n")
        if head < 0:
            return None
        command, *lines = buffer[:head].decode("utf-8", "replace").split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(_meant(name), _meant(value))
        length = headers.get("content-length", "")
        if length.isdecimal():
            end = head + 2 + int(length)
        else:
            end = buffer.find(b"\0", max(head + 2, self._scanned))
            self._scanned = len(buffer)
        if end < 0 or end >= len(buffer):
            return None
        self._scanned = 0
        body = bytes(buffer[head + 2 : end])
        del buffer[: end + 1]
        return Frame(command, headers, body)

    def _error(self, frame: Frame) -> Exception:
        said = frame.headers.get("message", "") or frame.body[:200].decode("utf-8", "replace")
        if any(word in said.lower() for word in _REFUSED):
            return ConfigInvalid(f"{self.what}: {said}: check the login in `url` and its permissions")
        return Unavailable(f"{self.what}: {said}")


def _escaped(value: str) -> str:
    return _PLAIN.sub(lambda found: _ESCAPES[found[0]], value)


def _meant(value: str) -> str:
    return _ESCAPED.sub(lambda found: _MEANT.get(found[0], found[0]), value) if "\\" in value else value
