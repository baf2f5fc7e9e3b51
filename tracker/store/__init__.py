"""The ClickHouse store: connect, migrate, write columns, ask named questions. The only place with SQL against it."""

from tracker.store.store import Store

__all__ = ["Store"]
