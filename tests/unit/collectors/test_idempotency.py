"""Effects once: what is read of a message, what is imported, what a claim says. The stores: tests/contract."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from collectors.idempotency import First, Late, NoMessageId, Once, StoreUnavailable
from collectors.idempotency.answers import Claim, Key, Told, lock_of
from collectors.idempotency.memory import MemoryStore
from collectors.idempotency.postgres import Overdue, bounded
from collectors.idempotency.scripts import place
from tracker.model.carry import MESSAGE_ID, REPLAY_ID

BLOCKED = """
import sys
for name in ("redis", "psycopg", "pika", "confluent_kafka", "aio_pika", "aiokafka"):
    sys.modules[name] = None
from collectors.idempotency import Once, AsyncOnce
from collectors.idempotency.memory import MemoryStore
Once(MemoryStore(), consumer="billing", flow="orders", unknown="skip").begin("m-1")
from collectors.errors import MissingExtra
for module in ("redis", "redis_async", "postgres", "postgres_async"):
    try:
        __import__("collectors.idempotency." + module)
    except MissingExtra as error:
        assert f"message-tracker[{module[:-6] if module.endswith('_async') else module}]" in str(error), error
    else:
        raise AssertionError(module)
"""


def once(**more: Any) -> Once:
    """In memory."""
    return Once(MemoryStore(), consumer="billing", flow="orders", unknown="again", **more)


def test_nothing_heavy_is_imported() -> None:
    """Without any client library it works in memory, and a store that lacks its own says which extra brings it."""
    ran = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("headers", "given", "name"),
    [
        ([(MESSAGE_ID, b"m-1"), (REPLAY_ID, b"r-1")], "", "m-1"),
        ({MESSAGE_ID: "m-1"}, "", "m-1"),
        ({MESSAGE_ID: "m-1"}, "from-the-property", "from-the-property"),
        (None, "m-1", "m-1"),
    ],
)
def test_the_id_is_the_one_that_collectors_read(headers: Any, given: str, name: str) -> None:
    """Headers as Kafka and AMQP have them; a replay has the old one; AMQP's own property wins, as it does there."""
    assert once().name(headers, given) == name


@pytest.mark.parametrize("headers", [None, [], {}, {MESSAGE_ID: ""}, [("other", b"m-1")]])
def test_without_an_id_nothing_can_be_once(headers: Any) -> None:
    """It is said, never guessed."""
    with pytest.raises(NoMessageId, match=MESSAGE_ID):
        once().name(headers)


def test_another_header_may_hold_the_id() -> None:
    """As `identity.header` of the flow."""
    assert once(identity_header="order-id").name([("order-id", b"o-1")]) == "o-1"


def test_places_in_redis_are_never_shared() -> None:
    """Whatever is in the names."""
    keys = [Key("a", "b", "c:d"), Key("a", "b:c", "d"), Key("a:b", "c", "d"), Key("a%3Ab", "c", "d")]
    assert len({place("once:", key) for key in keys}) == 4


def test_locks_are_numbers_that_postgres_takes() -> None:
    """64 bits with sign, another one for each message."""
    keys = [Key("billing", "orders", f"m-{number}") for number in range(200)]
    found = {lock_of(key) for key in keys}
    assert len(found) == 200
    assert -(2**63) <= min(found) < 0 < max(found) < 2**63


class Flaky(MemoryStore):
    """Whose answers to `done` are lost so many times, after it has taken them."""

    lost = 1

    def done(self, claim: Claim, keep: int) -> bool:
        """Marked, and then nothing is heard of it."""
        counted = super().done(claim, keep)
        self.lost -= 1
        if self.lost >= 0:
            raise StoreUnavailable("cut")
        return counted


def test_a_lost_answer_is_asked_for_again() -> None:
    """Once: a mark is the same, said twice. A store that stays away is told."""
    store = Flaky()
    flaky = Once(store, consumer="billing", flow="orders", unknown="again")
    with flaky.doing("m-1") as claim:
        assert isinstance(claim, First)
    store.lost = 2
    with pytest.raises(StoreUnavailable), flaky.doing("m-2"):
        pass


def test_what_a_claim_has_left_is_never_too_much() -> None:
    """It counts from before the store was asked, so what the asking took is gone already."""

    class Slow(MemoryStore):
        def claim(self, key: Key, lease: int, keep: int) -> Told:
            """Takes ten milliseconds."""
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                pass
            return super().claim(key, lease, keep)

    said: Any = Once(Slow(), consumer="billing", flow="orders", unknown="again", lease=10).begin("m-1")
    assert 9 < said.left() <= 9.99


def test_late_names_the_message_and_the_claim() -> None:
    """For the one who has to look whether it was done twice."""
    assert "'m-1' of flow 'orders' at 'billing': claim 17" in str(Late(Key("billing", "orders", "m-1"), 17))


def test_waiting_for_postgres_is_bounded() -> None:
    """Steps that never end are ended; those that end give their value; ones that move are not cut off in time."""

    def endless() -> Any:
        while True:
            yield 1

    def quick() -> Any:
        yield 1
        return "done"

    steps = bounded(endless(), 0.0)
    next(steps)
    with pytest.raises(Overdue, match="no answer within 0 s"):
        steps.send(0)
    steps = bounded(quick(), 5.0)
    next(steps)
    with pytest.raises(StopIteration) as ended:
        steps.send(0)
    assert ended.value.value == "done"
