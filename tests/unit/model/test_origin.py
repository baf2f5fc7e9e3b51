"""When a message was created: carried, else read from its id, else first seen."""

from __future__ import annotations

import pytest

from tests.unit.model.case import event
from tracker.model.origin import origin_of, time_in_id
from tracker.model.units import SECOND

UUID7 = "018bcfe5-6800-7000-8000-000000000001"
ULID = "01HF7YAT000000000000000000"
MADE = 1_700_000_000 * SECOND


@pytest.mark.parametrize("ident", [UUID7, UUID7.upper(), ULID])
def test_ids_that_bear_a_time(ident: str) -> None:
    """The first 48 bits of a UUIDv7 or ULID are milliseconds."""
    assert time_in_id(ident) == MADE


@pytest.mark.parametrize(
    "ident",
    ["", "m-1", "018bcfe5-6800-4000-8000-000000000001", "018bcfe5-6800-7000-c000-000000000001", UUID7 + "0", ULID[:-1],
     ULID + "0", "8" + ULID[1:], ULID.replace("A", "I"), "0" * 26, "00000000-0000-7000-8000-000000000001"],
)  # fmt: skip
def test_ids_that_bear_none(ident: str) -> None:
    """Another version or length, a letter that Crockford leaves out, and a time of zero are no time."""
    assert time_in_id(ident) is None


def test_what_was_carried_wins() -> None:
    """The earliest origin carried counts before the id's time and before any observation."""
    events = [event("shop:produce", 1), event("log:persist", 2, origin_at=50), event("a:ack", 3, origin_at=40)]
    assert origin_of(UUID7, events) == 40 * SECOND


def test_without_any_it_is_the_first_observation() -> None:
    """The id's time, and failing that the earliest observation in any order."""
    events = [event("log:persist", 9), event("shop:produce", 7), event("a:ack", 8)]
    assert origin_of(ULID, events) == MADE
    assert origin_of("m", events) == 7 * SECOND
