"""What may be asked, decided on what the engine itself made of a statement, never on the text that was sent.

The engine parses the text and writes it out again as one statement in a form of its own (`formatQuerySingleLine`,
which takes it as a value, so nothing in it is run). That form is all that goes on from here. Names that clients ask
`system` for become names of views of ours, then `EXPLAIN AST` of the very text that will be run is held against
lists of what is allowed: kinds of nodes, functions, tables. What is on no list is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tracker.store.readonly.errors import Refused

_FORMATS = (
    "Native Arrow ArrowStream Parquet RowBinary RowBinaryWithNames RowBinaryWithNamesAndTypes Values Vertical XML "
    "JSON JSONStrings JSONColumns JSONColumnsWithMetadata JSONCompact JSONCompactStrings JSONCompactColumns "
    "JSONEachRow JSONLines NDJSON JSONStringsEachRow JSONCompactEachRow JSONCompactEachRowWithNames "
    "JSONCompactEachRowWithNamesAndTypes JSONEachRowWithProgress CSV CSVWithNames CSVWithNamesAndTypes TabSeparated "
    "TSV TabSeparatedWithNames TSVWithNames TabSeparatedWithNamesAndTypes TSVWithNamesAndTypes TabSeparatedRaw TSVRaw "
    "Pretty PrettyCompact PrettySpace Markdown Null"
)
FORMATS = frozenset(_FORMATS.split())
"""Formats that are given."""
SYSTEM = frozenset({"columns", "databases", "functions", "settings", "tables"})
"""Tables of `system` that clients ask for; views of ours stand in for them."""
_NODES = (
    "SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery DescribeQuery ExpressionList WithElement Subquery "
    "TablesInSelectQuery TablesInSelectQueryElement TableExpression TableIdentifier TableJoin ArrayJoin SampleRatio "
    "Identifier Literal Function Asterisk QualifiedAsterisk ColumnsRegexpMatcher ColumnsListMatcher "
    "QualifiedColumnsRegexpMatcher QualifiedColumnsListMatcher ColumnsTransformerList ColumnsExceptTransformer "
    "ColumnsReplaceTransformer ColumnsReplaceTransformer::Replacement OrderByElement InterpolateElement "
    "WindowDefinition WindowListElement"
)
_KINDS = frozenset(_NODES.split())
"""Kinds of nodes of a tree. Not among them: ColumnsApplyTransformer, which does not show what function it applies, and
Set, which does not show what it sets."""
_MEANT = {
    "Set": (164, "a SETTINGS clause is not taken here; send settings as parameters of the URL"),
    "ColumnsApplyTransformer": (48, "APPLY is not taken here; name the columns"),
    "Explain": (48, "EXPLAIN is not taken here"),
}
_COMBINATORS = re.compile(r"(if|array|map|foreach|distinct|ordefault|ornull|resample|argmin|argmax|null)$")
"""Not State and Merge: no view has states, and one that somebody made up is read by much code that trusts it."""
_OF_TABLES = re.compile(r"(global)?(not)?(null)?in(ignoreset)?|(?P<any>exists)")
"""Functions of which an argument, but for the first of IN, may be a table."""
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*' | `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*"
                        | [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)* | .""", re.VERBOSE | re.DOTALL)  # fmt: skip
_NODE = re.compile(r"( *)([A-Za-z]\w*(?:::\w+)?)(?: (.*))?")
_PLACEHOLDER = re.compile(r"\{(\w+):Identifier\}")
_LIKE = r"(?P<like> (?:NOT )?I?LIKE '(?:[^'\\]|\\.)*')?(?P<limit> LIMIT \d+)?(?P<format> FORMAT \w+)?"
_SHOW_DATABASES = re.compile(r"SHOW DATABASES" + _LIKE)
_SHOW_TABLES = re.compile(r"SHOW (?:FULL )?TABLES(?: FROM (?P<database>\w+))?" + _LIKE)
_EXISTS = re.compile(r"EXISTS (?:TABLE |VIEW )?(?:(?P<database>\w+)\.)?(?P<table>\w+)(?P<format> FORMAT \w+)?")


@dataclass(frozen=True, slots=True)
class Node:
    """A line of `EXPLAIN AST`: how deep, what kind, and what it says of itself."""

    depth: int
    kind: str
    text: str

    @property
    def name(self) -> str:
        """What an Identifier, TableIdentifier or Function is called."""
        return self.text.partition(" (")[0]


@cache
def functions() -> frozenset[str]:
    """Names of allowed functions, in lower case."""
    text = resources.files("tracker.store.readonly").joinpath("functions.txt").read_text("utf-8")
    return frozenset(" ".join(line for line in text.splitlines() if not line.startswith("#")).split())


def redirected(statement: str, views: str) -> str:
    """The statement, as the engine wrote it, with names of `system` turned into those of our views, and SHOW and EXISTS
    into SELECT. Raises Refused for a name that could be taken for something else."""
    statement = _shown(statement, views)
    made = []
    for token in _TOKEN.findall(statement):
        if token[0] in '`"' and ("\\" in token or not token.isprintable()):
            raise Refused(62, "a name with a backslash or a control character is not taken here")
        first, _, rest = token.partition(".")
        table, _, column = rest.partition(".")
        if first == "system" and table in SYSTEM:
            token = f"{views}.system_{table}" + (f".{column}" if column else "")
        made.append(token)
    return "".join(made)


def _shown(statement: str, views: str) -> str:
    if found := _SHOW_DATABASES.fullmatch(statement):
        return _select("name", "databases", views, "", found)
    if found := _SHOW_TABLES.fullmatch(statement):
        return _select("name", "tables", views, f" AND database = '{found['database'] or views}'", found)
    if found := _EXISTS.fullmatch(statement):
        where = f"database = '{found['database'] or views}' AND name = '{found['table']}'"
        return f"SELECT toUInt8(count() > 0) AS result FROM {views}.system_tables WHERE {where}{found['format'] or ''}"
    return statement


def _select(column: str, table: str, views: str, where: str, found: re.Match[str]) -> str:
    like = f" AND (name{found['like']})" if found["like"] else ""
    tail = (found["limit"] or "") + (found["format"] or "")
    return f"SELECT {column} FROM {views}.system_{table} WHERE 1{where}{like} ORDER BY name{tail}"


def check_values(statement: str, values: Mapping[str, str]) -> None:
    """A value that stands for a name has to be a plain one. Raises Refused."""
    for name in _PLACEHOLDER.findall(statement):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", values.get(name, "x")):
            raise Refused(62, f"the value of {{{name}:Identifier}} is no plain name")


def check(tree: str, relations: Collection[str], existing: Collection[str]) -> str:
    """The format that a statement asks for, '' for none, by its `EXPLAIN AST`. `relations`: names of allowed tables,
    with their database. A name without one can only be a view of ours, the current database has nothing else, or what
    the statement itself calls so (WITH). `existing`: all functions of the engine, in lower case. Raises Refused."""
    nodes = list(_nodes(tree))
    root = nodes[0].kind if nodes else ""
    if root not in ("SelectWithUnionQuery", "DescribeQuery"):
        raise Refused(
            *_MEANT.get(root, (620, "only SELECT, SHOW DATABASES or TABLES, EXISTS and DESCRIBE are taken here"))
        )
    form = _format([node for node in nodes if node.depth == 1])
    for place, node in enumerate(nodes):
        if node.kind not in _KINDS:
            raise Refused(*_MEANT.get(node.kind, (620, f"{node.kind} is not taken here")))
        if node.kind == "TableIdentifier":
            _check_table(node.name, relations)
        elif node.kind == "Function":
            _check_function(nodes, place, relations)
        elif node.kind == "Identifier" and node.name.lower() in existing and not _known(node.name.lower()):
            # It may be no column: arrayMap(file, ...) calls the function of this name.
            raise Refused(
                497, f"{node.name} is a function that is not taken here; call a column of yours something else"
            )
    return form


def _nodes(tree: str) -> Iterator[Node]:
    for line in tree.split("\n"):  # only these end a line of the tree; a text may have other kinds of line breaks
        found = _NODE.fullmatch(line)
        if line and not found:
            raise Refused(62, "the statement has a name that cannot be told from syntax")
        if found:
            yield Node(len(found[1]), found[2], (found[3] or "").strip())


def _format(below: list[Node]) -> str:
    """Below the root stands what is selected or described; beside it a format, and no file."""
    beside = below[1:]
    if not beside:
        return ""
    if len(beside) > 1 or beside[0].kind != "Identifier":
        meant = next((_MEANT[node.kind] for node in beside if node.kind in _MEANT), None)
        raise Refused(*(meant or (620, "INTO OUTFILE is not taken here")))
    if beside[0].name not in FORMATS:
        raise Refused(73, f"the format {beside[0].name} is not given here")
    return beside[0].name


def _check_table(name: str, relations: Collection[str]) -> None:
    if "." in name and name not in relations:
        raise Refused(497, f"{name} is not among the views that may be read; SHOW TABLES lists them")


def _check_function(nodes: list[Node], place: int, relations: Collection[str]) -> None:
    node = nodes[place]
    before = nodes[place - 1]
    if before.kind == "TableExpression" and before.depth == node.depth - 1:
        raise Refused(497, f"the table function {node.name} is not taken here")
    if not _known(node.name.lower()):
        raise Refused(497, f"the function {node.name} is not taken here; docs/clickhouse.md says which are")
    if found := _OF_TABLES.fullmatch(node.name.lower()):
        for argument in _below(nodes, place + 1)[0 if found["any"] else 1 :]:
            if argument.kind == "Identifier":
                _check_table(argument.name, relations)


def _below(nodes: list[Node], place: int) -> list[Node]:
    """The children of the node at `place`."""
    children = []
    for node in nodes[place + 1 :]:
        if node.depth <= nodes[place].depth:
            break
        if node.depth == nodes[place].depth + 1:
            children.append(node)
    return children


def _known(name: str) -> bool:
    """Is this function, or the aggregate function without its combinators, on the list?"""
    while name not in functions():
        shorter = _COMBINATORS.sub("", name)
        if shorter == name:
            return False
        name = shorter
    return True
