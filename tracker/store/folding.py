"""Folding: what is new of a flow's messages becomes one row per message, merged with what was known of it.

All of it happens within the engine, portion by portion, so that neither a backlog nor an outage of millions needs more
memory than one portion. Messages that are plainly delivered are judged and kept there, too; only the rest is read out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tracker.model.counted import counted
from tracker.model.verdict import Verdict
from tracker.store.bounds import Bounds
from tracker.store.bundles import MOST, bundles
from tracker.store.delivered import delivered
from tracker.store.engine import Engine
from tracker.store.handful import MANY, Handful
from tracker.store.reach import ONE, UNCLEAR, Portion, Reach, due_since, together
from tracker.store.shape import NEVER
from tracker.store.sql import ask

PORTION = 4_000_000
"""About how many new events and due messages are folded at once."""
TEMPLATES = ("delta", "known", "merged")
"""Tables in memory that every process has copies of, to fold into."""
IN_MEMORY = "SETTINGS max_insert_threads = 2, min_insert_block_size_rows = 1, min_insert_block_size_bytes = 1"
"""Blocks go into a table in memory as they come; one block for all would be one more copy."""

STATES = "SETTINGS max_insert_threads = 3, min_insert_block_size_rows = 350000"
"""Nobody needs all states of a portion at once, as one part would show them: three parts are written at a time, so that
two processors have work while one of them is synced."""

UNMERGED = 100
"""With so many parts of states, merging them is worth more than a quick pass."""


class Folding:
    """The folding of passes on one engine. `_token` tells this process's tables from those of others."""

    _token: str

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db = engine.database

    @property
    def _tables(self) -> dict[str, str]:
        """The tables that this process folds into, by template."""
        return {template: f"{template}_{self._token}" for template in TEMPLATES}

    def begin_folding(self) -> None:
        """Makes sure, once per pass, that this process has empty tables to fold into. Those of others are dropped: one
        that stalled in a pass, and lost the lease meanwhile, cannot go on with it."""
        rows = self._engine.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND match(name, {names:String})",
            {"database": self._db, "names": f"^({'|'.join(TEMPLATES)})_"},
        )
        for name in {row["name"] for row in rows} - set(self._tables.values()):
            self._engine.command(f"DROP TABLE IF EXISTS {self._db}.{name}")
        for template, name in self._tables.items():
            self._engine.command(f"CREATE TABLE IF NOT EXISTS {self._db}.{name} AS {self._db}.{template}")
        self._empty()

    def keep_positions(self, flow: str, bounds: Bounds, fresh: bool) -> None:
        """Which message lies at which offset, of what is new of a flow with range evidence; `fresh`: nothing was kept
        of it before, so of all there is."""
        pieces = {"new_since": bounds.known() if fresh else bounds.new()}
        self._engine.command(ask("keep_positions", self._db, **pieces), bounds.parameters | {"flow": flow})

    def unclear(self, grown: Mapping[str, int], longest: Mapping[str, int]) -> dict[str, int]:
        """By flow, about how many messages may turn out differently since coverage has grown, from a moment on (µs),
        given the longest deadline (µs)."""
        found: dict[str, int] = {}
        for flows in bundles(list(grown), MOST // 5):  # a name may be shorter than the numbers beside it
            asked = ask("unclear", self._db, unclear=UNCLEAR, due_since=due_since(MANY), mine=MANY["mine"])
            base = {"flows": flows, "growns": [grown[f] for f in flows], "longests": [longest[f] for f in flows]}
            found |= {row["flow"]: row["rows"] for row in self._engine.rows(asked, base)}
        return found

    def portions(self, reach: Reach) -> list[Portion]:
        """The whole flow, or as many ranges of ids as keep each about `PORTION` rows."""
        if reach.at_most(PORTION):
            return [Portion()]
        asked = ask("crowd", self._db, new_events=reach.new_or_added, new_since=reach.new, waiting=reach.waiting)
        [crowd] = self._engine.rows(asked, reach.parameters)
        count, some = -(-crowd["rows"] // PORTION), crowd["some"]
        cuts = sorted({some[n * len(some) // count] for n in range(1, count)})
        return [Portion(low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)]

    @contextmanager
    def unmerged(self, portions: Sequence[Portion]) -> Iterator[None]:
        """Keeps an embedded engine from merging states within the block, when several portions are written there: what
        it merged meanwhile would be a quarter of the pass's work, on the same processors. A server has processors for
        it, and would not begin again by itself if this process died."""
        parts = "SELECT count() AS n FROM system.parts WHERE active AND database = {db:String} AND table = 'states'"
        held = len(portions) > 1 and self._engine.embedded
        if not held or self._engine.rows(parts, {"db": self._db})[0]["n"] > UNMERGED:
            yield
            return
        self._engine.command(f"SYSTEM STOP MERGES {self._db}.states")
        try:
            yield
        finally:
            self._engine.command(f"SYSTEM START MERGES {self._db}.states")

    def fold(self, reach: Reach, portion: Portion) -> tuple[int, pa.Table]:
        """(how many messages of the portion this pass touches, the merged states of those that are still to be judged,
        by message id). The others were plainly delivered, and are kept; of few messages there are no others.

        The columns are those of the states table up to the verdict's, with `was`, `found` and `timer_at` as they stood
        before.
        """
        shape, base = reach.shape, reach.parameters | portion.parameters
        tables = self._tables
        pieces = {"new_since": reach.new, "until": reach.bounds.known(), "never": str(NEVER), "slice": portion.sql}
        pieces |= ONE | tables | {"is_known": f"message_id IN (SELECT message_id FROM {self._db}.{tables['known']})"}
        if reach.events or reach.again:
            self._run("fold_new", pieces | shape.fold_pieces(), base)
        pieces["placed"] = reach.new
        if reach.added:
            strays = f"{pieces['until']} AND message_id IN ({ask('strays', self._db, **pieces)})"
            self._run("fold_new", pieces | {"new_since": strays} | shape.fold_pieces(), base)
            pieces["placed"] = f"({reach.new} OR {strays})"
        for proof in reach.proofs:
            self._fold_ranges(pieces, base | proof)
        self._run("waiting" if reach.again else "due", pieces, base)
        if reach.grown is not None:
            self._run("blind", pieces | {"unclear": UNCLEAR, "due_since": due_since(pieces)}, base)
        few = reach.small
        self._look_up(pieces, base, few)
        # Range evidence, and what was left out before, come as rows of their own, beside the events' row of a message.
        pieces["several"] = "true" if reach.ranged or reach.added else pieces["is_known"]
        self._run("merge", pieces | {"merging": ask("merging", self._db, **pieces)}, base)
        pieces |= {"folded": ask("folded", self._db, **pieces), "delivered": "false" if few else delivered(shape)}
        pieces["counted"] = str(counted(0, Verdict.delivered))
        if not few:
            self._run("delivered", pieces, base, settings=STATES)
        rest = self._engine.table(ask("rest", self._db, **pieces), base)
        touched = rest.num_rows if few else self._count(pieces["folded"], base)
        self._empty()
        return touched, rest

    def fold_few(self, reaches: Iterable[Reach]) -> Iterator[tuple[str, pa.Table]]:
        """(flow, what `fold` gives of it) for each of these, which are all `few`: flows are asked about together. One
        of which nothing is touched is left out."""
        for some in together(reaches):
            yield from _by_flow(self._fold_together(some))

    def _fold_together(self, reaches: Sequence[Reach]) -> pa.Table:
        handful, delta = Handful([reach.shape for reach in reaches]), self._tables["delta"]
        base = reaches[0].of_pass | handful.parameters
        pieces = {"new_since": reaches[0].new, "never": str(NEVER), "slice": "true", "several": "true", "delta": delta}
        pieces |= MANY
        pieces["is_known"] = f"({pieces['key']}) IN (SELECT {pieces['key']} FROM {self._db}.{delta})"
        if any(reach.events for reach in reaches):
            self._run("fold_new", pieces | handful.fold_pieces(), base)
        self._run("due", pieces, base)
        if any(reach.grown is not None for reach in reaches):
            base |= {
                "growns": [NEVER if reach.grown is None else reach.grown for reach in reaches],
                "longests": [reach.longest for reach in reaches],
            }
            self._run("blind", pieces | {"unclear": UNCLEAR, "due_since": due_since(pieces)}, base)
        pieces |= {"folded": ask("merging", self._db, **pieces), "delivered": "false"}
        states = self._engine.table(ask("rest", self._db, **pieces), base)
        self._engine.command(f"TRUNCATE TABLE {self._db}.{delta}")
        return states

    def _fold_ranges(self, pieces: dict[str, str], base: dict[str, Any]) -> None:
        """Add what ranges prove, or drop, at one (hop, stage)."""
        spans = self._engine.rows(ask("range_spans", self._db, **pieces), base)
        if spans:
            names = {"logs": "log", "partitions": "partition", "lows": "low", "highs": "high"}
            base = base | {many: [span[one] for span in spans] for many, one in names.items()}
            self._run("fold_ranges", pieces, base)

    def _look_up(self, tables: dict[str, str], base: dict[str, Any], few: bool) -> None:
        """Which folded messages have a state. Nothing is looked up where there are none: a set of ids costs more, if
        there are not but `few`."""
        ends = f"SELECT min(message_id) AS first, max(message_id) AS last FROM {self._db}.{tables['delta']}"
        [span] = self._engine.rows(ends)
        if few or self._engine.rows(ask("any_known", self._db), base | span):
            self._run("known", tables, base | span)

    def _count(self, sql: str, base: dict[str, Any]) -> int:
        [found] = self._engine.rows(f"SELECT count() AS n FROM ({sql})", base)
        return int(found["n"])

    def _empty(self) -> None:
        for name in self._tables.values():
            self._engine.command(f"TRUNCATE TABLE {self._db}.{name}")

    def _run(self, name: str, pieces: dict[str, str], parameters: dict[str, Any], settings: str = IN_MEMORY) -> None:
        self._engine.command(ask(name, self._db, **pieces) + settings, parameters)


def _by_flow(states: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows that are ordered by flow, by flow."""
    start = 0
    for one in pc.value_counts(states["flow"]).to_pylist():
        yield one["values"], states.slice(start, one["counts"])
        start += one["counts"]
