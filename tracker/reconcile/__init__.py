"""Folds new events into message states, gives verdicts, opens and resolves findings and incidents."""

from tracker.reconcile.hearing import PassResult
from tracker.reconcile.reconciler import Reconciler, now_us

__all__ = ["PassResult", "Reconciler", "now_us"]
