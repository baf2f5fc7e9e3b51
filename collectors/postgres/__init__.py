"""PostgreSQL: outboxes, by the write-ahead log or by polling."""
