"""The ClickHouse store: connect, migrate, write columns, ask named questions."""
