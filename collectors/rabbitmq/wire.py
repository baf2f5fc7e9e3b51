"""pika's connection with deliveries taken off the socket by ourselves: cheaper, and no message can break it.

A reader of a broker's backlog spends its time on three frames a message. pika copies its buffer, makes objects and
runs callbacks for each; and one header that it cannot decode ends the connection (`collectors.rabbitmq.table`). Here
a `basic.deliver` with its header and body goes straight to the channel's consumer. Everything else, and all that is
sent, is pika's.

Frames: AMQP 0-9-1, section 4.2.3; `basic.deliver`: section 1.8.3.9 of the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pika.adapters.select_connection import SelectConnection
from pika.exceptions import AMQPConnectionError

from collectors.rabbitmq.table import short

_METHOD, _HEADER, _BODY, _HEARTBEAT, _END = 1, 2, 3, 8, 0xCE
_DELIVER = struct.pack(">HH", 60, 60)
_FRAME, _TAG, _SIZE = struct.Struct(">BHI"), struct.Struct(">QB"), struct.Struct(">xxxxQ")


class Delivered(NamedTuple):
    """A `basic.deliver`, as pika's own names its parts."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


class _Framed(NamedTuple):
    """What a channel of pika's asks of the frames of a message."""

    method: Delivered
    properties: bytes


class _Coming:
    """A message of which not all frames have come."""

    __slots__ = ("body", "delivered", "left", "properties")

    def __init__(self, delivered: Delivered) -> None:
        self.delivered = delivered
        self.properties: bytes | None = None
        self.left = 0
        self.body: list[bytes] = []


class Connection(SelectConnection):
    """To be given to `pika.BlockingConnection`. Callbacks of consumers get (channel, `Delivered`, properties, body),
    the properties as bytes for `table.told`: objects that wait to be read cost the more the more there are."""

    _frame_buffer: bytes
    _channels: dict[int, Any]
    frames_received: int
    bytes_received: int
    _adapter_call_later: Callable[[float, Callable[[], None]], object]
    _adapter_remove_timeout: Callable[[object], None]
    _terminate_stream: Callable[[Exception], None]

    def __init__(self, *args: Any, **more: Any) -> None:
        self._coming: dict[int, _Coming] = {}
        super().__init__(*args, **more)

    def give_up_after(self, seconds: float) -> Callable[[], None]:
        """Break the connection in so many seconds, whatever it waits for then, unless what this gives is called."""
        timer = self._adapter_call_later(
            seconds, lambda: self._terminate_stream(AMQPConnectionError(f"no answer within {seconds:.1f} s"))
        )
        return lambda: self._adapter_remove_timeout(timer)

    def _on_data_available(self, data_in: bytes) -> None:
        """Called by pika with what came from the socket."""
        data = self._frame_buffer + data_in if self._frame_buffer else data_in
        at, size = 0, len(data)
        while size - at > _FRAME.size:
            kind, number, length = _FRAME.unpack_from(data, at)
            start, end = at + 7, at + 7 + length
            if kind not in (_METHOD, _HEADER, _BODY, _HEARTBEAT):  # no frame: the broker speaks another version
                end = size - 1
            elif end >= size:
                break
            if data[end] == _END and self._taken(kind, number, data, start, end):
                self.frames_received += 1
                self.bytes_received += end + 1 - at
            else:
                self._frame_buffer = data[at : end + 1]
                super()._on_data_available(b"")  # type: ignore[misc] # the stubs leave out what is pika's own
                if self.is_closed:
                    return
            at = end + 1
        self._frame_buffer = data[at:]

    def _taken(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        """Whether the frame is part of a delivery; else pika gets it."""
        if kind == _METHOD:
            if data[start : start + 4] != _DELIVER:
                self._coming.pop(number, None)
                return False
            self._coming[number] = _Coming(_delivered(data, start + 4))
            return True
        coming = self._coming.get(number)
        if coming is None:
            return False
        if kind == _HEADER:
            [coming.left] = _SIZE.unpack_from(data, start)
            coming.properties = data[start + 12 : end]
        else:
            coming.left -= end - start
            coming.body.append(data[start:end])
        if coming.left <= 0:
            del self._coming[number]
            self._give(number, coming)
        return True

    def _give(self, number: int, coming: _Coming) -> None:
        channel = self._channels.get(number)
        if channel is not None and coming.properties is not None:
            framed = _Framed(coming.delivered, coming.properties)
            body = coming.body[0] if len(coming.body) == 1 else b"".join(coming.body)
            channel._on_deliver(framed, framed, body)


def _delivered(data: bytes, at: int) -> Delivered:
    consumer_tag, at = short(data, at)
    delivery_tag, redelivered = _TAG.unpack_from(data, at)
    exchange, at = short(data, at + _TAG.size)
    return Delivered(consumer_tag, delivery_tag, bool(redelivered), exchange, short(data, at)[0])
