"""One question's own way to the engine: a handle of the embedded one, or requests to a server. Nothing that a question
sets outlives it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

import httpx

from tracker.store.engine import YIELDING, Engine
from tracker.store.readonly.errors import Refused

SLACK_S = 10.0
"""Seconds beyond its limit that a server gets to say that a question took too long."""


class Got(NamedTuple):
    """What came of a statement: the answer in the format asked for, and how many rows it has."""

    body: bytes
    rows: int


class Handle(Protocol):
    """A way to the engine; raises Refused with what the engine said."""

    def look(self, statement: str, values: Mapping[str, str]) -> str:
        """What a statement of ours says."""

    def answer(self, statement: str, form: str, values: Mapping[str, str], most: int) -> Got:
        """What came of the statement, which names no format, as `form`: at most so many bytes."""

    def close(self) -> None:
        """Let go of it."""


class Embedded:
    """A handle of the engine in this process."""

    def __init__(self, engine: Engine, database: str, settings: Mapping[str, str]) -> None:
        import chdb

        arguments = engine.arguments
        folder = f"{os.path.realpath(arguments['path'])}?{urlencode(arguments['chdb_options'])}"
        self._connection: Any = chdb.connect(folder)  # type: ignore[no-untyped-call]  # chdb has no types
        given = ", ".join(f"{name} = '{value}'" for name, value in {**YIELDING, **settings}.items())
        try:
            # Not `default`: there any file of this machine is a table.
            self.look(f"USE {database}", {})
            self.look(f"SET {given}", {})
        except Refused:
            self.close()
            raise

    def look(self, statement: str, values: Mapping[str, str]) -> str:
        """Blocks without holding up other threads."""
        text: bytes = self._query(statement, values).bytes() or b""
        return text.decode(errors="replace")

    def answer(self, statement: str, form: str, values: Mapping[str, str], most: int) -> Got:
        """Through a pipe: an answer that the engine hands over is kept in its memory as a whole, several times, and no
        limit of its own counts that."""
        pipe = _Pipe(most)
        try:
            where = f"INTO OUTFILE '/dev/fd/{pipe.end}' APPEND FORMAT {form}"
            found = self._query(f"{statement} {where}", values)
        finally:
            body = pipe.read()
        if pipe.over:
            raise _too_much(most)
        return Got(body, found.rows_read())  # of the answer, whatever it is called

    def _query(self, statement: str, values: Mapping[str, str]) -> Any:
        try:
            return self._connection.query(statement, "TSVRaw", params=dict(values))
        except RuntimeError as error:  # the errors of chdb are of this kind
            raise Refused.of(str(error)) from None

    def close(self) -> None:
        """Close the handle; the engine stays."""
        self._connection.close()


class Remote:
    """Requests to a server, each with the settings."""

    def __init__(self, engine: Engine, database: str, settings: Mapping[str, str]) -> None:
        arguments = engine.arguments
        scheme = "https" if arguments["secure"] else "http"
        self._given = {"database": database, "wait_end_of_query": "1", **settings}
        self._client = httpx.Client(
            base_url=f"{scheme}://{arguments['host']}:{arguments['port']}",
            auth=(arguments["username"], arguments["password"]),
            timeout=float(settings["max_execution_time"]) + SLACK_S,
            trust_env=False,
        )

    def look(self, statement: str, values: Mapping[str, str]) -> str:
        """One request."""
        return self._post(statement, "TSVRaw", values, 1 << 24).body.decode(errors="replace")

    def answer(self, statement: str, form: str, values: Mapping[str, str], most: int) -> Got:
        """The server sends it when all of it is there, so that an error is one, whenever it comes."""
        return self._post(statement, form, values, most)

    def _post(self, statement: str, form: str, values: Mapping[str, str], most: int) -> Got:
        sent = {"default_format": form, **{f"param_{name}": value for name, value in values.items()}, **self._given}
        try:
            with self._client.stream("POST", "/", params=sent, content=statement.encode()) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > most:
                        raise _too_much(most)
        except httpx.HTTPError as error:
            raise Refused(210, f"the ClickHouse server does not answer: {type(error).__name__}") from None
        if answer.status_code != 200 or "x-clickhouse-exception-code" in answer.headers:
            raise Refused.of(body.decode(errors="replace").strip())
        told = json.loads(answer.headers.get("x-clickhouse-summary", "{}"))
        return Got(bytes(body), int(told.get("result_rows", 0)))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class _Pipe:
    """What is written into its `end` is kept, up to `most` bytes; then it breaks (`over`)."""

    def __init__(self, most: int) -> None:
        self._from, self.end = os.pipe()
        self._most, self._parts = most, list[bytes]()
        self.over = False
        self._thread = threading.Thread(target=self._keep, name="answer")
        self._thread.start()

    def read(self) -> bytes:
        """All of it, once nobody writes any more. Closes both ends."""
        os.close(self.end)
        self._thread.join()
        return b"".join(self._parts)

    def _keep(self) -> None:
        size = 0
        while not self.over and (part := os.read(self._from, 1 << 20)):
            size += len(part)
            self.over = size > self._most
            self._parts.append(part)
        os.close(self._from)


def _too_much(most: int) -> Refused:
    return Refused(307, f"the answer has more than {most} bytes, which is the limit here: ask for less")


def handle(engine: Engine, database: str, settings: Mapping[str, str]) -> Handle:
    """A handle of one's own. Close it. Raises Refused."""
    return Embedded(engine, database, settings) if engine.embedded else Remote(engine, database, settings)
