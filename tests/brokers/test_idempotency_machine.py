"""The machine of `tests/properties/test_once.py` on real servers, and the one of effects in transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from collectors.idempotency import Late, StoreUnavailable
from collectors.idempotency import postgres as ours
from collectors.idempotency.postgres import Marks
from tests.brokers.effects import Effects, new_id, own_effects
from tests.contract.places import InPostgres, InRedis
from tests.properties.once_machine import MarksMachine, OnceMachine
from tests.servers.postgres import Databases

pytestmark = pytest.mark.brokers
EXAMPLES = int(os.environ.get("TRACKER_TEST_EXAMPLES", "15"))
POLICIES = pytest.mark.parametrize("policy", ["again", "skip"])


@pytest.fixture(scope="module")
def effects(postgres_server: Databases) -> Iterator[Effects]:
    """Where effects are counted."""
    with own_effects(postgres_server) as made:
        yield made


def run(machine: Any) -> None:
    """Many orders of events."""
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=50))


@POLICIES
def test_whatever_happens_with_redis(redis_server: str, policy: str) -> None:
    """See there."""
    place = InRedis(redis_server)
    run(lambda: OnceMachine(lambda: (place, policy, [new_id(), new_id()])))
    place.store.close()
    place.client.close()


@POLICIES
def test_whatever_happens_with_postgres(effects: Effects, policy: str) -> None:
    """See there."""
    place = InPostgres(effects.url)
    run(lambda: OnceMachine(lambda: (place, policy, [new_id(), new_id()])))
    place.store.close()


def test_whatever_happens_in_transactions(effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks with and without claims, crashes with transactions open, leases that run out: every effect exactly once."""
    monkeypatch.setattr(ours, "PATIENCE", 0.02)
    place, marks = InPostgres(effects.url), Marks(consumer="billing", flow="orders")
    place.refusals = (Late, StoreUnavailable)

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(effects.url)

    run(lambda: MarksMachine(lambda: (place, marks, connect, effects, [new_id(), new_id()])))
    place.store.close()
