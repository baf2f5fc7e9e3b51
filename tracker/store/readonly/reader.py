"""Asks what others want to know: looks at the statement, runs it within bounds, stops it when nobody waits any more."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from tracker.model.errors import TrackerError
from tracker.store.engine import Engine
from tracker.store.readonly import syntax, views
from tracker.store.readonly.bounds import Bounds, settings
from tracker.store.readonly.errors import Refused
from tracker.store.readonly.handles import handle
from tracker.store.readonly.native import with_revision

FRESH_S = 60.0
"""Seconds for which the engine's list of functions is believed."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A statement; the format unless it names one; values of its `{name:Type}` as the HTTP protocol writes them;
    settings; and the revision of the protocol that the asker speaks."""

    statement: str
    form: str = "TabSeparated"
    values: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer in `form`, its rows, and how many nanoseconds it took."""

    body: bytes
    form: str
    rows: int
    elapsed_ns: int


class Reader:
    """Answers questions on one engine. Any thread may call it."""

    def __init__(self, engine: Engine, bounds: Bounds) -> None:
        self.bounds = bounds
        self.database = views.database_of(engine)
        self.names = frozenset({"", "default", engine.database, self.database})
        """What a client may call the database; whichever it is, the views are meant."""
        self._engine, self._relations = engine, views.relations(engine)
        self._made = False
        self._functions: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._lock = threading.Lock()

    def ask(self, question: Question) -> Answer:
        """The answer. Blocks; raises Refused."""
        if len(question.statement) > self.bounds.statement:
            raise Refused(62, f"the statement has more than {self.bounds.statement} characters")
        if question.form not in syntax.FORMATS:
            raise Refused(73, f"the format {question.form} is not given here")
        began = time.perf_counter_ns()
        given = {"log_comment": question.mark, **settings(question.settings, self.bounds)}
        self._make()
        asked = handle(self._engine, self.database, given)
        try:
            quoted = question.statement.replace("\\", "\\\\").replace("'", "\\'")
            written = asked.look(f"SELECT formatQuerySingleLine('{quoted}')", {}).removesuffix("\n")
            statement = syntax.redirected(written, self.database)
            syntax.check_values(statement, question.values)
            tree = asked.look(f"EXPLAIN AST {statement}", question.values)
            named = syntax.check(tree, self._relations, self._existing())
            form = named or question.form
            if named:
                statement = statement.removesuffix(f" FORMAT {named}")
            got = asked.answer(statement, form, question.values, self.bounds.answer)
        finally:
            asked.close()
        body = with_revision(got.body, question.revision) if form == "Native" else got.body
        return Answer(body, form, got.rows, time.perf_counter_ns() - began)

    def stop(self, mark: str) -> None:
        """Nobody waits for the answer to the question with this mark any more."""
        try:
            self._engine.command(f"KILL QUERY WHERE Settings['log_comment'] = '{mark}' ASYNC")
        except TrackerError as error:
            log.debug("question_not_stopped", error=str(error))

    def _existing(self) -> frozenset[str]:
        """All functions of the engine, as they were a moment ago: on a server somebody may make more."""
        at, names = self._functions
        if not names or time.monotonic() - at > FRESH_S:
            try:
                rows = self._engine.rows("SELECT DISTINCT lower(name) AS name FROM system.functions")
            except TrackerError as error:
                raise Refused(210, str(error)) from None
            names = frozenset(row["name"] for row in rows)
            self._functions = (time.monotonic(), names)
        return names

    def _make(self) -> None:
        """Once, when somebody asks for the first time: a tracker that nobody asks needs no right to make views."""
        with self._lock:
            if not self._made:
                try:
                    views.make(self._engine)
                except TrackerError as error:
                    raise Refused(497, f"the views cannot be made: {error}") from None
                self._made = True
