"""Effects once per message, for consumers: `Once` and `AsyncOnce` over a store of your choice.

Nothing heavy is imported here. Stores: `collectors.idempotency.memory`, `.postgres`, `.redis`, and `.postgres_async`,
`.redis_async` for event loops. What each promises: docs/idempotency.md.
"""

from collectors.idempotency.answers import Answer, Busy, Claim, Done, First, Key, Unknown
from collectors.idempotency.errors import (
    BusyElsewhere,
    InDoubt,
    Late,
    NoMessageId,
    NotInTransaction,
    StoreUnavailable,
)
from collectors.idempotency.once import Once
from collectors.idempotency.once_async import AsyncOnce

__all__ = [
    "Answer",
    "AsyncOnce",
    "Busy",
    "BusyElsewhere",
    "Claim",
    "Done",
    "First",
    "InDoubt",
    "Key",
    "Late",
    "NoMessageId",
    "NotInTransaction",
    "Once",
    "StoreUnavailable",
    "Unknown",
]
