"""The check on trees and texts alone; the engine's own are in tests/component/clickhouse."""

from __future__ import annotations

import chdb
import pytest

from tracker.store.readonly.bounds import LOWERED, TAKEN, Bounds, settings
from tracker.store.readonly.errors import Refused
from tracker.store.readonly.native import with_revision
from tracker.store.readonly.syntax import check, check_values, functions, redirected

RELATIONS = {"tracker_views.messages"}
EXISTING = {"file", "hop"}
NEVER = [
    "file",
    "url",
    "remote",
    "remoteSecure",
    "s3",
    "gcs",
    "hdfs",
    "mysql",
    "postgresql",
    "mongodb",
    "redis",
    "sqlite",
    "odbc",
    "jdbc",
    "executable",
    "input",
    "merge",
    "mergeTreeIndex",
    "cluster",
    "clusterAllReplicas",
    "loop",
    "dictionary",
    "numbers",
    "zeros",
    "generateRandom",
    "fuzzJSON",
    "python",
    "view",
    "viewExplain",
    "dictGet",
    "dictGetOrDefault",
    "dictHas",
    "joinGet",
    "hasColumnInTable",
    "getSetting",
    "getServerSetting",
    "getMacro",
    "getClientHTTPHeader",
    "showCertificate",
    "hostName",
    "FQDN",
    "serverUUID",
    "tcpPort",
    "buildId",
    "filesystemAvailable",
    "catboostEvaluate",
    "evalMLMethod",
    "sleep",
    "sleepEachRow",
    "logTrace",
    "addressToLine",
    "aiGenerate",
    "aiEmbed",
    "generateSerialID",
    "throwIf",
    "currentRoles",
    "formatRow",
    "structureToProtobufSchema",
    "__getScalar",
    "globalVariable",
    "zookeeperSessionUptime",
    "transactionID",
    "chdb",
]


def tree(inner: str, kind: str = "TableIdentifier") -> str:
    """`SELECT * FROM` something, as `EXPLAIN AST` shows it."""
    return (
        "SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  SelectQuery (children 2)\n"
        "   ExpressionList (children 1)\n    Asterisk\n   TablesInSelectQuery (children 1)\n"
        f"    TablesInSelectQueryElement (children 1)\n     TableExpression (children 1)\n      {kind} {inner}\n"
    )


@pytest.mark.parametrize("name", NEVER)
def test_no_such_function_is_on_the_list(name: str) -> None:
    """Nothing that reads files, other tables, the network, the host or its settings, or that waits, logs or throws."""
    assert name.lower() not in functions()


def test_views_and_names_of_ones_own_pass() -> None:
    """A view with its database, and a name without one: WITH may have given it."""
    assert check(tree("tracker_views.messages (alias m)"), RELATIONS, EXISTING) == ""
    assert check(tree("own"), RELATIONS, EXISTING) == ""
    assert check(tree("own") + " Identifier JSON\n", RELATIONS, EXISTING) == "JSON"


@pytest.mark.parametrize(
    "refused",
    [
        tree("system.tables"),
        tree("tracker_views.messages.x"),
        tree("TRACKER_VIEWS.messages"),
        tree("messages (children 1)", "Function"),
        tree("x") + " Literal 'file'\n",
        tree("x") + " Identifier Template\n",
        tree("x") + " Set\n Identifier JSON\n",
        tree("x") + "      Mystery\n",
        tree("x") + "      Identifier file\n",
        tree("x") + "      Identifier FILE (alias x)\n",
        tree("x") + "      ?\n",
        "InsertQuery   (children 2)\n",
        "Explain EXPLAIN (children 1)\n",
        "",
    ],
)
def test_what_is_on_no_list_is_refused(refused: str) -> None:
    """Other tables, table functions, files, formats, settings, nodes of unknown kinds, other statements."""
    with pytest.raises(Refused):
        check(refused, RELATIONS, EXISTING)


def test_names_of_system_become_ours() -> None:
    """In and out of quotes; never in a text."""
    views = "tracker_views"
    assert redirected("SELECT name FROM system.tables", views) == "SELECT name FROM tracker_views.system_tables"
    assert redirected("SELECT system.tables.name", views) == "SELECT tracker_views.system_tables.name"
    assert redirected("SELECT 'system.tables'", views) == "SELECT 'system.tables'"
    assert redirected("SELECT 'a\\'system.tables'", views) == "SELECT 'a\\'system.tables'"
    assert redirected("SELECT * FROM system.users", views) == "SELECT * FROM system.users"
    assert "name LIKE 'a\\'%'" in redirected("SHOW TABLES FROM x LIKE 'a\\'%' FORMAT JSON", views)
    with pytest.raises(Refused):
        redirected("SELECT 1 AS `a\\n TableIdentifier b`", views)


def test_a_value_for_a_name_is_a_plain_name() -> None:
    """It could not be told from syntax otherwise."""
    check_values("SELECT {n:Identifier}", {"n": "flow"})
    check_values("SELECT {n:String}", {"n": "a\\nb"})
    with pytest.raises(Refused):
        check_values("SELECT {n:Identifier}", {"n": "a\\nb"})


def test_limits_only_get_smaller() -> None:
    """Whatever a client asks for; and readonly is set last, since nothing can be set after it."""
    bounds = Bounds()
    for name in LOWERED:
        usual = float(settings({}, bounds)[name])
        assert [float(settings({name: asked}, bounds)[name]) for asked in ("0", "-1", "1e9", "nan", "inf")] == [
            usual
        ] * 5
        assert float(settings({name: "1"}, bounds)[name]) == 1
    assert list(settings({"extremes": "1"}, bounds).items())[-1] == ("readonly", "1")
    for name in ("readonly", "allow_ddl", "max_memory_usage", "output_format_schema", "additional_table_filters"):
        assert name not in TAKEN
        with pytest.raises(Refused):
            settings({name: "0"}, bounds)


TYPES = """toUInt8(number), toInt256(number), toString(number), repeat('x', 200 + number), toFixedString('ab', 4),
    toDateTime64(number, 6, 'UTC'), toNullable(number), toLowCardinality(toString(number % 3)),
    CAST(toString(number), 'LowCardinality(Nullable(String))'), [number, 1], arrayMap(x -> toString(x), range(number)),
    CAST(['a', 'b'], 'Array(LowCardinality(String))'), map('k', number),
    CAST(map('k', 'v'), 'Map(LowCardinality(String), String)'), (number, 'x'),
    CAST((1, 'x'), 'Tuple(a UInt8, `b c` String)'), CAST('a', 'Enum8(\\'a\\' = 1, \\'b,(\\' = 2)'),
    toUUID('00000000-0000-0000-0000-000000000001'), toDecimal64(number, 3), toIPv6('::1'), true, NULL, [],
    toIntervalDay(number), toDate(number), [[1, number], []], toDecimal128(1, 2)"""


def test_a_revision_adds_what_it_adds_whatever_the_types() -> None:
    """Taken out again, the same bytes are left: so the end of each column was found, in every block."""
    engine = chdb.connect(":memory:")
    plain = engine.query(f"SELECT {TYPES} FROM numbers(1000) SETTINGS max_block_size = 300", "Native").bytes()
    made = with_revision(plain, 54460)
    blocks = made.count(b"\x01\x00\x02\xff\xff\xff\xff\x00")
    columns = (
        len(engine.query(f"SELECT {TYPES}".replace("number", "1"), "JSONCompactColumns").bytes().decode().splitlines())
        - 2
    )
    assert blocks >= 4
    assert len(made) == len(plain) + blocks * (8 + columns)
    assert with_revision(b"", 54460) == b""
    assert with_revision(plain, 54453) == plain
    one = engine.query("SELECT toUInt8(7) AS n", "Native").bytes()
    assert with_revision(one, 54454) == b"\x01\x00\x02\xff\xff\xff\xff\x00\x01\x01\x01n\x05UInt8\x00\x07"
    with pytest.raises(Refused):
        with_revision(engine.query("SELECT CAST('{}', 'JSON')", "Native").bytes(), 54460)
    engine.close()
