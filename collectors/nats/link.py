"""Connecting to NATS, and a client library that lives on an event loop used as if it were synchronous.

The loop runs only while something is asked. In between nothing answers the server's pings, so a connection that nobody
used for minutes is closed by the server: whoever asks next gets `Unavailable`, and makes a new one. So the library does
not reconnect by itself: what was asked for meanwhile would be in doubt.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import field_validator, model_validator

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.part import Part

TIMEOUT = 5.0
"""Seconds without any answer after which a server counts as hung."""
API = "$JS.API."
NO_STREAM, NO_CONSUMER, NO_MESSAGE = 10059, 10014, 10037
"""`err_code` of the API (server/errors.json of nats-server)."""
NO_RESPONDERS = "503"
ANSWER = TypeVar("ANSWER")


class Tls(Part):
    """Files, as paths. `ca_file` empty: the system's authorities."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Server(Part):
    """Where it is, and who we are there. `url` may name several of one cluster, separated by commas; `credentials`: a
    file with JWT and seed, where the account wants one."""

    url: str
    tls: Tls | None = None
    credentials: Path | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            parts = [urlsplit(one) for one in value.split(",")]
            wrong = any(one.scheme not in ("nats", "tls") or not one.hostname or one.port == 0 for one in parts)
        except ValueError:
            wrong = True
        if wrong:  # not shown: it may hold a password
            raise ValueError("write nats://HOST:PORT, or several of them with commas; percent-encode its password")
        return value

    @model_validator(mode="after")
    def _files(self) -> Server:
        self.options()
        return self

    @property
    def shown(self) -> str:
        """The servers as texts name them, without the password."""
        return ",".join(urlsplit(one).netloc.rpartition("@")[2] for one in self.url.split(","))

    def options(self) -> dict[str, Any]:
        """For `nats.connect`."""
        first = urlsplit(self.url.split(",")[0])
        scheme = "tls" if self.tls or first.scheme == "tls" else "nats"
        found: dict[str, Any] = {"servers": [f"{scheme}://{one}" for one in self.shown.split(",")]}
        if first.username and first.password is None:
            found["token"] = unquote(first.username)
        elif first.username:
            found |= {"user": unquote(first.username), "password": unquote(first.password or "")}
        if self.credentials:
            if find_spec("nkeys") is None:
                raise ValueError("credentials: they are signed with nkeys, which is not installed: pip install nkeys")
            found["user_credentials"] = str(self.credentials)
        if self.tls:
            try:
                context = ssl.create_default_context(cafile=self.tls.ca_file or None)
                if self.tls.cert_file:
                    context.load_cert_chain(self.tls.cert_file, self.tls.key_file or None)
            except OSError as error:
                raise ValueError(f"tls: {error}") from None
            found["tls"] = context
        return found


class Refused(CollectorError):
    """The API answered with an error. `code`: its `err_code`."""

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{what}: {error.get('description', error)}")
        self.code = int(error.get("err_code", 0))


class Link:
    """A connection; made at once. Everything raises `Unavailable`, or `ConfigInvalid` where we are not let in; after
    either it is of no more use. One thread at a time."""

    def __init__(self, at: Server, name: str) -> None:
        self.what = f"NATS {at.shown}"
        self._trouble: Exception | None = None
        self._answers: dict[int, Msg] = {}
        self._round = 0
        self._runner = asyncio.Runner()
        self._came: asyncio.Event
        self._client = Client()
        try:
            self._run(self._connect(at, name))
        except BaseException:
            self.close()
            raise

    def ask(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A question to the API; `subject` without its prefix. Raises `Refused` as well."""
        (answer,) = self.send([(API + subject, msgspec.json.encode(body) if body else b"", None)])
        return self.read(answer, subject)

    def ask_all(self, subject: str, bodies: Sequence[bytes]) -> list[bytes]:
        """One question many times, all at once; the answers in the same order."""
        return [answer.data for answer in self.send([(API + subject, body, None) for body in bodies])]

    def send(self, messages: Sequence[tuple[str, bytes, dict[str, str] | None]]) -> list[Msg]:
        """Subject, payload and headers of each; their answers, in the same order."""
        return self._run(self._send(messages))

    def read(self, answer: Msg, subject: str) -> dict[str, Any]:
        """What the API said. Raises `Refused`, and `Unavailable` where nobody is there who could answer."""
        if answer.headers and answer.headers.get("Status") == NO_RESPONDERS:
            raise Unavailable(f"{self.what}: nobody answers {subject}: is JetStream on, for this account?")
        try:
            found: dict[str, Any] = msgspec.json.decode(answer.data)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self.what}: {subject}: not an answer: {error}") from None
        if "error" in found:
            raise Refused(f"{self.what}: {subject}", found["error"])
        return found

    def close(self) -> None:
        """Close it, whatever state it is in. Closing again does nothing."""
        with suppress(Exception):  # a connection that is broken already is what was wanted
            self._runner.run(self._ended())
        self._runner.close()

    async def _connect(self, at: Server, name: str) -> None:
        self._came = asyncio.Event()
        await asyncio.wait_for(
            self._client.connect(
                **at.options(), name=name, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0,
                connect_timeout=int(TIMEOUT), error_cb=self._troubled, closed_cb=self._closed,
            ),
            2 * TIMEOUT,
        )  # fmt: skip
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*.*", cb=self._answered, pending_bytes_limit=0)

    async def _ended(self) -> None:
        with suppress(asyncio.TimeoutError):  # it waits for a server that hangs
            await asyncio.wait_for(self._client.close(), 1.0)
        transport = self._client._transport
        if transport is not None:  # the library leaves it open where the login was refused
            transport.close()  # type: ignore[no-untyped-call] # the library's own
        await asyncio.sleep(0)  # sockets are closed by the loop

    async def _send(self, messages: Sequence[tuple[str, bytes, dict[str, str] | None]]) -> list[Msg]:
        self._round += 1
        answers: dict[int, Msg] = {}
        self._answers = answers
        for number, (subject, body, headers) in enumerate(messages):
            await self._client.publish(subject, body, f"{self._inbox}.{self._round}.{number}", headers)
        while len(answers) < len(messages):
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), TIMEOUT)
            if self._client.is_closed or self._trouble:
                raise errors.ConnectionClosedError
        return [answers[number] for number in range(len(messages))]

    async def _answered(self, message: Msg) -> None:
        _, number, place = message.subject.rsplit(".", 2)
        if int(number) == self._round:
            self._answers[int(place)] = message
            self._came.set()

    async def _troubled(self, error: Exception) -> None:
        self._trouble = error
        self._came.set()

    async def _closed(self) -> None:
        self._came.set()

    def _run(self, work: Coroutine[Any, Any, ANSWER]) -> ANSWER:
        try:
            return self._runner.run(work)
        except (TimeoutError, OSError, ValueError, errors.Error) as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> CollectorError:
        """What the server said in between says more than what was raised."""
        said = f"{self._trouble or error!r} {error}"
        if "authorization" in said.lower() or "permissions violation" in said.lower():
            return ConfigInvalid(f"{self.what}: {self._trouble or error}: check the login in `url` and its permissions")
        return Unavailable(f"{self.what}: {self._trouble or error!r}")
