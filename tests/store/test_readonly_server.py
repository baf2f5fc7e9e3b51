"""Questions from outside: over a server they are answered, and refused, as over the embedded engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.store.conftest import Server
from tests.store.test_server import ODD, SPEC, World, passed
from tracker.store.readonly import Bounds, Question, Reader, Refused

ASKED = [
    "SELECT * EXCEPT pass FROM messages ORDER BY message_id FORMAT JSONCompactEachRow",
    "SELECT * FROM events ORDER BY message_id, observed_at FORMAT TSVWithNamesAndTypes",
    "SELECT message_id, flags FROM messages ORDER BY message_id FORMAT Native",
    "SELECT * FROM windows ORDER BY ALL FORMAT CSV",
    "SHOW TABLES",
    "DESCRIBE TABLE findings",
    "SELECT name, readonly FROM system.settings ORDER BY name",
    "SELECT flow, hop, stage FROM latencies ORDER BY ALL",
    "SELECT currentDatabase(), timezone()",
    "SELECT {n:UInt8} + 1, {s:String}",
]
REFUSED = [
    "SELECT count() FROM story.states FINAL",
    "SELECT * FROM story.events",
    "SELECT * FROM system.users",
    "SELECT file('/etc/passwd')",
    "SELECT * FROM `/etc/passwd`",
    "DROP TABLE story.states",
    "SELECT 1; DROP TABLE story.states",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 SETTINGS max_threads = 64",
    "SELECT arrayJoin(range(2000)) FROM messages",
    "SELECT no_such FROM messages",
]
VALUES = {"n": "41", "s": "it's\\\\a\\tb"}


@pytest.fixture
def readers(tmp_path: Path, embedded_folder: Path, clickhouse_server: Server) -> Iterator[tuple[Reader, Reader]]:
    """The same story on both, in databases of the same name."""
    made = []
    worlds = ExitStack()
    for name, url in (
        ("embedded", f"chdb://{embedded_folder}?database=story"),
        ("served", clickhouse_server.url("story")),
    ):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, url)
        worlds.callback(world.close)
        world.put(SPEC)
        for points, ident in enumerate(ODD):
            world.observe(passed(ident, 1 + points % 4))
        world.run_pass()
        made.append(Reader(world.store.engine, Bounds(rows=1000)))
    yield made[0], made[1]
    worlds.close()


def test_both_say_the_same(readers: tuple[Reader, Reader]) -> None:
    """Byte for byte, whatever the format; and refuse with the same code."""
    embedded, served = readers
    for statement in ASKED:
        question = Question(statement=statement, values=VALUES if "{" in statement else {})
        assert served.ask(question).body == embedded.ask(question).body, statement
        assert served.ask(question).form == embedded.ask(question).form
    for statement in REFUSED:
        assert _code(served.ask, statement) == _code(embedded.ask, statement), statement


def _code(ask: Callable[[Question], object], statement: str) -> int:
    with pytest.raises(Refused) as refused:
        ask(Question(statement=statement))
    return refused.value.code
