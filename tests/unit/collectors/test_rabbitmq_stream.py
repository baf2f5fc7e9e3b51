"""What a collector of streams is told, and what it makes of a record, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from pika import BasicProperties

from collectors.base import Raw
from collectors.errors import ConfigInvalid, Undecodable
from collectors.rabbitmq.config import stream_config
from collectors.rabbitmq.cursor import Place
from collectors.rabbitmq.message import PROPERTIES, packed_properties
from collectors.rabbitmq.stream import Position, RabbitStreams, streams
from tracker.model.event import delivery_of

LOG = {"stream": "log", "flow": "orders"}
SETTINGS: dict[str, Any] = {"name": "s", "url": "amqp://x", "streams": [LOG]}


def record(collector: RabbitStreams, offset: int, properties: BasicProperties) -> str:
    """The delivery that a record decodes to."""
    headers = {PROPERTIES: packed_properties(properties)}
    raw = Raw(b"x", headers, None, Position("log", 0, Place(offset, "")), 1)
    [event] = collector.decode(raw)
    assert event.hop == "log"
    return delivery_of(event)  # type: ignore[arg-type]


def test_the_place_in_the_stream_is_the_delivery() -> None:
    """Two copies of one message are two; the same one read again is one."""
    collector = streams(SETTINGS)
    same = BasicProperties(message_id="m-1")
    found = [record(collector, offset, same) for offset in (7, 7, 8)]
    assert found[0] == found[1] != found[2]


def test_a_message_without_an_id_says_where_it_lies() -> None:
    """Offset and stream, for whoever looks for it."""
    with pytest.raises(Undecodable, match="at offset 7 of stream 'log'"):
        record(streams(SETTINGS), 7, BasicProperties())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"streams": []}, "streams"),
        ({"streams": [LOG, LOG]}, "names a stream twice"),
        ({"streams": [{"stream": "log"}]}, "flow"),
        ({"from": "last"}, "from"),
        ({"from_": "next"}, "from_"),
    ],
)
def test_a_bad_config_names_the_key(change: dict[str, Any], words: str) -> None:
    """Before anything is connected."""
    settings = {**SETTINGS, **change}
    del settings["name"]
    with pytest.raises(ConfigInvalid, match=words):
        stream_config("s", settings)
