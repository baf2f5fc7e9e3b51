"""What a publication tells of the tables, and whether it always did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from collectors.postgres.rows import Table
from collectors.postgres.stream import Answer, Wire

HIDDEN = """
(SELECT string_agg(part::regclass::text, ', ') FROM (
    SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid AND c.relkind = 'r'
    UNION ALL
    SELECT leaf.oid FROM pg_partition_tree(c.oid) t JOIN pg_class leaf ON leaf.oid = t.relid
     WHERE c.relkind = 'p' AND t.isleaf AND (leaf.relpersistence <> 'p' OR leaf.relkind <> 'r')) parts (part))
"""
"""What holds rows of a table, and is not published as a part of it."""
_PUBLISHED = """
SELECT t.schemaname || '.' || t.tablename, p.pubinsert AND to_jsonb(t) ->> 'rowfilter' IS NULL,
       CASE WHEN p.pubupdate AND p.pubdelete THEN 't' WHEN p.pubupdate OR p.pubdelete THEN '-' ELSE 'f' END,
       concat_ws('/', p.oid, p.xmin, r.oid, r.xmin),
       {hidden}
  FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
  JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', t.schemaname, t.tablename))
  LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
 WHERE p.pubname = {} AND t.schemaname || '.' || t.tablename IN ({tables})
"""


def published(name: str, tables: Sequence[str]) -> str:
    """The question what is published of these tables: (table, its rows, their changes: t, f, or `-` for some of it, a
    sign, what is hidden). What is told in the log depends on the publication as it was then: another sign says that it
    was not always this one."""
    wanted = ", ".join(sql.Literal(table).as_string() for table in tables)
    return filled(_PUBLISHED.replace("{hidden}", HIDDEN).replace("{tables}", wanted), name)


def signs_in(answer: Answer) -> dict[str, str]:
    """By table, what tells one making of the publication from another."""
    return {str(row[0]): str(row[3]) for row in answer}


def whole(answer: Answer, tables: Sequence[Table]) -> set[str]:
    """The tables of which all that is needed is published."""
    followed = any(table.relayed for table in tables)
    return {name or "" for name, rows, changes, *_ in answer if rows == "t" and (changes == "t" or not followed)}


_NOTE = "SELECT pg_logical_emit_message(true, {}, {}), pg_snapshot_xmin(pg_current_snapshot())"


def canary(name: str, content: str, tables: Sequence[Table]) -> str:
    """The question that writes a note into the log, prefixed `name`, and asks which transactions are open, and what is
    published."""
    note = filled(_NOTE, name, content)
    return f"{note}; {published(name, sorted({table.table for table in tables}))}"


def sung(answer: Answer, tables: Sequence[Table], signs: Mapping[str, str]) -> tuple[int, list[str]]:
    """Of the answer to a `canary`: (transactions below this number have ended, tables of which something is not
    published, or was not for a moment since these `signs`)."""
    there = {str(row[0]) for row in answer[1:] if row[4] is None and row[3] == signs.get(str(row[0]))}
    return int(answer[0][1] or 0), sorted({table.table for table in tables} - (whole(answer[1:], tables) & there))


def signs_of(wire: Wire, name: str, tables: Sequence[Table]) -> dict[str, str]:
    """The signs of the publication as it is now."""
    return signs_in(wire.ask(published(name, sorted({table.table for table in tables}))))


def filled(query: str, *values: str) -> str:
    """The query with its values as literals: simple questions take no parameters."""
    for value in values:
        query = query.replace("{}", sql.Literal(value).as_string(), 1)
    return query
