"""End-to-end message tracking: a double-entry ledger for messages."""

__version__ = "0.1.0"
