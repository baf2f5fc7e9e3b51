"""The views that may be read, in a database of their own beside the ledger's. What they are named and hold is promised
to those who build on them; the tables of the ledger are not."""

from __future__ import annotations

from importlib import resources

from tracker.store.engine import Engine
from tracker.store.readonly.bounds import TAKEN

VIEWS = ("anomalies", "coverage", "events", "findings", "incidents", "latencies", "messages", "reports", "windows")
_STANDING_IN = ("databases", "tables", "columns", "functions", "settings")


def database_of(engine: Engine) -> str:
    """The name of the views' database."""
    return f"{engine.database}_views"


def relations(engine: Engine) -> frozenset[str]:
    """Every table that may be read, with its database."""
    views = database_of(engine)
    return frozenset(f"{views}.{name}" for name in (*VIEWS, *(f"system_{name}" for name in _STANDING_IN)))


def make(engine: Engine) -> None:
    """Make the views as this version has them. Raises Unavailable, also where the user may not."""
    views = database_of(engine)
    engine.command(f"CREATE DATABASE IF NOT EXISTS {views} COMMENT 'The ledger of messages, to be read'")
    for name in (*VIEWS, *(f"system_{name}" for name in _STANDING_IN)):
        head, _, body = _text(name).partition("\n")
        pieces = {"db": engine.database, "views": views, "settings": ", ".join(f"'{name}'" for name in TAKEN)}
        for key, piece in pieces.items():
            body = body.replace("{" + key + "}", piece)
        comment = head.removeprefix("-- ").replace("'", "")
        engine.command(f"CREATE OR REPLACE VIEW {views}.{name} AS {body} COMMENT '{comment}'")


def _text(name: str) -> str:
    return resources.files("tracker.store.readonly").joinpath("views", f"{name}.sql").read_text("utf-8")
