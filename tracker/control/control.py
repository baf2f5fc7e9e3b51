"""The control database as one object: `Control.open(url)`, then one attribute per kind of thing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy import text

from tracker.control.audit import Audit
from tracker.control.database import Database, Joined, Transactions, engine_for
from tracker.control.errors import ControlError
from tracker.control.flows import Flows
from tracker.control.idempotency import Idempotency
from tracker.control.incidents import Incidents
from tracker.control.leases import Leases
from tracker.control.messages import Messages
from tracker.control.migrate import migrate
from tracker.control.passes import Passes
from tracker.control.replays import Replays
from tracker.control.rulings import Rulings
from tracker.control.settings import Settings
from tracker.control.sightings import Sightings
from tracker.control.statements import Statements
from tracker.control.tokens import Tokens


class Books:
    """Everything the control database keeps. Each call is a transaction, or a part of the one that is under way."""

    def __init__(self, transactions: Transactions) -> None:
        self.flows = Flows(transactions)
        self.passes = Passes(transactions)
        self.incidents = Incidents(transactions)
        self.rulings = Rulings(transactions)
        self.replays = Replays(transactions)
        self.messages = Messages(transactions)
        self.leases = Leases(transactions)
        self.tokens = Tokens(transactions)
        self.audit = Audit(transactions)
        self.idempotency = Idempotency(transactions)
        self.settings = Settings(transactions)
        self.statements = Statements(transactions)
        self.sightings = Sightings(transactions)


class Control(Books):
    """An open control database; safe to share among threads, not among processes that fork.

    with Control.open("sqlite:////var/lib/tracker/control.db") as control:
        control.flows.all()
        with control.transaction() as books:      # all or nothing
            books.replays.move("r-17", "approved", now, by="ann")
            books.audit.append(now, "ann", "approve", "replay/r-17")
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database

    @classmethod
    def open(cls, url: str) -> Control:
        """Connect, and bring the schema up to date. Blocks while another tracker does the same.

        Raises `Invalid` for a URL that is none, `Unavailable`, `Broken` for a database of a newer version.
        """
        database = Database(engine_for(url))
        try:
            migrate(database.engine)
        except ControlError:
            database.close()
            raise
        return cls(database)

    @property
    def where(self) -> str:
        """Its URL without the password."""
        return self._database.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Books]:
        """What is called on the books given commits together at the end, or not at all when the block raises."""
        with self._database.write() as session:
            yield Books(Joined(session, self._database.engine.url))

    def ping(self) -> None:
        """Raises `Unavailable` when the database does not answer: for `/readyz`."""
        with self._database.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Let go of all connections; calls after it raise `Unavailable`. Idempotent."""
        self._database.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
