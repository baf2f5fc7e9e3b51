"""Deliveries taken out of what comes from the socket, wherever it is cut."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pika
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from collectors.rabbitmq.table import told
from collectors.rabbitmq.wire import Connection

FRAME_BODY = 100


class Channel:
    """Keeps what a channel of pika's is given."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _on_deliver(self, method: Any, header: Any, body: bytes) -> None:
        delivered = method.method
        self.told.append((delivered.delivery_tag, delivered.exchange, told(header.properties).message_id, body))


class Reading(Connection):
    """A connection that was opened: only what comes in is looked at."""

    is_closed = False

    def __init__(self) -> None:
        self._coming = {}
        self._frame_buffer, self.frames_received, self.bytes_received = b"", 0, 0
        self._channels = {1: Channel(), 2: Channel()}
        self.others: list[str] = []

    def _process_frame(self, value: Any) -> None:
        self.frames_received += 1
        self.others.append(value.NAME if value.frame_type != spec.FRAME_METHOD else value.method.NAME)


def delivery(channel: int, tag: int, body: bytes) -> list[bytes]:
    """The frames of a message."""
    properties = pika.BasicProperties(message_id=f"m-{tag}", headers={"a": [1, {"b": "c"}]})
    method = spec.Basic.Deliver("ctag", tag, False, "orders", "new")
    parts = [frame.Method(channel, method), frame.Header(channel, len(body), properties)]
    bodies = [body[at : at + FRAME_BODY] for at in range(0, len(body), FRAME_BODY)]
    return [each.marshal() for each in (*parts, *(frame.Body(channel, piece) for piece in bodies))]


@given(
    st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=250)), max_size=6),
    st.lists(st.integers(0, 3000), max_size=8),
    st.randoms(use_true_random=False),
)
def test_deliveries_come_whole_wherever_the_bytes_are_cut(
    messages: list[tuple[int, bytes]], cuts: list[int], chance: Any
) -> None:
    """Of two channels, their frames mixed, with heartbeats and answers in between, which are pika's."""
    lines: dict[int, list[bytes]] = {1: [], 2: []}
    for tag, (channel, body) in enumerate(messages):
        lines[channel] += delivery(channel, tag, body)
    frames, others = [], []
    while lines[1] or lines[2]:
        if chance.random() < 0.2:
            frames.append(frame.Heartbeat().marshal())
            others.append("Heartbeat")
        if chance.random() < 0.2:
            answer = spec.Queue.DeclareOk("q", 1, 2)
            frames.append(frame.Method(3, answer).marshal())
            others.append("Queue.DeclareOk")
        frames.append(lines[chance.choice([number for number in lines if lines[number]])].pop(0))
    stream = b"".join(frames)
    reading = Reading()
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in pairwise(bounds):
        reading._on_data_available(stream[start:end])
    for number, channel in reading._channels.items():
        assert channel.told == [
            (tag, "orders", f"m-{tag}", body) for tag, (to, body) in enumerate(messages) if to == number
        ]
    assert reading.others == others
    assert (reading.frames_received, reading.bytes_received) == (len(frames), len(stream))


def test_a_broker_of_another_version_is_pikas_to_refuse() -> None:
    """It answers with eight bytes that are no frame (AMQP 0-9-1, section 4.2.2)."""
    reading = Reading()
    reading._on_data_available(b"AMQP" + struct.pack("BBBB", 0, 0, 9, 1))
    assert reading.others == ["ProtocolHeader"]
