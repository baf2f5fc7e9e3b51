from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.mqtt_client import publication


def packed(pairs: list[tuple[str, str]], payload: bytes, mid: int, **more: object) -> bytes:
    """A PUBLISH as the client library writes it, behind its fixed header."""
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in more.items():
        setattr(properties, name, value)
    properties.UserProperty = pairs
    return b"\0\3a/b" + (mid.to_bytes(2) if mid else b"") + properties.pack() + payload


@given(
    pairs=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=200)), max_size=4),
    payload=st.binary(max_size=50),
    mid=st.integers(0, 65_535),
    more=st.fixed_dictionaries(
        {},
        optional={
            "PayloadFormatIndicator": st.just(1),
            "MessageExpiryInterval": st.integers(0, 2**32 - 1),
            "ContentType": st.text(max_size=9),
            "ResponseTopic": st.text(max_size=9),
            "CorrelationData": st.binary(max_size=9),
            "SubscriptionIdentifier": st.integers(1, 268_435_455),
            "TopicAlias": st.integers(1, 65_535),
        },
    ),
)
def test_a_packet_says_what_was_packed(pairs, payload, mid, more):
    """Whatever properties there are, and whatever text; of one name the last counts."""
    found = publication(0x33 if mid else 0x30, packed(pairs, payload, mid, **more))
    assert (found.topic, found.payload, found.qos, found.mid) == ("a/b", payload, int(bool(mid)), mid)
    assert found.headers == {name: value.encode() for name, value in pairs}
    assert (found.expires, found.retain) == ("MessageExpiryInterval" in more, bool(mid))


@given(command=st.integers(0x30, 0x3F), packet=st.binary(max_size=60))
def test_bytes_that_are_no_packet(command, packet):
    """Are told by one of two errors, whatever they are."""
    with suppress(IndexError, KeyError):
        publication(command, packet)
