"""Records that no Python client writes, by librdkafka itself, the one inside confluent-kafka's wheel."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka
import pytest

# rd_kafka_vtype_t, and RD_KAFKA_MSG_F_COPY (rdkafka.h)
_END, _TOPIC, _PARTITION, _VALUE, _FLAGS, _HEADER = 0, 1, 3, 4, 7, 9
_COPY = 2


def put_with_header(servers: str, topic: str, name: bytes, value: bytes) -> None:
    """One record with value `value` in partition 0, with a header whose name is any bytes but zero: Kafka's own clients
    write UTF-8 there, the brokers look at none of it."""
    found = list((Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka*.so*"))
    if not found:
        pytest.skip("confluent-kafka was not installed from its wheel for Linux")
    library, size = ctypes.CDLL(str(found[0])), ctypes.c_size_t
    for made in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(library, made).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers.encode(), said, size(512))
    client = ctypes.c_void_p(library.rd_kafka_new(0, settings, said, size(512)))
    assert client, said.value
    refused = library.rd_kafka_producev(
        client,
        *(ctypes.c_int(_TOPIC), ctypes.c_char_p(topic.encode())),
        *(ctypes.c_int(_PARTITION), ctypes.c_int32(0)),
        *(ctypes.c_int(_VALUE), ctypes.c_char_p(value), size(len(value))),
        *(ctypes.c_int(_HEADER), ctypes.c_char_p(name), ctypes.c_char_p(b"1"), ctypes.c_ssize_t(1)),
        *(ctypes.c_int(_FLAGS), ctypes.c_int(_COPY)),
        ctypes.c_int(_END),
    )
    assert refused == 0
    assert library.rd_kafka_flush(client, 20_000) == 0
    library.rd_kafka_destroy(client)
