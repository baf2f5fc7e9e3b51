"""ClickHouse's HTTP protocol as its documentation has it, by hand."""

from __future__ import annotations

import gzip
import json
import socket
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.component.clickhouse.conftest import PATIENCE, Face, served
from tests.component.clickhouse.story import World
from tracker.store.readonly import Bounds

_IDS = ", ".join(f"{name}.message_id" for name in "abcde")
SLOW = f"SELECT count() FROM events a, events b, events c, events d, events e WHERE cityHash64({_IDS}) = 7"
"""Hundreds of millions of rows."""
RUNNING = (
    "SELECT count() FROM system.processes "
    "WHERE query LIKE '%cityHash64(a.message_id%' AND NOT is_cancelled AND query NOT LIKE '%processes%'"
)


def test_a_statement_in_the_url_or_in_the_body(face: Face) -> None:
    """GET and POST; what is in `query` comes before the body; a body may be compressed; a form may hold it all."""
    token = {"X-ClickHouse-User": "any", "X-ClickHouse-Key": face.tokens["read"]}
    assert httpx.get(face.url, params={"query": "SELECT 1 + 1"}, headers=token).text == "2\n"
    assert httpx.get(f"{face.url}/", params={"query": "SELECT 1"}, headers=token).text == "1\n"
    assert face.post("messages", query="SELECT count() FROM").text == "20\n"
    packed = {**token, "Content-Encoding": "gzip"}
    assert face.post(gzip.compress(b"SELECT 3"), packed).text == "3\n"
    form = {"query": (None, "SELECT {a:UInt8} + 1"), "param_a": (None, "41")}
    assert httpx.post(face.url, files=form, headers=token).text == "42\n"
    assert (
        face.post("SELECT {s:String}, {t:Identifier} FROM messages LIMIT 1", param_s="a\\tb'", param_t="flow").text
        == "a\\tb\\'\torders\n"
    )


def test_the_head_of_an_answer(face: Face) -> None:
    """Format, id, time zone, name and summary; the FORMAT of a statement wins over the header and over the default."""
    answer = face.post("SELECT count() AS n FROM messages", query_id="mine", default_format="JSON")
    assert answer.json()["data"] == [{"n": 20}]
    headers = answer.headers
    assert (headers["x-clickhouse-format"], headers["x-clickhouse-query-id"]) == ("JSON", "mine")
    assert (headers["x-clickhouse-timezone"], headers["x-clickhouse-server-display-name"]) == ("UTC", "tracker")
    assert headers["content-type"].startswith("application/json")
    summary = json.loads(headers["x-clickhouse-summary"])
    assert (summary["result_rows"], summary["result_bytes"]) == ("1", str(len(answer.content)))
    assert face.post("SELECT timezone()").text == "UTC\n"
    csv = face.post("SELECT 1 AS a FORMAT CSVWithNames", default_format="JSON")
    assert csv.text == '"a"\n1\n'
    assert csv.headers["x-clickhouse-format"] == "CSVWithNames"
    assert face.post("SELECT 1", default_format="Template").headers["x-clickhouse-exception-code"] == "73"


def test_ways_to_say_the_token(face: Face) -> None:
    """Headers of ClickHouse, basic, bearer, the URL. Without one 401, with a wrong one or another scope 403."""
    read = face.tokens["read"]
    basic = b64encode(f"grafana:{read}".encode()).decode()
    for headers in (
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Bearer {read}"},
        {"X-ClickHouse-Key": read},
    ):
        assert face.post("SELECT 1", headers).text == "1\n"
    assert face.post("SELECT 1", {}, user="u", password=read).text == "1\n"
    nobody = face.post("SELECT 1", {})
    assert (nobody.status_code, nobody.headers["x-clickhouse-exception-code"]) == (401, "194")
    assert nobody.headers["www-authenticate"].startswith("Basic")
    assert face.post("SELECT 1", {"X-ClickHouse-Key": "no"}).status_code == 403
    assert face.post("SELECT 1", {"X-ClickHouse-Key": face.tokens["ingest"]}).status_code == 403
    assert face.post("SELECT 1", {"Authorization": "Basic ?"}).status_code == 403
    assert httpx.get(f"{face.url}/ping").text == "Ok.\n"


def test_what_is_not_taken_is_said(face: Face) -> None:
    """Other databases, block compression, tables of the client's own, settings that are on no list."""
    refused: list[tuple[str, dict[str, Any], int, int]] = [
        ("SELECT 1", {"database": "system"}, 404, 81),
        ("SELECT 1", {"compress": "1"}, 500, 344),
        ("SELECT 1", {"max_memory_usage": "1"}, 500, 164),
        ("SELECT 1", {"output_format_schema": "/tmp/x"}, 500, 164),
        ("SELECT 1", {"session_timezone": "'; x"}, 500, 472),
        ("", {}, 400, 62),
        ("SELECT '" + "x" * 200_000 + "'", {}, 400, 62),
    ]
    for statement, parameters, status, code in refused:
        answer = face.post(statement, **parameters)
        assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, str(code))
        assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    for database in ("", "default", "tracker", "tracker_views"):
        assert face.post("SELECT count() FROM messages", database=database).text == "20\n"
    files: dict[str, Any] = {"query": (None, "SELECT 1"), "mine": ("mine", b"1")}
    headers = {"X-ClickHouse-Key": face.tokens["read"]}
    assert httpx.post(face.url, files=files, headers=headers).headers["x-clickhouse-exception-code"] == "48"


def test_limits_end_a_question_with_their_code(world: World) -> None:
    """Time, rows, memory and the size of an answer are bounded, and a client cannot ask for more."""
    bounds = Bounds(seconds=0.5, memory=100 << 20, rows=1000, answer=100_000)
    with served(world, bounds) as face:
        slow = face.post(SLOW, max_execution_time=1000)
        assert (slow.status_code, slow.headers["x-clickhouse-exception-code"]) == (408, "159")
        for statement, code in (
            ("SELECT arrayJoin(range(2000)) FROM messages", "396"),
            ("SELECT length(range(100000000))", "241"),
            ("SELECT arrayJoin(range(999)), repeat('x', 1000)", "307"),
            ("SELECT arrayJoin(range(999)), repeat('x', 1000) FORMAT JSON", "307"),
        ):
            refused = face.post(statement, max_result_rows=0)
            assert refused.headers.get("x-clickhouse-exception-code") == code, statement
        assert face.post("SELECT count() FROM messages").text == "20\n"


def test_a_slow_question_holds_nobody_up(world: World) -> None:
    """While it has the only place the store answers everybody else; it ends at its limit, and the next is answered."""
    with served(world, Bounds(seconds=2, questions=1)) as face, ThreadPoolExecutor() as others:
        engine = world.installation.store.engine
        slow = others.submit(face.post, SLOW)
        _until(lambda: engine.command(RUNNING) == 1)
        assert engine.command("SELECT count() FROM tracker.events") > 0
        assert slow.result(PATIENCE).status_code == 408
        assert face.post("SELECT 1").text == "1\n"


def test_a_question_ends_when_its_asker_leaves(world: World) -> None:
    """A closed connection stops the engine's work within moments, long before its limit."""
    with served(world, Bounds(seconds=60, questions=1)) as face:
        asker = socket.create_connection(("127.0.0.1", face.port))
        head = f"POST /clickhouse HTTP/1.1\r\nHost: 127.0.0.1\r\nX-ClickHouse-Key: {face.tokens['read']}\r\n"
        asker.sendall(f"{head}Content-Length: {len(SLOW)}\r\n\r\n{SLOW}".encode())
        engine = world.installation.store.engine
        _until(lambda: engine.command(RUNNING) == 1)
        asker.close()
        _until(lambda: engine.command(RUNNING) == 0)
        assert face.post("SELECT 1").text == "1\n"


def _until(so: object) -> None:
    assert callable(so)
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_questions_are_counted(world: World) -> None:
    """By what became of them."""
    with served(world, Bounds()) as face:
        face.post("SELECT 1")
        face.post("SELECT file('/etc/passwd')")
        value = face.service.metrics.registry.get_sample_value
        assert value("tracker_clickhouse_questions_total", {"outcome": "answered"}) == 1
        assert value("tracker_clickhouse_questions_total", {"outcome": "refused"}) == 1
        assert value("tracker_clickhouse_question_seconds_count") == 2


@pytest.mark.parametrize("revision", [0, 54405])
def test_early_revisions_get_what_they_understand(face: Face, revision: int) -> None:
    """Native without a revision."""
    body = face.post("SELECT toUInt8(7) AS n FORMAT Native", client_protocol_version=revision).content
    assert body == b"\x01\x01\x01n\x05UInt8\x07"
