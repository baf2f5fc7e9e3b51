"""What `emit` costs the caller's thread: `python -m tests.benchmarks.emit`. One JSON line, CPU µs per event."""

from __future__ import annotations

import json
import tempfile
import time

from collectors.emitter import Emitter
from collectors.sender import Pace
from tracker.model.event import Event, Stage

COUNT = 50_000


def events() -> list[Event]:
    """Acks with the fields that an instrumented client fills."""
    return [
        Event(
            flow="orders", message_id=f"01a1fb55-9be7-70a1-b364-{i:012d}", hop="billing", stage=Stage.ack,
            observed_at=1795218054119561 + i, origin_at=1795218054119561, delivery=f"orders/0:{i}:billing:pod-7-3",
            node="pod-7", digest="0123456789abcdef", size=300, partition="orders/0", offset=i, group="billing",
        )
        for i in range(COUNT)
    ]  # fmt: skip


def measured(emitter: Emitter, batch: int) -> float:
    """Thread CPU µs per event, `batch` events per call; the best of three, for the machine is shared."""
    every = events()
    chunks = [every[i : i + batch] for i in range(0, COUNT, batch)]
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        for chunk in chunks:
            emitter.emit(chunk)
        best = min(best, time.thread_time() - began)
    return round(best / COUNT * 1e6, 2)


def main() -> None:
    """Nobody listens, so the sender's thread rests and only the caller is measured."""
    with tempfile.TemporaryDirectory() as folder:
        emitter = Emitter("http://127.0.0.1:9", collector="bench", spool=folder, pace=Pace(backoff=(60, 60)))
        print(json.dumps({"one_us": measured(emitter, 1), "thousand_us": measured(emitter, 1000)}))
        emitter.close(timeout=0.1)


if __name__ == "__main__":
    main()
