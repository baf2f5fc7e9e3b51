"""Folds new events into message states, gives verdicts, opens and resolves findings."""
