"""A collector in a process of its own, to be killed: `python -m tests.contract.victim DESCRIBED COUNT COMMITTED`.

DESCRIBED: one collector as a configuration has it, as JSON. It reads COUNT message ids, commits the first COMMITTED
records, says on stdout which ids these were, and reads on until somebody kills it.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from collectors.base import Collector, Raw
from collectors.errors import Unavailable
from collectors.registry import factory
from tracker.model.event import Event


def ids(collector: Collector, raws: list[Raw]) -> list[str]:
    """Their message ids."""
    return [event.message_id for raw in raws for event in collector.decode(raw) if isinstance(event, Event)]


def main(described: str, count: int, committed: int) -> None:
    """Until killed."""
    own = json.loads(described)
    collector = factory(own.pop("kind"))(own.pop("name"), own)
    raws: list[Raw] = []
    told = False
    while True:
        with suppress(Unavailable):
            raws += collector.read(100, 0.1)
        if not told and len(ids(collector, raws)) >= count:
            collector.commit(raws[:committed])
            print(json.dumps(ids(collector, raws[:committed])), flush=True)
            told = True


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
