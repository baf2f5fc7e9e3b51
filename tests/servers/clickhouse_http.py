"""ClickHouse's HTTP interface in front of the embedded engine, in a process of its own: what a test uses where no
ClickHouse server can be had.

    python -m tests.servers.clickhouse_http --port 18123 --folder /tmp/x --user default --password secret

It is the same engine behind the same protocol, not a server's own implementation of it: statement in the body, in
`query` or in a form, parameters as `param_*`, settings in the URL, data of an INSERT behind its first line, formats and
errors in headers, and a server's default limits. No cluster, no replication, no users but the one.
"""

from __future__ import annotations

import argparse
import base64
import email
import email.policy
import gzip
import hmac
import json
import re
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

MAX_FIELD = 131_072
"""`http_max_field_value_size` of a server as it is installed."""
NOT_SETTINGS = frozenset(
    {"query", "database", "user", "password", "query_id", "session_id", "session_timeout", "session_check", "role"}
    | {"quota_key", "default_format", "wait_end_of_query", "client_protocol_version", "compress", "decompress"}
    | {"buffer_size", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression"}
)
"""Parameters of the protocol itself."""
_INSERT = re.compile(rb"\s*(INSERT\s+INTO\s[^\n]*?)\sFORMAT\s+(\w+)[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(rb"\sFORMAT\s+(\w+)[\s;]*\Z", re.IGNORECASE)
_STATUS = {"60": 404, "81": 404, "516": 403, "497": 403, "241": 500}
"""HTTP status by code of the exception; the others are 500."""


class Failed(Exception):
    """An answer that is an error: ClickHouse's code and text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Request:
    """What one request asks for."""

    parameters: dict[str, str] = field(default_factory=dict)
    statement: bytes = b""

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the query: every parameter that is neither the protocol's nor a value."""
        return {k: v for k, v in self.parameters.items() if k not in NOT_SETTINGS and not k.startswith("param_")}

    @property
    def values(self) -> dict[str, str]:
        """Values of the query's `{name:Type}`."""
        return {k.removeprefix("param_"): v for k, v in self.parameters.items() if k.startswith("param_")}


def understood(query: str, headers: Any, body: bytes) -> Request:
    """The request that URL, headers and body make. Raises Failed for what a server would not take."""
    request = Request(dict(parse_qsl(query, keep_blank_values=True)))
    encoding = headers.get("Content-Encoding", "")
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding:
        raise Failed("48", f"Code: 48. DB::Exception: Content-Encoding {encoding} is not supported here")
    if headers.get("Content-Type", "").startswith("multipart/form-data"):
        request.parameters |= _form(headers["Content-Type"], body)
        body = b""
    statement = request.parameters.get("query", "").encode()
    request.statement = statement + b"\n" + body if statement and body else statement or body
    return request


def _form(content_type: str, body: bytes) -> dict[str, str]:
    text = f"Content-Type: {content_type}\r\n\r\n".encode() + body
    fields = {}
    for part in email.message_from_bytes(text, policy=email.policy.HTTP).iter_parts():
        value = part.get_payload(decode=True)
        if len(value) > MAX_FIELD:
            raise Failed("1000", "Code: 1000. DB::Exception: HTML Form Exception: Field value too long: "
                         f"{len(value)} bytes, http_max_field_value_size is {MAX_FIELD}. (POCO_EXCEPTION)")  # fmt: skip
        fields[str(part.get_param("name", header="content-disposition"))] = value.decode()
    return fields


def run(folder: str, request: Request) -> tuple[bytes, str, dict[str, str]]:
    """(body, format, summary) of a request, run with its settings on a connection of its own. Raises Failed."""
    connection = chdb.connect(folder)
    try:
        if request.parameters.get("database"):
            connection.query(f"USE `{request.parameters['database']}`", "TabSeparated")
        for name, value in request.settings.items():
            connection.query(f"SET {name} = '{value}'", "TabSeparated")
        insert = _INSERT.match(request.statement)
        if insert and len(request.statement) > insert.end():
            result = _insert(connection, insert, request.statement[insert.end() :])
            return b"", "", {"written_rows": str(result.rows_read()), "written_bytes": str(result.bytes_read())}
        # The FORMAT of what is explained is not that of the explanation.
        named = None if request.statement.startswith(b"EXPLAIN") else _FORMAT.search(request.statement)
        form = named[1].decode() if named else request.parameters.get("default_format", "TabSeparated")
        result = connection.query(request.statement.decode(), form, params=request.values)
        return result.bytes(), form, {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read())}
    except (chdb.ChdbError, RuntimeError) as error:  # chdb has two classes of this name; the one raised is the other
        text = str(error)
        code = re.search(r"Code: (\d+)", text)
        raise Failed(code[1] if code else "1002", text) from error
    finally:
        connection.close()


def _insert(connection: Any, insert: re.Match[bytes], data: bytes) -> Any:
    """The embedded engine reads the data of an INSERT from a file only."""
    with tempfile.NamedTemporaryFile(prefix="clickhouse-http-") as file:
        file.write(data)
        file.flush()
        statement = f"{insert[1].decode()} FROM INFILE '{file.name}' FORMAT {insert[2].decode()}"
        return connection.query(statement, "TabSeparated")


class Handler(BaseHTTPRequestHandler):
    """One connection; `folder`, `expected` (basic authorization) and `journal` come first."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, folder: str, expected: str, journal: Path | None, *rest: Any) -> None:
        self._folder, self._expected, self._journal = folder, expected, journal
        super().__init__(*rest)

    def do_GET(self) -> None:
        """`/ping`, or a query in the URL."""
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n", {})
        else:
            self.do_POST()

    def do_POST(self) -> None:
        """Run what is asked and answer as a server does."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if not hmac.compare_digest(self.headers.get("Authorization", ""), self._expected):
                raise Failed("516", "Code: 516. DB::Exception: Authentication failed: password is incorrect, or there "
                             "is no user with such name. (AUTHENTICATION_FAILED)")  # fmt: skip
            request = understood(urlsplit(self.path).query, self.headers, body)
            self._note(request)
            answer, form, summary = run(self._folder, request)
        except Failed as failed:
            headers = {"X-ClickHouse-Exception-Code": failed.code}
            self._answer(_STATUS.get(failed.code, 500), f"{failed}\n".encode(), headers)
            return
        headers = {"X-ClickHouse-Summary": json.dumps(summary), "X-ClickHouse-Timezone": "UTC"}
        self._answer(200, answer, headers | ({"X-ClickHouse-Format": form} if form else {}))

    def _note(self, request: Request) -> None:
        """Keep what was asked, so that a test can say what went over the wire."""
        if self._journal:
            line = {
                "agent": self.headers.get("User-Agent"),
                "statement": request.statement[:300].decode(errors="replace"),
                "settings": request.settings,
                "form": "multipart" in self.headers.get("Content-Type", ""),
            }
            with self._journal.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-ClickHouse-Query-Id": str(uuid.uuid4())}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Errors only; one line per query would drown them."""
        if not str(arguments[1] if len(arguments) > 1 else "").startswith("2"):
            sys.stderr.write(format % arguments + "\n")


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="ClickHouse's HTTP interface in front of the embedded engine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    parser.add_argument("--journal", type=Path, help="a file that every statement is written to")
    given = parser.parse_args()
    keep = chdb.connect(given.folder)  # the engine lives as long as one connection does
    expected = "Basic " + base64.b64encode(f"{given.user}:{given.password}".encode()).decode()
    server = ThreadingHTTPServer(("127.0.0.1", given.port), partial(Handler, given.folder, expected, given.journal))
    server.daemon_threads = True
    try:
        server.serve_forever()
    finally:
        keep.close()


if __name__ == "__main__":
    main()
