"""clickhouse-connect's own HTTP client, as it would speak to a server."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.component.clickhouse.conftest import Face
from tests.component.clickhouse.story import World

ROOT = Path(__file__).parents[3]


def test_a_client_connects_and_asks(face: Face) -> None:
    """Handshake, ping, rows with the types of their columns, a parameter in the server's and in the client's way."""
    client = face.connect()
    assert client.ping()
    asked = (
        "SELECT verdict, count() AS messages FROM messages WHERE flow = {flow:String} GROUP BY verdict ORDER BY verdict"
    )
    assert client.query(asked, parameters={"flow": "orders"}).result_rows == [
        ("delivered", 17), ("late", 1), ("lost", 1), ("unacknowledged", 1)
    ]  # fmt: skip
    [[when]] = client.query(
        "SELECT min(origin_at) FROM messages WHERE flow = %(f)s", parameters={"f": "orders"}
    ).result_rows
    assert when == datetime(2027, 1, 15, 8, 0, 1, tzinfo=UTC).replace(tzinfo=None)
    assert client.query("SELECT * FROM messages WHERE flow = 'no''body'").result_rows == []
    assert client.query("SELECT message_id FROM messages LIMIT 0").column_names == ("message_id",)
    assert client.command("SELECT count() FROM messages") == 20


def test_frames_arrow_and_streams(face: Face) -> None:
    """The same rows as a data frame, as Arrow, as streams of either, and raw."""
    client = face.connect()
    asked = "SELECT message_id, verdict, flags, origin_at FROM messages ORDER BY message_id"
    rows = client.query(asked).result_rows
    assert len(rows) == 20
    frame = client.query_df(asked)
    assert list(frame.message_id) == [row[0] for row in rows]
    assert client.query_arrow(asked, use_strings=True).column("verdict").to_pylist() == [row[1] for row in rows]
    with client.query_row_block_stream(asked) as blocks:
        assert [row for block in blocks for row in block] == rows
    with client.query_arrow_stream(asked) as batches:
        assert sum(batch.num_rows for batch in batches) == 20
    with client.raw_stream(asked, fmt="CSVWithNames") as lines:
        assert lines.read().decode().splitlines()[0] == '"message_id","verdict","flags","origin_at"'


@pytest.mark.parametrize("compress", [True, False, "zstd", "lz4", "gzip"])
def test_answers_come_compressed_as_asked(face: Face, compress: bool | str) -> None:
    """Whatever compression a client asks for, it can read what comes."""
    client = face.connect(compress=compress)
    rows = client.query("SELECT message_id, arrayJoin(range(200)) AS n FROM messages").result_rows
    assert len(rows) == 4000


def test_a_client_sends_its_settings(face: Face) -> None:
    """Settings of the answer's form are taken; one that would loosen a limit is made smaller; others are refused."""
    client = face.connect(settings={"max_execution_time": 100_000})
    assert client.command("SELECT 1", settings={"max_threads": 64}) == 1
    assert "\"1\"" in client.raw_query(
        "SELECT toUInt64(1) AS n", fmt="JSON", settings={"output_format_json_quote_64bit_integers": 1}
    ).decode()  # fmt: skip
    with pytest.raises(DatabaseError, match="DB::Exception"):
        client.raw_query("SELECT 1", settings={"max_result_rows": "many"})


def test_errors_are_clickhouses(face: Face) -> None:
    """A wrong name, a refusal and a wrong password are told apart by ClickHouse's codes."""
    client = face.connect()
    for asked, code in (("SELECT no_such FROM messages", 47), ("SELECT * FROM nowhere", 60), ("SELEC 1", 62)):
        with pytest.raises(DatabaseError) as wrong:
            client.query(asked)
        assert wrong.value.code == code
    with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
        client.query("SELECT * FROM tracker.events")
    with pytest.raises(DatabaseError, match="QUERY_NOT_ALLOWED"):
        client.command("CREATE TABLE x (a Int8) ENGINE = Memory")
    with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED"):
        face.connect(password="wrong")
    with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
        face.connect(password=face.tokens["ingest"])
    with pytest.raises(DatabaseError):
        client.insert("messages", [["a"]], column_names=["flow"])


def test_tables_and_columns_are_listed(face: Face, world: World) -> None:
    """What query builders ask for: databases, tables, columns with their types, whether a table is there."""
    client = face.connect(database="tracker_views")
    assert client.query("SHOW DATABASES").result_rows == [("tracker_views",)]
    tables = [row[0] for row in client.query('SHOW TABLES FROM "tracker_views"').result_rows]
    assert tables == ["anomalies", "coverage", "events", "findings", "incidents", "latencies", "messages", "reports",
                      "windows"]  # fmt: skip
    for table in tables:
        described = client.query(f'DESC TABLE "tracker_views"."{table}"').result_rows
        listed = client.query(
            "SELECT name, type FROM system.columns WHERE database = 'tracker_views' AND table = {t:String} "
            "ORDER BY position",
            parameters={"t": table},
        ).result_rows
        assert [(row[0], row[1]) for row in described] == listed
    assert client.command("EXISTS TABLE messages") == 1
    assert client.command("EXISTS TABLE states") == 0
    named = client.query("SELECT name FROM system.databases").result_rows
    assert named == [("tracker_views",)]


def test_the_examples_on_the_page_run(face: Face) -> None:
    """Those of docs/clickhouse.md, with this port and token."""
    page = (ROOT / "docs/clickhouse.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    told: dict[str, Any] = {}
    exec(example.replace("8000", str(face.port)).replace("TOKEN", face.tokens["read"]), told)  # our page
    assert set(told["frame"].column("message_id").to_pylist()) == {"m-3", "m-7", "m-9"}
    [asked] = re.findall(r'-d "(SELECT .*?)"', page)
    rows = face.post(asked, default_format="JSONEachRow").text.splitlines()
    assert {json.loads(row)["verdict"] for row in rows} == {"delivered", "late", "lost", "unacknowledged"}
    sources = yaml.safe_load((ROOT / "deploy/grafana/datasources.yaml").read_text("utf-8"))["datasources"]
    source = next(one for one in sources if one["type"] == "grafana-clickhouse-datasource")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert shown == {key: source[key] for key in ("jsonData", "secureJsonData")}
    assert face.url.endswith(f"/{source['jsonData']['path']}")


def test_the_page_has_every_view_and_column(face: Face) -> None:
    """Names and types are promised there."""
    page = (ROOT / "docs/clickhouse.md").read_text("utf-8")
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    client = face.connect()
    assert sorted(sections) == [row[0] for row in client.query("SHOW TABLES").result_rows]
    for view, section in sections.items():
        missing = [row[0] for row in client.query(f"DESC TABLE {view}").result_rows if f"`{row[0]}`" not in section]
        assert missing == [], view
