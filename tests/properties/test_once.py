"""Effects once, in memory: many orders of events, quickly. On real servers:
`tests/brokers/test_idempotency_machine.py`."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from collectors.idempotency import Busy, Claim, Done, First, Once, StoreUnavailable
from collectors.idempotency.memory import AsyncMemoryStore, MemoryStore
from tests.contract.places import InMemory
from tests.properties.once_machine import OnceMachine

EXAMPLES = int(os.environ.get("TRACKER_TEST_EXAMPLES", "100"))
TERMS: Any = {"consumer": "billing", "flow": "orders", "unknown": "again", "lease": 30, "keep": 3600}


@pytest.mark.parametrize("policy", ["again", "skip"])
def test_whatever_happens(policy: str) -> None:
    """No two workers at a time, done stays done, a late mark is refused; `skip`: never twice; `again`: never not at
    all, and twice only where somebody was told."""
    machine: Any = partial(OnceMachine, lambda: (InMemory(), policy, ["m-1", "m-2"]))
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=50),
    )


def test_what_is_done_is_forgotten_before_what_is_being_done() -> None:
    """At its limit the memory forgets marks, the oldest first, and counts them; claims it keeps, or refuses new
    ones."""
    store = MemoryStore(limit=3)
    once = Once(store, **TERMS)
    held: Any = once.begin("held")
    for n in range(5):
        once.done(once.begin(f"m-{n}"))  # type: ignore[arg-type]
    assert (len(store), store.forgotten) == (3, 3)
    assert isinstance(once.begin("m-4"), Done)
    assert isinstance(once.begin("held"), Busy)
    assert isinstance(once.begin("m-0"), First)
    assert isinstance(once.begin("m-1"), First)
    with pytest.raises(StoreUnavailable, match="3 places"):
        once.begin("m-2")
    once.release(held)
    assert isinstance(once.begin("m-2"), Claim)


def test_what_is_old_goes_by_itself() -> None:
    """A memory that nobody asks about old messages does not keep them."""
    now = [0]
    store = MemoryStore(clock=lambda: now[0])
    once = Once(store, **TERMS)
    for n in range(100):
        said: Any = once.begin(f"m-{n}")
        if n % 2:
            once.done(said)
    now[0] += 3601 * 1_000_000
    for n in range(100):
        once.begin(f"later-{n}")
    assert len(store) == 100


def test_an_event_loop_may_share_the_memory() -> None:
    """Given an empty one, it is that one that is used."""
    store = MemoryStore()
    assert AsyncMemoryStore(store).store is store
