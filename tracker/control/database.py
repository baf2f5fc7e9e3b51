"""One engine, two kinds of transaction, and the only place that sees a driver's exception.

A writing transaction on SQLite is `BEGIN IMMEDIATE`: it takes the one write lock at its start, so that what it reads
cannot be changed under it. On PostgreSQL the same safety comes from `lock`, from row locks and from unique keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine, create_engine, event, exc, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.orm import Session, sessionmaker

from tracker.control.errors import Broken, Conflict, ControlError, Invalid, Unavailable
from tracker.control.tables import Base

BUSY_MS = 10_000
"""How long a call waits for a lock that another holds before it is `Unavailable`."""
CONNECT_S = 5
EXAMPLES = "sqlite:////var/lib/tracker/control.db or postgresql+psycopg://user:password@host/database"


class Transactions(Protocol):
    """Where a table module gets its session from: the database itself, or the transaction that is under way."""

    def read(self) -> AbstractContextManager[Session]:
        """A session to ask questions with."""
        ...

    def write(self) -> AbstractContextManager[Session]:
        """A session whose changes are kept when its transaction ends well."""
        ...


class Database:
    """Opens a transaction per call. Safe to share among threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._closed = False
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(engine.execution_options(tracker_writes=True), expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent look (SQLite), or one statement at a time (PostgreSQL). Raises as `translated` does."""
        with self._open(self._readers) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Commits when the block ends, rolls back when it raises. Raises as `translated` does."""
        with self._open(self._writers) as session:
            yield session

    @contextmanager
    def _open(self, make: sessionmaker[Session]) -> Iterator[Session]:
        if self._closed:
            raise Unavailable("the control database was closed: the process is shutting down")
        with translated(self.engine.url), make.begin() as session:
            yield session

    def close(self) -> None:
        """Let go of all connections; on SQLite the last one folds the WAL back into the file. Idempotent."""
        self._closed = True
        self.engine.dispose()


class Joined:
    """Every call joins the one transaction that is under way. For one thread.

    Rows are read anew by each call: on PostgreSQL another transaction may have changed one before ours got its lock.
    """

    def __init__(self, session: Session, url: URL) -> None:
        self._session = session
        self._url = url

    @contextmanager
    def read(self) -> Iterator[Session]:
        """The session of the transaction under way, to ask or to change. Raises as `translated` does."""
        with translated(self._url):
            yield self._session
            self._session.flush()
            self._session.expire_all()

    write = read


def engine_for(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql[+psycopg]://...`; connects to nothing yet. Raises `Invalid`."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise Invalid(f"the control database URL cannot be read; write {EXAMPLES}") from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        engine = _sqlite(parsed)
    elif parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        engine = _postgresql(parsed.set(drivername="postgresql+psycopg"))
    else:
        raise Invalid(f"the control database cannot be {parsed.drivername!r}; write {EXAMPLES}")
    event.listen(engine, "handle_error", _refuse_value)
    return engine


def _refuse_value(context: ExceptionContext) -> None:
    """The drivers raise these two bare: an integer of more than 64 bits, text that is not Unicode."""
    if isinstance(context.original_exception, OverflowError | UnicodeEncodeError):
        raise Invalid(f"a value cannot be stored: {context.original_exception}") from context.original_exception


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise Invalid("the control database must be a file: in memory it would forget incidents and replays")
    _create_private(Path(url.database))
    engine = create_engine(
        url, connect_args={"timeout": BUSY_MS / 1000}, json_serializer=to_json, json_deserializer=from_json
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _create_private(path: Path) -> None:
    """The file holds the salt of key hashes and hashes of tokens: nobody else reads it (WAL files inherit the mode)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(
            f"the control database {path} cannot be opened: {reason}; check the path and its owner"
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """`synchronous=FULL`: a claim that a power cut un-commits would be sent twice. The driver's own BEGIN is off."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("tracker_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL) -> Engine:
    options = f"-c lock_timeout={BUSY_MS} -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000"
    try:
        return create_engine(
            url,
            connect_args={"connect_timeout": CONNECT_S, "options": options, "application_name": "tracker"},
            json_serializer=to_json,
            json_deserializer=from_json,
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=32,
            pool_timeout=BUSY_MS / 1000,
        )
    except ModuleNotFoundError as error:
        raise Invalid("PostgreSQL needs the driver psycopg: install message-tracker[postgres]") from error


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turns what SQLAlchemy and the drivers raise into `ControlError`s that name the database, without password."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise _translate(error, f"control database {url.render_as_string(hide_password=True)}") from error


def _translate(error: exc.SQLAlchemyError, name: str) -> ControlError:
    origin = getattr(error, "orig", None) or error
    reason = " ".join(str(origin).split())
    match error:
        case exc.IntegrityError():
            return Conflict(f"{name}: {reason}")
        case exc.DataError():
            return Invalid(f"{name}: a value cannot be stored: {reason}")
        case exc.OperationalError() | exc.InterfaceError() | exc.TimeoutError():
            return Unavailable(f"{name} is not available: {reason}; is it running, reachable, with space left?")
        case exc.DBAPIError() if error.connection_invalidated:
            return Unavailable(f"{name} closed the connection: {reason}")
        case exc.DBAPIError():
            return Broken(f"{name}: {reason}; is this the right database, and is it intact?")
        case exc.StatementError():
            return Invalid(f"{name}: a value cannot be stored: {reason}")
    return Broken(f"{name}: {reason}")


_decode = msgspec.json.Decoder().decode


def to_json(value: object) -> str:
    """JSON as kept in columns; msgspec structs become objects. Not-a-number is refused: PostgreSQL could not read it.

    ASCII only: an escaped NUL or lone surrogate in an id can be kept, a bare one cannot. Raises `Invalid`.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=msgspec.to_builtins)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"a value cannot be stored as JSON: {error}") from error


def from_json(text: str | bytes) -> Any:
    """What `to_json` kept, several times as quick as the standard library: a replay reads thousands of routes a
    second. What only that one understands (a lone surrogate) is left to it."""
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


def lock(session: Session, name: str) -> None:
    """From here to the end of the transaction no other runs between its own `lock(name)` and its end.

    A writing transaction on SQLite is alone anyway. Where several are taken in one transaction, the audit log's comes
    last, so that two transactions never wait for each other in a ring.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def refresh_statistics(session: Session, table: type[Base]) -> None:
    """Tell PostgreSQL's planner what a large insert has just put there.

    Until its own analysis comes, a minute later, it takes the table for small and sorts all of it at every claim.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"ANALYZE {table.__tablename__}"))


def insert_new(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose key is not there yet; the others stay as they are."""
    if not rows:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))
    else:
        session.execute(sqlite.insert(table).on_conflict_do_nothing(), list(rows))
