"""Payloads of opted-in flows, kept in encrypted segments beside what the ledger knows of them: the copies that a replay
takes when a broker has lost its own."""
