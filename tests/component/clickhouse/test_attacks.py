"""Nothing but SELECT on what may be read gets through: a corpus of attacks, and statements that hypothesis makes up.

An attack that gets through leaves a trace: a file, a row, a table, or the text of a file or table that nobody may read.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.component.clickhouse.story import World
from tracker.store.columns import QUARANTINE
from tracker.store.readonly import Answer, Bounds, Question, Reader, Refused
from tracker.store.readonly.syntax import functions

SECRET = "tr0ub4dor"
ATTACKS = """
INSERT INTO tracker.states (flow) VALUES ('x')
INSERT INTO FUNCTION file('{file}', 'CSV', 'a String') VALUES ('x')
WITH q AS (SELECT 1) INSERT INTO tracker.states SELECT * FROM q
CREATE TABLE t (a Int8) ENGINE = Memory
CREATE TEMPORARY TABLE t AS SELECT * FROM tracker.quarantine
CREATE VIEW tracker_views.v AS SELECT * FROM tracker.quarantine
CREATE FUNCTION f AS x -> file(x)
DROP TABLE tracker.states
TRUNCATE TABLE tracker.states
ALTER TABLE tracker.states DELETE WHERE 1
OPTIMIZE TABLE tracker.states FINAL
RENAME TABLE tracker.states TO tracker.s
DELETE FROM tracker.states WHERE 1
UPDATE tracker.states SET verdict = 'x' WHERE 1
EXCHANGE TABLES tracker.states AND tracker.findings
ATTACH TABLE t FROM '/tmp' (a Int8) ENGINE = Log
BACKUP DATABASE tracker TO Disk('x', 'y')
KILL QUERY WHERE 1
SYSTEM SHUTDOWN
SYSTEM FLUSH LOGS
SET readonly = 0
USE system
GRANT ALL ON *.* TO default
SHOW CREATE TABLE tracker.quarantine
SHOW PROCESSLIST
SHOW GRANTS
SHOW COLUMNS FROM tracker.quarantine
SHOW TABLES WHERE file('{secret}') = ''
DESCRIBE TABLE tracker.quarantine
DESCRIBE TABLE file('{secret}')
EXPLAIN SELECT * FROM tracker.quarantine
EXPLAIN AST SELECT 1
SELECT * FROM file('{secret}', 'LineAsString')
SELECT * FROM file('{secret}', LineAsString, 'line String')
SELECT file('{secret}')
SELECT FILE('{secret}')
SELECT `file`('{secret}')
SELECT arrayMap(x -> file(x), ['{secret}'])
SELECT arrayMap(file, ['{secret}'])
SELECT arrayMap(`FILE`, ['{secret}'])
SELECT mapApply(file, map('a', '{secret}'))
WITH file AS f SELECT arrayMap(f, ['{secret}'])
SELECT arrayMap(f, ['{secret}']) FROM (SELECT file AS f)
SELECT * APPLY (x -> file(x)) FROM (SELECT '{secret}')
SELECT * APPLY file FROM (SELECT '{secret}')
SELECT * REPLACE (file('{secret}') AS a) FROM (SELECT 1 AS a)
SELECT COLUMNS('.*') APPLY file FROM (SELECT '{secret}')
WITH file('{secret}') AS a SELECT a
WITH (SELECT file('{secret}')) AS a SELECT a
SELECT (SELECT file('{secret}'))
SELECT 1 WHERE (SELECT count() FROM file('{secret}', 'LineAsString')) > 0
SELECT 1 ORDER BY file('{secret}')
SELECT 1 LIMIT (SELECT length(file('{secret}')))
SELECT 1 AS a ORDER BY a WITH FILL FROM 0 TO 2 INTERPOLATE (a AS file('{secret}'))
SELECT count() OVER w FROM (SELECT 1 AS a) WINDOW w AS (PARTITION BY file('{secret}'))
SELECT sum(1) OVER (ORDER BY file('{secret}'))
SELECT 1 FROM messages ARRAY JOIN [file('{secret}')] AS a
SELECT 1 FROM messages AS m JOIN file('{secret}', 'LineAsString') AS f ON 1
SELECT 1 FROM messages AS m JOIN messages AS n ON m.flow = file('{secret}')
SELECT 1 QUALIFY file('{secret}') = ''
SELECT 1 GROUP BY GROUPING SETS ((file('{secret}')))
SELECT 1 UNION ALL SELECT file('{secret}')
SELECT 1 INTERSECT SELECT length(file('{secret}'))
SELECT 1 PARALLEL WITH SELECT 1
SELECT * FROM `{secret}`
SELECT * FROM "{secret}"
SELECT * FROM default.`{secret}`
SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')
SELECT * FROM remote('127.0.0.1:1', 'system', 'one')
SELECT * FROM s3('http://127.0.0.1:1/a', 'CSV')
SELECT * FROM executable('id', 'TSV', 'a String')
SELECT * FROM input('a String')
SELECT * FROM merge('tracker', '.*')
SELECT * FROM merge('.*')
SELECT * FROM cluster('default', 'system', 'one')
SELECT * FROM view(SELECT * FROM tracker.quarantine)
SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))
SELECT * FROM dictionary('x')
SELECT * FROM numbers(10)
SELECT * FROM values('a String', 'x')
SELECT * FROM sqlite('{file}', 't')
SELECT * FROM Python(x)
SELECT * FROM mergeTreeIndex(tracker, quarantine)
SELECT * FROM loop(tracker.quarantine)
SELECT 1 IN file('{secret}', 'LineAsString')
SELECT 1 IN numbers(10)
SELECT * FROM tracker.quarantine
SELECT * FROM tracker . quarantine
SELECT * FROM `tracker`.`quarantine`
SELECT * FROM "tracker"."quarantine"
SELECT * FROM/**/tracker.quarantine--
SELECT * FROM tracker.quarantine # x
SELECT * FROM (SELECT * FROM (SELECT * FROM tracker.quarantine))
SELECT 'x' IN tracker.quarantine
SELECT 'x' IN (tracker.quarantine)
SELECT 'x' NOT IN tracker.quarantine
SELECT 'x' GLOBAL IN tracker.quarantine
SELECT in('x', tracker.quarantine)
SELECT nullIn('x', tracker.quarantine)
SELECT EXISTS (SELECT * FROM tracker.quarantine)
SELECT * FROM quarantine
WITH messages AS (SELECT * FROM tracker.quarantine) SELECT * FROM messages
WITH RECURSIVE r AS (SELECT * FROM tracker.quarantine) SELECT * FROM r
WITH x AS (SELECT 1) SELECT * FROM x, tracker.quarantine
SELECT * FROM messages, tracker.quarantine
SELECT q.raw FROM messages AS m RIGHT JOIN tracker.quarantine AS q ON 1
SELECT joinGet('tracker.quarantine', 'raw', 1)
SELECT hasColumnInTable('tracker', 'quarantine', 'raw')
SELECT dictGet('tracker.quarantine', 'raw', 1)
SELECT * FROM system.users
SELECT * FROM system.processes
SELECT * FROM system.query_log
SELECT * FROM system.one
SELECT * FROM SYSTEM.tables
SELECT * FROM system.`tables `
SELECT * FROM information_schema.tables
SELECT * FROM INFORMATION_SCHEMA.COLUMNS
SELECT name FROM system.tables WHERE name IN system.users
SELECT getSetting('max_threads'), getServerSetting('path')
SELECT hostName(), FQDN(), serverUUID()
SELECT aiGenerate('x', 'y')
SELECT sleep(3)
SELECT sleepEachRow(1)
SELECT throwIf(1)
SELECT arrayReduce('flameGraph', [1])
SELECT sumMerge(CAST('x', 'AggregateFunction(sum, UInt8)'))
SELECT finalizeAggregation(CAST('x', 'AggregateFunction(sum, UInt8)'))
SELECT 1 INTO OUTFILE '{file}'
SELECT 1 INTO OUTFILE '{file}' FORMAT CSV
SELECT 1 INTO OUTFILE '{file}' TRUNCATE AND STDOUT
SELECT 1 FORMAT Template
SELECT 1 FORMAT CapnProto
SELECT 1 SETTINGS readonly = 0
SELECT 1 SETTINGS max_execution_time = 0
SELECT (SELECT 1 SETTINGS max_memory_usage = 0)
SELECT 1 FORMAT JSON SETTINGS readonly = 2
SELECT * FROM (SELECT * FROM messages SETTINGS additional_table_filters = {{'a': 'b'}})
SELECT 1; DROP TABLE tracker.states
SELECT 1;; SELECT file('{secret}')
SELECT 'a'; INSERT INTO tracker.states (flow) VALUES ('x'); --
SELECT 1 /* */ ; /* */ DROP DATABASE tracker
SELECT '\\'; DROP TABLE tracker.states; --'; DROP TABLE tracker.states
SELECT $$;$$; DROP TABLE tracker.states
SELECT 1 AS `a\\n TableIdentifier tracker_views.messages` FROM tracker.quarantine
SELECT * FROM `tracker_views.messages (alias x`.`quarantine`
FROM tracker.quarantine SELECT *
(SELECT * FROM tracker.quarantine)
SELECT * FROM \uff33\uff39\uff33\uff34\uff25\uff2d.users
SELECT * FROM tracker\u200b.quarantine
SELECT\u00a0file('{secret}')
SELECT in('a\u2028      Literal 1', tracker.installation)
SELECT in('a\x0b      Literal 1', tracker.installation)
SELECT exists(tracker.quarantine)
SELECT count() FROM messages WHERE exists(tracker.quarantine)
""".strip().split("\n")


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that nobody may read."""
    path = tmp_path_factory.mktemp("secret") / "secret.csv"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture(scope="module")
def reader(world: World) -> Reader:
    """Of a ledger with a line in quarantine that nobody may read."""
    line = {"tenant": "", "source": "c", "line": 1, "field": "f", "reason": "r", "raw": SECRET, "flow": "orders"}
    row = {**line, "received_at": world.installation.now}
    world.installation.store.insert_quarantine(pa.Table.from_pylist([row], schema=QUARANTINE))
    engine = world.installation.store.engine
    for table in engine.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%Tree'"
    ):
        engine.command(
            f"OPTIMIZE TABLE {engine.database}.{table['name']} FINAL"
        )  # or merges change how many rows it has
    made = Reader(world.installation.store.engine, Bounds(seconds=5, memory=500 << 20, rows=10_000))
    made.ask(Question(statement="SELECT 1"))  # which makes the views
    return made


def _asked(reader: Reader, statement: str) -> Answer | Refused:
    try:
        return reader.ask(Question(statement=statement))
    except Refused as refused:
        return refused


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(world: World, reader: Reader, secret: Path, attack: str) -> None:
    """Each with an error of ClickHouse's that says why; the ledger stays as it was, no file is made."""
    before = _state(world)
    target = secret.with_name("made")
    text = attack.replace("{{", "{").replace("}}", "}").replace("{secret}", str(secret)).replace("{file}", str(target))
    found = _asked(reader, text)
    assert isinstance(found, Refused), found
    assert str(found).startswith(f"Code: {found.code}. DB::Exception: ")
    assert SECRET not in str(found)
    assert _state(world) == before
    assert not target.exists()


def _state(world: World) -> object:
    engine = world.installation.store.engine
    return engine.rows(
        "SELECT database, name, total_rows FROM system.tables WHERE database NOT IN ('system') AND lower(database) "
        "!= 'information_schema' ORDER BY database, name"
    )


NAMES = st.sampled_from(
    [
        "messages",
        "tracker_views.messages",
        "tracker.states",
        "tracker.quarantine",
        "quarantine",
        "system.tables",
        "q",
        "system.users",
        "`tracker`.`quarantine`",
        "file('{secret}', 'LineAsString')",
        "merge('tracker', '.*')",
        "q.raw",
    ]
)
FUNCTIONS = st.sampled_from(
    ["count", "file", "sum", "toString", "sleep", "countIf", "joinGet", "concat", "hostName", "in"]
)
PARTS = st.recursive(
    st.sampled_from(
        ["1", "'{secret}'", "raw", "*", "flow", "'x'", "NULL", "message_id", "--", "/*", ";", "{a:Identifier}"]
    ),
    lambda inner: st.one_of(
        st.tuples(FUNCTIONS, inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, NAMES).map(lambda p: f"(SELECT {p[0]} FROM {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"{p[0]}, {p[1]}"),
        st.tuples(inner, NAMES).map(lambda p: f"{p[0]} IN {p[1]}"),
        st.tuples(NAMES, inner).map(lambda p: f"(WITH {p[0]} AS {p[1]} SELECT * FROM {p[0]})"),
        inner.map(lambda p: f"x -> {p}"),
        inner.map(lambda p: f"{p} AS q"),
    ),
    max_leaves=6,
)
TAILS = st.sampled_from(
    [
        "",
        " FORMAT JSON",
        " INTO OUTFILE '{file}'",
        " SETTINGS readonly = 0",
        " LIMIT 1 BY 1",
        " -- x",
        " FINAL",
        " UNION ALL SELECT raw FROM tracker.quarantine",
        "; DROP TABLE tracker.states",
        " ARRAY JOIN [1] AS a",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, table=NAMES, tail=TAILS)
@example(parts="*", table="messages", tail="")
def test_made_up_statements_tell_nothing(
    world: World,
    reader: Reader,
    secret: Path,
    parts: str,
    table: str,
    tail: str,
) -> None:
    """Answered or refused as ClickHouse words it: never a word of what nobody may read, never a change, never another
    error."""
    before = _state(world)
    target = secret.with_name("made")
    text = f"SELECT {parts} FROM {table}{tail}".replace("{secret}", str(secret)).replace("{file}", str(target))
    values = {"a": "tracker.quarantine"}
    try:
        answer = reader.ask(Question(statement=text, values=values))
    except Refused as refused:
        told = str(refused)
    else:
        told = ""
        assert SECRET.encode() not in answer.body, text
        assert "quarantine" not in answer.body.decode(errors="replace") or "quarantine" in f"{parts}{tail}", text
    assert SECRET not in told
    assert _state(world) == before
    assert not target.exists()


def test_no_column_is_called_like_a_function_that_is_refused(reader: Reader) -> None:
    """Or nobody could ask for it."""
    columns = reader.ask(Question(statement="SELECT DISTINCT lower(name) FROM system.columns")).body.decode().split()
    columns += reader.ask(Question(statement="DESCRIBE TABLE system.columns FORMAT TSV")).body.decode().split()
    existing = reader.ask(Question(statement="SELECT lower(name) FROM system.functions")).body.decode().split()
    assert set(columns) & set(existing) <= functions()


@pytest.mark.parametrize("deep", ["({})", "NOT {}", "[{}]", "(SELECT {})", "x -> {}", "toString({})", "-{}"])
def test_deep_statements_end_nothing(reader: Reader, deep: str) -> None:
    """However deep, it is answered or refused, and so is the next."""
    text = "1"
    for _ in range(5000):
        text = deep.replace("{}", text)
    found = _asked(reader, f"SELECT {text}")
    assert isinstance(found, Answer) or str(found).startswith("Code: ")
    assert reader.ask(Question(statement="SELECT 1")).body == b"1\n"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80))
def test_any_text_is_answered_in_clickhouses_words(reader: Reader, text: str) -> None:
    """Whatever is sent, the answer is an answer or an error with a code."""
    found = _asked(reader, text)
    assert isinstance(found, Answer) or str(found).startswith("Code: ")
