"""Questions from outside, in SQL, about views of the ledger: what may be asked, and how it is run so that it can
neither change anything nor hold others up (docs/clickhouse.md)."""

from tracker.store.readonly.bounds import Bounds
from tracker.store.readonly.errors import Refused
from tracker.store.readonly.reader import Answer, Question, Reader

__all__ = ["Answer", "Bounds", "Question", "Reader", "Refused"]
