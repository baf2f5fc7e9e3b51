"""ClickHouse's HTTP protocol (https://clickhouse.com/docs/interfaces/http), as far as those who only read speak it:
what a request asks for, and how an answer is worded."""

from __future__ import annotations

import base64
import binascii
import email
import email.policy
import json
import uuid
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

import pyarrow as pa
from starlette.datastructures import Headers
from starlette.responses import Response

from tracker.store.readonly import Answer, Question, Refused

NAME = "tracker"
"""What this server calls itself."""
SPOKEN = frozenset(
    {"query", "database", "default_format", "user", "password", "client_protocol_version", "compress", "decompress"}
    | {
        "query_id",
        "quota_key",
        "role",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "buffer_size",
    }
    | {"readonly"}
)
"""Parameters of the protocol; the others are values (`param_*`) and settings. Sessions, roles and quotas mean nothing
here, and all is read only whatever `readonly` says."""
CODECS = {"zstd": "zstd", "lz4": "lz4", "gzip": "gzip"}
"""Content codings that are given, the best first."""
WORTH = 1400
"""Bytes from which on an answer is compressed: one packet is one packet."""
_TYPES = {
    "JSON": "application/json",
    "CSV": "text/csv",
    "Tab": "text/tab-separated-values",
    "TSV": "text/tab-separated-values",
}
_BYTES = frozenset({"Native", "Arrow", "ArrowStream", "Parquet"})


class Asked(NamedTuple):
    """A request: who says to be asking, as a header `Authorization: Bearer`, what, and under which id."""

    authorization: str
    question: Question
    query_id: str


def understood(query: str, headers: Headers, body: bytes, names: frozenset[str]) -> Asked:
    """What URL, headers and (inflated) body ask for. `names`: of the database. Raises Refused."""
    sent = dict(parse_qsl(query, keep_blank_values=True))
    if headers.get("content-type", "").startswith("multipart/form-data"):
        sent |= _form(headers["content-type"], body)
        body = b""
    for name in ("compress", "decompress"):
        if sent.get(name, "0") not in ("0", "false"):
            raise Refused(344, f"{name}=1 is not taken here; compress by Content-Encoding, or not at all")
    database = headers.get("x-clickhouse-database", sent.get("database", ""))
    if database not in names:
        raise Refused(81, f"Database {database} does not exist")
    question = Question(
        statement="\n".join(part for part in (sent.get("query", ""), body.decode(errors="replace")) if part),
        form=headers.get("x-clickhouse-format") or sent.get("default_format") or "TabSeparated",
        values={name.removeprefix("param_"): value for name, value in sent.items() if name.startswith("param_")},
        settings={n: v for n, v in sent.items() if n not in SPOKEN and not n.startswith("param_")},
        revision=_number(sent.get("client_protocol_version", "0")),
    )
    if not question.statement.strip():
        raise Refused(62, "Empty query")
    return Asked(authorization(headers, sent), question, sent.get("query_id") or str(uuid.uuid4()))


def authorization(headers: Headers, sent: Mapping[str, str]) -> str:
    """The token, wherever a client puts a password: `Bearer TOKEN`, or nothing. Whatever the user is called."""
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return f"Bearer {headers.get('x-clickhouse-key', '')}"
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return "Bearer " + base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(516, "the header Authorization cannot be read") from None
    return headers.get("authorization") or f"Bearer {sent.get('password', '')}"


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Fields of a form. Files, which would be tables of the client's own, are not taken."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    fields = {}
    for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
        if part.get_filename() is not None:
            raise Refused(48, "tables of the client's own are not taken here")
        value = part.get_payload(decode=True)
        fields[str(part.get_param("name", header="content-disposition"))] = bytes(value or b"").decode(errors="replace")
    return fields


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def answered(asked: Asked, answer: Answer, accepted: str) -> Response:
    """The answer, compressed in a way that `accepted` (Accept-Encoding) names."""
    summary = {
        "written_rows": "0",
        "written_bytes": "0",
        "result_rows": str(answer.rows),
        "result_bytes": str(len(answer.body)),
        "elapsed_ns": str(answer.elapsed_ns),
    }
    headers = {"X-ClickHouse-Format": answer.form, "X-ClickHouse-Summary": json.dumps(summary)}
    body = answer.body
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    coding = next((coding for coding in CODECS if coding in names), "")
    if coding and len(body) >= WORTH:
        body = pa.Codec(CODECS[coding], compression_level=None if coding == "lz4" else 1).compress(body, asbytes=True)
        headers["Content-Encoding"] = coding
    kind = next((kind for start, kind in _TYPES.items() if answer.form.startswith(start)), "text/plain")
    if answer.form in _BYTES or answer.form.startswith("RowBinary"):
        kind = "application/octet-stream"
    return _response(body, 200, asked.query_id, {**headers, "Vary": "Accept-Encoding"}, kind)


def failed(refused: Refused, query_id: str = "") -> Response:
    """The error as a server words it."""
    headers = {"X-ClickHouse-Exception-Code": str(refused.code)}
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="tracker"'
    if refused.status == 503:
        headers["Retry-After"] = "1"
    return _response(f"{refused}\n".encode(), refused.status, query_id, headers, "text/plain")


def _response(body: bytes, status: int, query_id: str, headers: Mapping[str, str], kind: str) -> Response:
    always = {
        "X-ClickHouse-Query-Id": query_id if query_id.isprintable() and query_id.isascii() else "",
        "X-ClickHouse-Server-Display-Name": NAME,
        "X-ClickHouse-Timezone": "UTC",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(body, status, {**always, **headers}, kind)
