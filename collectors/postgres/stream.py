"""The wire to PostgreSQL: questions that end in time, and a replication stream of one slot.

psycopg has no word for streaming replication; its layer over libpq has all that is needed. Nothing here waits longer
than it is told to, whatever the server does: a backend that was stopped keeps its connection open for ever.

Source: PostgreSQL documentation, "Streaming Replication Protocol".
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any

import psycopg
from psycopg import pq

from collectors.errors import CollectorError, ConfigInvalid, Unavailable
from collectors.postgres.pgoutput import EPOCH, LSN

TIMEOUT = 5.0
"""Seconds that one question may take."""
_WAL, _KEEPALIVE, _STATUS = Struct(">cQQq"), Struct(">cQqB"), Struct(">cQQQqB")
ALIVE: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""How a connection that was cut somewhere on the way is noticed."""
Answer = Sequence[tuple[str | None, ...]]
"""Rows, as texts."""
_REFUSED = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "permission denied",
    "must be superuser",
    "no password supplied",
    "does not exist",
)
"""What trying again does not cure. A connection that was refused has no code, only these words."""
_CODES = ("28", "3D", "42501")
"""The same by code: authorization, no such database, no privilege."""


AS_TEXT: Mapping[str, Any] = {
    "datestyle": "ISO", "timezone": "UTC", "intervalstyle": "iso_8601", "bytea_output": "hex",
}  # fmt: skip
"""Settings of a session in which values are written the same everywhere."""


@contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """No exception of the driver leaves this block: what was refused comes out as an error of ours naming `what`."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error, what) from error


def translated(error: psycopg.Error, what: str) -> CollectorError:
    """The driver's error as ours: `ConfigInvalid` where trying again is no use, else `Unavailable`."""
    reason = " ".join(str(error).split())
    final = error.sqlstate.startswith(_CODES) if error.sqlstate else any(word in reason for word in _REFUSED)
    if final:
        return ConfigInvalid(f"{what}: {reason}; check the login in `url`, and what the page of this collector grants")
    return Unavailable(f"{what}: {reason}")


class Wire:
    """One connection. `options` are settings of the session."""

    def __init__(self, url: str, options: Mapping[str, Any], **connect: Any) -> None:
        said = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._connection = psycopg.connect(
            url, autocommit=True, connect_timeout=int(TIMEOUT), options=said, client_encoding="UTF8", **ALIVE, **connect
        )
        self.raw = self._connection.pgconn
        self._asked = False
        self._rows: list[tuple[str | None, ...]] = []

    def ask(self, query: str, timeout: float = TIMEOUT) -> Answer:
        """The rows of the answer, as texts. Raises `psycopg.Error`."""
        self.send(query)
        rows = self.answer(timeout)
        if rows is None:
            raise psycopg.OperationalError(f"no answer within {timeout:g} s")
        return rows

    def send(self, query: str) -> None:
        """Ask, and do not wait. One question at a time."""
        self.raw.send_query(query.encode())
        self.raw.flush()
        self._asked, self._rows = True, []

    def answer(self, timeout: float) -> Answer | None:
        """What came of it, or None when there is nothing within `timeout` (s)."""
        until = time.monotonic() + timeout
        while self._asked:
            self.raw.consume_input()
            while self.raw.is_busy():
                if not self.ready(until - time.monotonic()):
                    return None
                self.raw.consume_input()
            result = self.raw.get_result()
            if result is None or result.status == pq.ExecStatus.COPY_BOTH:
                self._asked = False
            elif result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                raise psycopg.errors.error_from_result(result)
            else:
                self._rows += _texts(result)
        return self._rows

    def ready(self, wait: float) -> bool:
        """Whether there is something to read within `wait` seconds."""
        poll = select.poll()
        poll.register(self.raw.socket, select.POLLIN)
        return bool(poll.poll(max(0.0, wait) * 1000))

    def close(self) -> None:
        """Cut it off. Closing again does nothing."""
        self._connection.close()


def _texts(result: Any) -> list[tuple[str | None, ...]]:
    return [
        tuple(None if (cell := result.get_value(row, i)) is None else cell.decode() for i in range(result.nfields))
        for row in range(result.ntuples)
    ]


class Stream:
    """What a slot decodes, from where it was confirmed. `reached`: all in the log before it was handed out, except
    what lies in a transaction that is under way. `wants_word`: the server asks whether we are still here."""

    def __init__(self, url: str, slot: str, publication: str) -> None:
        self._wire = Wire(url, AS_TEXT, replication="database")
        self.reached: LSN = 0
        self.wants_word = False
        try:
            self.system = str(self._wire.ask("IDENTIFY_SYSTEM")[0][0])
            options = f"proto_version '1', publication_names '\"{publication}\"', messages 'true'"
            self._wire.ask(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})")
        except BaseException:
            self.close()
            raise

    def next(self, wait: float) -> bytes | None:
        """The next message of the output plugin; None when there is none within `wait` seconds. Raises
        `psycopg.Error`."""
        until, looked = time.monotonic() + wait, False
        while True:
            size, data = self._wire.raw.get_copy_data(1)
            if size > 0:
                payload = self._frame(bytes(data))
                if payload is not None:
                    return payload
                continue
            if size == -1:
                raise self._ended()
            if looked and not self._wire.ready(until - time.monotonic()):
                return None
            self._wire.raw.consume_input()  # first without a look at the socket: TLS may hold what came already
            looked = True

    def _ended(self) -> psycopg.Error:
        """Why the server ended the stream."""
        result = self._wire.raw.get_result()
        if result and result.status == pq.ExecStatus.FATAL_ERROR:
            return psycopg.errors.error_from_result(result)
        return psycopg.OperationalError("the server ended the stream: it shuts down")

    def _frame(self, data: bytes) -> bytes | None:
        if data[:1] == b"w":
            return data[_WAL.size :]
        if data[:1] == b"k":
            _, end, _, wants = _KEEPALIVE.unpack_from(data)
            self.reached = max(self.reached, end)
            self.wants_word = self.wants_word or bool(wants)
        return None

    def confirm(self, lsn: LSN, now: int) -> None:
        """Everything before `lsn` need not be sent again. `now`: our clock, epoch µs."""
        self.wants_word = False
        self._wire.raw.put_copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, now - EPOCH, 0))
        self._wire.raw.flush()

    def close(self) -> None:
        """End it. Closing again does nothing."""
        self._wire.close()
