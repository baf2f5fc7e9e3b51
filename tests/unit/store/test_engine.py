"""Store URLs, and what a driver's error becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from tests.servers.ports import free_port
from tracker.model.errors import Invalid, Unavailable
from tracker.store import Store
from tracker.store.engine import _ours, _parse


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://db/x", "scheme 'postgresql' is unknown; use chdb:///folder or clickhouse://"),
        ("", "scheme '' is unknown"),
        ("clickhouse:///tracker", "names no host; write clickhouse://user:password@host:8123/tracker"),
        ("chdb://relative/folder", "chdb:///absolute/folder"),
        ("chdb:///", "chdb:///absolute/folder"),
        ("clickhouse://host/no-such name", "is no database name"),
        ("chdb:///data?database=a.b", "is no database name"),
        ("clickhouse://host:70000/tracker", "port"),
    ],
)
def test_a_url_that_means_nothing_says_what_would(url: str, words: str) -> None:
    """The message names the part that is wrong and what to write instead."""
    with pytest.raises(Invalid, match=words):
        Store.open(url)


def test_a_server_url_gives_host_port_user_and_database(tmp_path: Path) -> None:
    """Percent-encoded user and password are decoded; the name used in messages holds no secret."""
    kwargs, database, where = _parse("clickhouse://ann%40x:p%2Fw@ch.example:9123/ledger")
    assert (kwargs["host"], kwargs["port"], kwargs["username"], kwargs["password"]) == (
        "ch.example", 9123, "ann@x", "p/w",
    )  # fmt: skip
    assert database == "ledger"
    assert where == "clickhouse://ch.example:9123/ledger"
    assert _parse("clickhouses://h/x")[0]["port"] == 8443
    assert _parse(f"chdb://{tmp_path}?database=other")[1] == "other"


def test_nobody_listening_is_unavailable_and_names_the_server() -> None:
    """Whoever is called at night reads which server, without the password."""
    port = free_port()
    with pytest.raises(Unavailable, match=f"clickhouse://127.0.0.1:{port}/tracker") as caught:
        Store.open(f"clickhouse://someone:secret@127.0.0.1:{port}/tracker")
    assert "secret" not in str(caught.value)
    assert "does not answer (Connection refused): is the server running" in str(caught.value)
    assert str(caught.value).endswith(f"curl http://127.0.0.1:{port}/ping")


def test_a_held_folder_is_said_only_of_a_folder() -> None:
    """An error of a server that happens to hold the words `block` and `status` is not taken for a held folder."""
    error = DatabaseError("HTTP driver received HTTP status 500, server response: bad block")
    assert isinstance(_ours(error, "clickhouse://h:8123/x"), Unavailable)
    assert "held by another process" not in str(_ours(error, "clickhouse://h:8123/x"))


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [
        (27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", Invalid),
        (53, "TYPE_MISMATCH", Invalid),
        (117, "INCORRECT_DATA", Invalid),
        (691, "UNKNOWN_ELEMENT_OF_ENUM", Invalid),
        (60, "UNKNOWN_TABLE", Unavailable),
        (516, "AUTHENTICATION_FAILED", Unavailable),
        (497, "ACCESS_DENIED", Unavailable),
        (252, "TOO_MANY_PARTS", Unavailable),
        (202, "TOO_MANY_SIMULTANEOUS_QUERIES", Unavailable),
        (241, "MEMORY_LIMIT_EXCEEDED", Unavailable),
        (159, "TIMEOUT_EXCEEDED", Unavailable),
        (243, "NOT_ENOUGH_SPACE", Unavailable),
        (242, "TABLE_IS_READ_ONLY", Unavailable),
        (999, "KEEPER_EXCEPTION", Unavailable),
        (None, "", Unavailable),
    ],
)
def test_what_may_be_tried_again_is_unavailable(code: int | None, name: str, kind: type[Exception]) -> None:
    """Only rows or values at fault are Invalid: a batch is not dropped for a full disk or a changed password."""
    error = OperationalError(f"Received ClickHouse exception, code: {code}, server response: Code: {code}. "
                             f"DB::Exception: something. ({name})", code=code)  # fmt: skip
    assert type(_ours(error, "clickhouse://h:8123/x")) is kind


def test_what_can_be_done_is_said() -> None:
    """A wrong password, a full disk: whoever reads it knows where to look."""
    for code, words in ((516, "password in TRACKER_STORE"), (243, "disk is full"), (252, "inserted than it merges")):
        assert words in str(
            _ours(OperationalError("Received ClickHouse exception", code=code), "clickhouse://h:8123/x")
        )
