"""What an instrumented channel keeps of messages, without a broker."""

from __future__ import annotations

import pytest
from pika import BasicProperties

from collectors.instrument.amqp import Deliveries, Held, identified, stamped
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT


def held(tag: int) -> Held:
    """A delivery."""
    return Held("q", b"%d" % tag)


@pytest.mark.parametrize(
    ("tag", "multiple", "taken"),
    [
        (2, False, [2]),
        (9, False, []),
        (0, False, []),
        (3, True, [1, 2, 3]),
        (0, True, [1, 2, 3, 5]),
        (4, True, [1, 2, 3]),
    ],
)
def test_what_settling_a_tag_settles(tag: int, multiple: bool, taken: list[int]) -> None:
    """One, all up to it, or all; never the same twice."""
    deliveries = Deliveries()
    for number in (1, 2, 3, 5):
        deliveries.add(number, held(number))
    assert deliveries.take(tag, multiple) == [held(number) for number in taken]
    assert deliveries.take(tag, multiple) == []


def test_stamping_leaves_the_callers_properties_alone() -> None:
    """One object used for many messages must not give them all one id."""
    mine = BasicProperties(headers={"a": 1})
    first, second = stamped(mine), stamped(mine)
    assert (mine.message_id, mine.headers) == (None, {"a": 1})
    assert first.message_id != second.message_id
    assert first.headers["a"] == 1
    assert first.headers[ORIGIN_AT].isdigit()


def test_stamping_keeps_what_is_there() -> None:
    """An id in the property or in the header is the id; an origin time stays the earliest one."""
    assert stamped(BasicProperties(message_id="m-1")).message_id == "m-1"
    assert stamped(BasicProperties(headers={MESSAGE_ID: "m-2"})).message_id is None
    assert stamped(BasicProperties(headers={ORIGIN_AT: "5"})).headers[ORIGIN_AT] == "5"


def test_a_flows_own_identity_header_is_set_from_the_property() -> None:
    """The application's own id, never a new one where there is one."""
    assert stamped(BasicProperties(message_id="m-1"), "x-order").headers["x-order"] == "m-1"
    assert stamped(BasicProperties(headers={"x-order": "o-1"}), "x-order").headers["x-order"] == "o-1"
    assert stamped(BasicProperties(), "x-order").headers["x-order"]


def test_the_property_names_the_message_unless_the_flow_has_a_header() -> None:
    """As the firehose decodes it, so that both witnesses speak of one message."""
    properties = BasicProperties(message_id="m-1", headers={"x-order": "o-1"}, correlation_id="c")
    assert identified(properties) == ("m-1", {"x-correlation-id": "c", "x-order": "o-1"})
    assert identified(properties, "x-order")[0] == ""
    assert identified(BasicProperties()) == ("", None)
